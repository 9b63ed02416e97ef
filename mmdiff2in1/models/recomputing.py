"""Less memory in training: layers whose inputs alone are kept, and that are computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function(*inputs)`, of which nothing but the tensors among `inputs` is kept until the backward pass.

    Running statistics of batch normalisation in a module move once, as without it, where `torch.utils.checkpoint` alone
    would move them a second time.

    Args:
        function: A module, or any function; it draws nothing at random.
        inputs: Tensors that need a gradient must be among them, not in lists or closures.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _statistics_kept(function) if isinstance(function, nn.Module) else nullcontext()

    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation in training does as always, but moves its running statistics by nothing, and counts nothing.

    It must see them: what the backward pass is given has to be of the same number and shapes as the first time.
    """
    norms = [each for each in module.modules() if isinstance(each, _NormBase) and each.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter
