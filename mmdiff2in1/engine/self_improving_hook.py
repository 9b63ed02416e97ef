"""The exponential moving average that turns the trained θ_E into the creator θ_C, counted in samples.

For every 40 samples that θ_E consumes, real and synthetic: θ_C ← α θ_C + (1 - α) θ_E (Diff-2-in-1, arXiv 2411.05005,
section on self-improving learning; α = 0.998, 0.999 on PASCAL-Context).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

SAMPLES = 'self_improving_n'
UPDATES = 'self_improving_updates'


def alpha_for(updates: int, remaining: float = 0.05) -> float:
    """The α with which a share `remaining` of the first θ_C is left after `updates` updates: remaining^(1/updates).

    The paper's 0.998 leaves that share only after some 1500 updates of 40 samples; a shorter run needs a smaller α.

    Raises ValueError unless updates >= 1 and 0 < remaining < 1.
    """
    if updates < 1 or not 0 < remaining < 1:
        raise ValueError(f'updates={updates}, remaining={remaining}; expected updates >= 1 and 0 < remaining < 1')
    return remaining ** (1 / updates)


@HOOKS.register_module()
class SelfImprovingHook(Hook):
    """Updates θ_C of a model that offers `ema_tensors()`, such as `SelfImprovingSegmentor`; does nothing else.

    n counts the samples of the *global* batch, gradient accumulation included. When the optimizer steps, the
    k = n // `samples_per_update` updates that are due are applied at once, θ_C ← α^k θ_C + (1 - α^k) θ_E, and n keeps
    the remainder. The cadence is thus the same for every batch size and number of processes. n and the number of
    updates travel in the checkpoint (`message_hub`); the log shows `ema_updates`.

    `alpha` is the share that θ_C *keeps* per update (mmengine's EMAHook has momentum = 1 - alpha). Parameters and
    running averages are averaged; what the model lists as copied (counters, power-iteration vectors) is copied. With
    several processes the running averages of θ_E's normalisation layers, which every process has of its own share of
    the data, are averaged over the processes before an update. All processes must get batches of one size: the count
    is never communicated, as that would make the GPU wait.

    A step that mixed precision skips because of an overflow counts as a step, for the same reason.

    Raises ValueError for alpha outside [0, 1] or samples_per_update that is no integer >= 1; TypeError, at the start of
    the training, for a model without `ema_tensors`.
    """

    # After the optimizer step, as all hooks of `after_train_iter`; before the log (60) and the checkpoint (90).
    priority = 'ABOVE_NORMAL'

    def __init__(self, alpha: float = 0.998, samples_per_update: int = 40) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise ValueError(f'alpha is {alpha!r}, expected the share that θ_C keeps, a number in [0, 1]')
        if isinstance(samples_per_update, bool) or not isinstance(samples_per_update, int) or samples_per_update < 1:
            raise ValueError(f'samples_per_update is {samples_per_update!r}, expected an integer of 1 or more')
        self.alpha = float(alpha)
        self.samples_per_update = samples_per_update

    def before_train(self, runner: Runner) -> None:
        model = _unwrapped(runner.model)
        if not hasattr(model, 'ema_tensors'):
            raise TypeError(
                f'SelfImprovingHook needs a model with θ_C and θ_E, found {type(model).__name__}; '
                "wrap it: model = dict(type='SelfImprovingSegmentor', segmentor=…)"
            )
        resumed = runner.iter > 0
        # A message hub is found by name and may still hold the counts of another run in this process.
        self._n = runner.message_hub.get_info(SAMPLES, 0) if resumed else 0
        self._updates = runner.message_hub.get_info(UPDATES, 0) if resumed else 0
        self._world_size = get_world_size()
        self._report(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None, outputs: dict | None = None
    ) -> None:
        self._n += _batch_size(data_batch) * self._world_size
        if _has_stepped(runner.optim_wrapper):
            k, self._n = divmod(self._n, self.samples_per_update)
            if k:
                self._update(_unwrapped(runner.model), k)
        self._report(runner)
        runner.message_hub.update_scalar('train/ema_updates', self._updates)

    @torch.no_grad()
    def _update(self, model: nn.Module, k: int) -> None:
        all_reduce_params(_running_averages(model.exploiter), op='mean')
        averaged_creator, averaged_exploiter, copied_creator, copied_exploiter = model.ema_tensors()
        weight = 1 - self.alpha**k
        for creator, exploiter in _by_type(averaged_creator, averaged_exploiter):
            torch._foreach_lerp_(creator, exploiter, weight)
        for creator, exploiter in _by_type(copied_creator, copied_exploiter):
            torch._foreach_copy_(creator, exploiter)
        self._updates += k

    def _report(self, runner: Runner) -> None:
        runner.message_hub.update_info(SAMPLES, self._n)
        runner.message_hub.update_info(UPDATES, self._updates)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _batch_size(batch: object) -> int:
    """Samples of this process's batch, as mmengine's collate functions hand it over: dict(inputs=[…], …)."""
    if not isinstance(batch, Mapping) or 'inputs' not in batch:
        raise TypeError(
            f"cannot count the samples of a batch of {type(batch).__name__}, expected a dict with 'inputs'; "
            "end the pipeline with dict(type='PackSegInputs')"
        )
    inputs = batch['inputs']
    while isinstance(inputs, Mapping):
        inputs = next(iter(inputs.values()))
    return len(inputs)


def _has_stepped(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Whether this iteration ended in an optimizer step, and not in the middle of gradient accumulation."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return any(wrapper.should_update() for wrapper in wrappers)


def _running_averages(model: nn.Module) -> list[Tensor]:
    """Running mean and variance that differ between processes.

    Those of SyncBatchNorm agree already. Those of layers in eval mode do not move, and averaging would round them.
    """
    layers = [
        module
        for module in model.modules()
        if module.training
        and getattr(module, 'running_mean', None) is not None
        and not isinstance(module, nn.SyncBatchNorm)
    ]
    return [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]


def _by_type(creator: Iterable[Tensor], exploiter: Iterable[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs of lists of one dtype and device each, which is what the fused kernels take."""
    groups: dict[tuple, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for c, e in zip(creator, exploiter, strict=True):
        mine, theirs = groups[c.dtype, c.device]
        mine.append(c)
        theirs.append(e)
    return list(groups.values())
