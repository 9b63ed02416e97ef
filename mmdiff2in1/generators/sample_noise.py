"""Random numbers of samples: each has a generator of its own, so that it does not depend on its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def generators_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """One per sample, on the CPU: its stream is the same on every machine."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise (B, *shape), float32 on the CPU; each sample's comes from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
