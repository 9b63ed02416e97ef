"""The moving average itself: θ_C ← α θ_C + (1 - α) θ_E, and which α a training of some length needs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def alpha_for(updates: int, remaining: float = 0.05) -> float:
    """The α with which a share `remaining` of the first θ_C is left after `updates` updates: remaining^(1/updates).

    The paper's 0.998 leaves that share only after some 1500 updates of 40 samples; a shorter run needs a smaller α.

    Raises ValueError unless updates >= 1 and 0 < remaining < 1.
    """
    if updates < 1 or not 0 < remaining < 1:
        raise ValueError(f'updates={updates}, remaining={remaining}; expected updates >= 1 and 0 < remaining < 1')
    return remaining ** (1 / updates)


@torch.no_grad()
def move_creator(tensors: Sequence[list[Tensor]], keep: float) -> None:
    """θ_C ← keep · θ_C + (1 - keep) · θ_E, in place.

    Args:
        tensors: What a model's `ema_tensors()` gives: those of θ_C and of θ_E to average, those of θ_C and of θ_E to
            copy.
        keep: The share of θ_C that stays; α^k makes k updates at once.
    """
    averaged_creator, averaged_exploiter, copied_creator, copied_exploiter = tensors
    for creator, exploiter in _by_type(averaged_creator, averaged_exploiter):
        torch._foreach_lerp_(creator, exploiter, 1 - keep)
    for creator, exploiter in _by_type(copied_creator, copied_exploiter):
        torch._foreach_copy_(creator, exploiter)


def _by_type(creator: Iterable[Tensor], exploiter: Iterable[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs of lists of one dtype and device each, which is what the fused kernels take."""
    groups: dict[tuple, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for c, e in zip(creator, exploiter, strict=True):
        mine, theirs = groups[c.dtype, c.device]
        mine.append(c)
        theirs.append(e)
    return list(groups.values())
