"""Activations that the backward pass makes anew instead of keeping them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Tensor], *inputs: Tensor, norms: Sequence[nn.Module] = ()) -> Tensor:
    """`function(*inputs)`; its backward pass keeps the inputs alone and runs the function again, up to its last layer.

    What the last layer needs is known before that layer runs, so a chain of cheap layers that ends in an expensive one
    costs the cheap ones twice, the expensive one once. Values, gradients and running statistics are those of a plain
    call.

    Args:
        function: Draws no random numbers.
        inputs: What it reads besides parameters.
        norms: Its batch norms, whose running statistics must move once.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _unmoved(norms)

    # What it gives is that of `function`, which the annotations of torch do not say.
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _unmoved(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norms in training use the statistics of the batch, and note nothing."""
    tracking = [norm for norm in norms if norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True
