"""torch.compile of a whole denoiser, CUDA graphs included, for a creation that calls it many times in one shape."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def compile_denoiser(denoiser: nn.Module, **options: Any) -> None:
    """Compiles the forward pass of a U-Net or transformer when it is first called, once for each shape of its inputs.

    Names of weights and hooks stay. Under ``mode='reduce-overhead'`` a GPU replays one recorded graph per call; what it
    gives out lies in memory that the next call writes to, so each output is copied.

    Args:
        denoiser: Of a generator, see :class:`.Generator`.
        options: Of :func:`torch.compile`: ``mode``, ``backend`` …
    """
    compiled: Any = torch.compile(denoiser.forward, **dict(dynamic=False) | options)

    def forward(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return tree_map_only(Tensor, torch.clone, compiled(*args, **kwargs))

    denoiser.forward = forward  # type: ignore[method-assign]
