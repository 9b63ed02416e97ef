"""A training whose loss is not finite any more has ended; this says so, and keeps its weights out of a checkpoint."""

from collections.abc import Mapping

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops at the first loss that is NaN or infinite, with the step and the term.

    The first such step is remembered on the device, without waiting for it, and looked at every `interval` steps, at
    the end, and before a checkpoint is written, so that none holds what came of it. Where a loss scaler of mixed
    precision skips such steps, nothing is looked at.

    Raises:
        FloatingPointError: A loss was not finite.
    """

    # Before the checkpoint (90) and the log (60).
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval is {interval}, expected an integer of 1 or more')
        self.interval = interval
        # Names of the terms of a step → the first step at which each was wrong. A batch without synthetic samples has
        # other terms than one with some.
        self._first: dict[tuple[str, ...], Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        self._first.clear()
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self._skipped = isinstance(runner.optim_wrapper, AmpOptimWrapper) and bool(scaler and scaler.is_enabled())

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None, outputs: dict | None = None
    ) -> None:
        """Looks at the losses of one step, and at what is remembered when it is time."""
        terms = {name: value for name, value in (outputs or {}).items() if 'loss' in name and torch.is_tensor(value)}
        if self._skipped or not terms:
            return
        names = tuple(terms)
        wrong = torch.stack([~value.detach().isfinite().all() for value in terms.values()])
        first = self._first.get(names)
        if first is None:
            first = torch.full_like(wrong, NEVER, dtype=torch.int64)
        self._first[names] = torch.where(wrong & (first == NEVER), runner.iter + 1, first)
        if self.every_n_train_iters(runner, self.interval) or runner.iter + 1 == runner.max_iters:
            self._look()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Nothing that is not finite is written."""
        self._look()

    def _look(self) -> None:
        if not self._first:
            return
        names = [name for terms in self._first for name in terms]
        steps = torch.cat(list(self._first.values())).tolist()
        step = min(steps)
        if step == NEVER:
            return
        named = [name for name, first in zip(names, steps, strict=True) if first == step]
        terms = [name for name in named if name != 'loss'] or named
        raise FloatingPointError(
            f'step {step}: {", ".join(terms)} is not finite; the last checkpoint is from before. Lower '
            'optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad=dict(max_norm=1.0), or look at the labels of that '
            'step'
        )
