"""What the options of a cell do to a model and around its step."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .cells import Cell

COMPILED_LAYERS = ('ResnetBlock2D', 'Transformer2DModel')
COMPILED_SHAPES = 256


def prepare(model: nn.Module, cell: Cell) -> nn.Module:
    """Applies to `model`, in place, what of the cell's precision and options is a property of a model."""
    if cell.precision == 'bf16-weights':
        model.to(torch.bfloat16)
    if 'channels_last' in cell.options:
        model.to(memory_format=torch.channels_last)
    if 'compile' in cell.options:
        compile_layers(model)
    return model


def compile_layers(model: nn.Module) -> int:
    """Compiles residual layers and transformers one by one; returns how many.

    Layers of one shape share their code, and both walks through the U-Net (features, creation) go through it: a whole
    U-Net would be compiled once for each.
    """
    config: Any = torch._dynamo.config
    # Each resolution and width is a program of its own.
    config.recompile_limit = config.accumulated_recompile_limit = COMPILED_SHAPES
    layers = [module for module in model.modules() if type(module).__name__ in COMPILED_LAYERS]
    for layer in layers:
        layer.compile(dynamic=False)
    return len(layers)


@contextmanager
def computing(cell: Cell) -> Iterator[None]:
    """Precision and attention of everything inside."""
    contexts: list[AbstractContextManager] = []
    if cell.precision == 'bf16':
        contexts.append(torch.autocast(cell.device, torch.bfloat16))
    if 'math-attention' in cell.options:
        contexts.append(sdpa_kernel(SDPBackend.MATH))
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def set_precision(cell: Cell) -> None:
    """TensorFloat-32 on or off for the whole process: torch's default is on for convolutions and off for the rest."""
    wanted = cell.precision == 'tf32'
    torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cudnn.allow_tf32 = wanted
