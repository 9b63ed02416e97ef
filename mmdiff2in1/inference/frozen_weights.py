"""What a model's folder leaves out: frozen weights of a diffusion model that lies elsewhere, known by its hash."""

from dataclasses import dataclass

import torch
from torch import nn

from mmdiff2in1.generators.loading import load_perceiver
from mmdiff2in1.generators.trained_weights import DIFFUSION
from mmdiff2in1.models.self_improving.whole_loading import frozen_names


@dataclass(frozen=True)
class LeftOut:
    """Tensors that need not be stored.

    Attributes:
        names: Of a segmentor's state dict.
        sha256: `weights_hash()` of the diffusion model that holds them.
    """

    names: frozenset[str]
    sha256: str


def left_out(segmentor: nn.Module) -> LeftOut | None:
    """The frozen tensors of a `DiffusionBackbone` that are, bit for bit, those of the place it was built from.

    None for another backbone, for a diffusion model that was built from a dict, and where a frozen tensor differs from
    the place's: the segmentor came from a checkpoint that was trained on other weights.
    """
    source = getattr(segmentor.backbone, 'source', None)
    if not isinstance(source, str):
        return None
    names = frozenset(name for name in frozen_names(segmentor) if name.startswith(DIFFUSION))
    held, found = segmentor.state_dict(), load_perceiver(source)
    there = {f'{DIFFUSION}{name}': tensor for name, tensor in found.state_dict().items()}
    if not all(torch.equal(held[name].cpu(), there[name]) for name in names & held.keys()):
        return None
    return LeftOut(names, found.weights_hash())
