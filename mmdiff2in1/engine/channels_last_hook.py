"""Convolutions on channels-last memory: the same numbers up to rounding, in about half the time under bfloat16."""

import torch
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

STANDARDISED = (ConvWS2d, ConvAWS2d)
"""Convolutions of mmcv that take their weights for contiguous."""


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays the model's convolution weights out channels last before a training, a validation or a test.

    The activations follow the weights. Worth it for convolutional networks under bfloat16 or float16, on GPUs with
    tensor cores and on CPUs with matrix units; not for the U-Net of a diffusion model on a CPU, which got slower.
    Checkpoints are the same with and without it.
    """

    def before_run(self, runner: Runner) -> None:
        runner.model.to(memory_format=torch.channels_last)
        for module in runner.model.modules():
            if isinstance(module, STANDARDISED):
                module.to(memory_format=torch.contiguous_format)
