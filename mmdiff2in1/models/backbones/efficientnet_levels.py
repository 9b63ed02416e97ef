"""The pyramid of a transformers EfficientNet, which has no backbone class of its own.

Level l has stride 2^(l+1); it is the output of the last block of that stride, for the coarsest level of the convolution
that follows it, before its norm: where Bae et al. and AdaBins read the network.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SamePadding(nn.Module):
    """TensorFlow's `same` zero padding in front of a strided convolution, for any input size.

    transformers pads by what is right for the size that a model was trained at; at odd sizes its maps come out one
    pixel smaller and shifted.
    """

    def __init__(self, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → larger: a convolution without padding then gives ceil(H / stride) × ceil(W / stride)."""
        height, width = (max(0, self.kernel - self.stride + -side % self.stride) for side in x.shape[-2:])
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def prepare(model: nn.Module) -> None:
    """Makes an `EfficientNetModel` right for any input size and for training in PyTorch; its parameters stay.

    transformers hands Keras's `batch_norm_momentum` (0.99, the share that is kept) to PyTorch, which means by it the
    share that is new: running statistics would be those of the last batch.

    Raises:
        ValueError: The config's `hidden_dim` is not the width of the coarsest level.
    """
    width, norm = model.encoder.top_conv.out_channels, model.encoder.top_bn.num_features
    if width != norm:
        raise ValueError(
            f'efficientnet: found hidden_dim={norm}, expected {width}, which is 1280 times '
            f'width_coefficient={model.config.width_coefficient}, rounded; set hidden_dim={width}'
        )
    model.embeddings.padding = SamePadding(3, 2)
    for block in model.encoder.blocks:
        layer = block.depthwise_conv
        layer.depthwise_conv_pad = SamePadding(layer.depthwise_conv.kernel_size[0], layer.stride)
    kept = model.config.batch_norm_momentum
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 - kept


def level_ends(model: nn.Module) -> list[int]:
    """Index of the last block of every level, fine to coarse."""
    blocks = model.encoder.blocks
    starts = [i for i, block in enumerate(blocks) if block.depthwise_conv.stride == 2]
    return [start - 1 for start in starts] + [len(blocks) - 1]


def level_maps(model: nn.Module, images: Tensor, levels: list[int]) -> list[Tensor]:
    """Maps of some levels, in ascending order; nothing behind the last of them is run."""
    ends = level_ends(model)
    wanted = {ends[level] for level in levels}
    x, maps = model.embeddings(images), []
    for i, block in enumerate(model.encoder.blocks[: max(wanted) + 1]):
        x = block(x)
        if i in wanted:
            maps.append(model.encoder.top_conv(x) if i == ends[-1] else x)
    return maps
