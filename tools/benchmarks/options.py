"""What the options of a cell do to a model and around its step."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmdiff2in1.engine.compile_layers_hook import compile_layers

from .cells import Cell


def prepare(model: nn.Module, cell: Cell) -> nn.Module:
    """Applies to `model`, in place, what of the cell's precision and options is a property of a model."""
    if cell.precision == 'bf16-weights':
        model.to(torch.bfloat16)
    if 'channels_last' in cell.options:
        model.to(memory_format=torch.channels_last)
    if 'compile' in cell.options:
        compile_layers(model)
    return model


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
