"""The stages of a transformers SegFormer encoder (MiT), which has no backbone class of its own."""

from torch import Tensor, nn


def stage_maps(model: nn.Module, images: Tensor, stages: list[int]) -> list[Tensor]:
    """Maps of some of its stages, in ascending order, each normalised by its stage: strides 4, 8, 16, 32 as published.

    Args:
        model: A `SegformerModel`.
        images: (B, 3, H, W).
        stages: Their indices, 0 being the finest.
    """
    found = model(images, output_hidden_states=True).hidden_states
    return [found[stage] for stage in stages]
