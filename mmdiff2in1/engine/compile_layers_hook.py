"""torch.compile of a denoiser layer by layer: each shape is compiled once, whoever walks through the U-Net."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

COMPILED_LAYERS = ('ResnetBlock2D', 'Transformer2DModel')
COMPILED_SHAPES = 256


def compile_layers(model: nn.Module, **options: Any) -> int:
    """Compiles residual layers and transformers one by one, each as one graph; returns how many.

    Layers of one shape share their code, and both walks through the U-Net (features, creation) go through it: a whole
    U-Net would be compiled once for each. Names of weights stay.

    Args:
        model: Holds U-Nets and VAEs of diffusers.
        options: Of `torch.compile`: `backend`, `mode` …; `fullgraph=False` lets a layer fall apart.

    Raises:
        ValueError: There is nothing to compile in it.
    """
    config: Any = torch._dynamo.config
    # Each resolution and width is a program of its own.
    config.recompile_limit = config.accumulated_recompile_limit = COMPILED_SHAPES
    layers = [module for module in model.modules() if type(module).__name__ in COMPILED_LAYERS]
    if not layers:
        known = ' or '.join(COMPILED_LAYERS)
        raise ValueError(f'{type(model).__name__} has no layer to compile, expected {known} in it; leave the hook out')
    for layer in layers:
        layer.compile(**dict(dynamic=False, fullgraph=True) | options)
    return len(layers)


@HOOKS.register_module()
class CompileLayersHook(Hook):
    """Compiles the layers of the model's U-Net and VAE before a training, a validation or a test.

    Args:
        backend: Of `torch.compile`; the default, inductor, needs a C++ compiler on a CPU.
        options: More of it, `mode` for example.

    Results differ from plain ones in the last digits; checkpoints are the same with and without it.
    """

    def __init__(self, backend: str = 'inductor', **options: Any) -> None:
        self.options = dict(options, backend=backend)

    def before_run(self, runner: Runner) -> None:
        count = compile_layers(runner.model, **self.options)
        runner.logger.info(f'{count} layers are compiled when they are first used ({self.options["backend"]}).')
