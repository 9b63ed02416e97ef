"""The exponential moving average that turns the trained θ_E into the creator θ_C, counted in samples.

For every 40 samples that θ_E consumes, real and synthetic: θ_C ← α θ_C + (1 - α) θ_E (Diff-2-in-1, arXiv 2411.05005,
section on self-improving learning; α = 0.998, 0.999 on PASCAL-Context).
"""

from collections.abc import Iterable, Mapping

from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER, load_whole

from .fully_sharded_model import own_share
from .kept_share_watch import KeptShareWatch
from .moving_average import alpha_for, move_creator

SAMPLES = 'self_improving_n'
UPDATES = 'self_improving_updates'
BATCH = 'self_improving_batch'
TRIAL = 100
"""Iterations below which a training without an update is taken for a trial."""


@HOOKS.register_module()
class SelfImprovingHook(Hook):
    """Updates θ_C of a model that offers `ema_tensors()`, such as `SelfImprovingSegmentor`.

    n counts the samples of the *global* batch, gradient accumulation included. When the optimizer steps, the
    k = n // `samples_per_update` updates that are due are applied at once, θ_C ← α^k θ_C + (1 - α^k) θ_E, and n keeps
    the remainder. The cadence is thus the same for every batch size and number of processes. n and the number of
    updates travel in the checkpoint (`message_hub`); the log shows `ema_updates`.

    One of two says how slow the average is. `alpha` is the share that θ_C *keeps* per update (mmengine's EMAHook
    has momentum = 1 - alpha). `remaining` is the share of the first θ_C that is left when the training ends: α follows
    from the length of the training and the global batch (`alpha_for`), and so is the same after a resume; the log shows
    it. Epochs that end in a shorter batch count as if it were a whole one.

    Parameters and running averages are averaged; what the model lists as copied (counters, power-iteration vectors) is
    copied. With several processes the running averages of θ_E's normalisation layers, which every process has of its
    own share of the data, are averaged over the processes after every iteration: the checkpoint holds those of the
    first process, a validation uses everybody's. All processes must get batches of one size: the count is never
    communicated, as that would make the GPU wait.

    To the model it also takes `load_from_may_differ` of the config, which the model alone cannot see; see `load_whole`.

    A resume with another global batch, by another number of processes say, would change what an update is of and with
    `remaining` α itself: it is refused unless `batch_may_change`.

    A step that mixed precision skips because of an overflow counts as a step, for the same reason.

    Raises ValueError for none or both of alpha and remaining, alpha outside [0, 1], remaining outside (0, 1) or
    samples_per_update that is no integer >= 1; at the start of the training TypeError for a model without
    `ema_tensors`, and ValueError for a resume with another batch, for 100 iterations or more that make no update (fewer
    are a trial, and warned of), or where `remaining` cannot be turned into α: a loop of another kind than mmengine's
    two, batches of unknown size, or a training without a single update.
    """

    # After the optimizer step, as all hooks of `after_train_iter`; before the log (60) and the checkpoint (90).
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        alpha: float | None = None,
        remaining: float | None = None,
        samples_per_update: int = 40,
        batch_may_change: bool = False,
    ) -> None:
        if (alpha is None) == (remaining is None):
            raise ValueError(
                f'found alpha={alpha!r} and remaining={remaining!r}, expected one of them: alpha=0.998, as in the '
                'paper, or remaining=0.05, the share of the first θ_C that is left at the end of this training'
            )
        if alpha is not None and not (_is_number(alpha) and 0 <= alpha <= 1):
            raise ValueError(f'alpha is {alpha!r}, expected the share that θ_C keeps, a number in [0, 1]')
        if remaining is not None and not (_is_number(remaining) and 0 < remaining < 1):
            raise ValueError(f'remaining is {remaining!r}, expected the share that is left, a number in (0, 1)')
        if isinstance(samples_per_update, bool) or not isinstance(samples_per_update, int) or samples_per_update < 1:
            raise ValueError(f'samples_per_update is {samples_per_update!r}, expected an integer of 1 or more')
        self.alpha = alpha
        self.remaining = remaining
        self.samples_per_update = samples_per_update
        self.batch_may_change = batch_may_change

    def before_run(self, runner: Runner) -> None:
        # Here and not at the start of the training: what is read from `load_from` is read in between.
        model = _unwrapped(runner.model)
        if hasattr(model, MAY_DIFFER):
            # A resumed run has its own checkpoint, which fits as it is.
            load_whole(model, () if runner.cfg.get('resume') else runner.cfg.get(MAY_DIFFER) or ())

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
        self._kept_shares = KeptShareWatch()
        self._check_batch(runner, resumed)
        if self.remaining is not None:
            updates = _expected_updates(runner, self._world_size, self.samples_per_update)
            self.alpha = alpha_for(updates, self.remaining)
            runner.logger.info(
                f'SelfImprovingHook: α = {self.alpha:.6g}, of which {updates} updates leave {self.remaining:g} of the '
                'first θ_C'
            )
        self._collect(model)
        self._report(runner)

    def _check_batch(self, runner: Runner, resumed: bool) -> None:
        """Samples per step must be as many as in the run that is resumed, and should be enough for an update."""
        samples = _known_batch_size(runner.train_loop.dataloader)
        if samples is None:
            return
        samples *= self._world_size
        before = runner.message_hub.get_info(BATCH, samples) if resumed else samples
        if before != samples and not self.batch_may_change:
            raise ValueError(
                f'this run has had {before} samples per step, and would go on with {samples} on {self._world_size} '
                f'process(es); start as many processes as before, set global_batch_size={before}, or say '
                'batch_may_change=True to the SelfImprovingHook'
            )
        runner.message_hub.update_info(BATCH, samples)
        if runner.max_iters * samples < self.samples_per_update:
            idle = (
                f'{runner.max_iters} iterations of {samples} samples make no update of {self.samples_per_update} '
                'samples, so θ_C stays what it was; train longer, or lower samples_per_update'
            )
            if runner.max_iters >= TRIAL:
                raise ValueError(idle)
            runner.logger.warning(idle)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None, outputs: dict | None = None
    ) -> None:
        if self._world_size > 1:
            all_reduce_params(_running_averages(self._normalisations), op='mean')
        self._n += _batch_size(data_batch) * self._world_size
        if _has_stepped(runner.optim_wrapper):
            k, self._n = divmod(self._n, self.samples_per_update)
            if k:
                self._update(_unwrapped(runner.model), k)
        self._report(runner)
        self._kept_shares.look(runner.message_hub, runner.logger, outputs)
        runner.message_hub.update_scalar('train/ema_updates', self._updates)

    def _collect(self, model: nn.Module) -> None:
        """Walks through the model, which is on its device and loaded by now; its updates do not do so again."""
        self._normalisations = _with_own_statistics(model.exploiter)
        self._tensors = _ema_tensors(model)
        self._stay = False

    def _update(self, model: nn.Module, k: int) -> None:
        if not self._stay:
            # A module may bind its buffer anew in every forward pass instead of changing it. The first update tells.
            before, self._tensors = self._tensors, _ema_tensors(model)
            self._stay = _same_memory(before, self._tensors)
        move_creator(self._tensors, self.alpha**k)
        self._updates += k

    def _report(self, runner: Runner) -> None:
        runner.message_hub.update_info(SAMPLES, self._n)
        runner.message_hub.update_info(UPDATES, self._updates)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _ema_tensors(model: nn.Module) -> list[list[Tensor]]:
    """Those of the model; of sharded ones what this process holds."""
    return [[own_share(tensor) for tensor in tensors] for tensors in model.ema_tensors()]


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


def _expected_updates(runner: Runner, world_size: int, samples_per_update: int) -> int:
    """Updates of the whole training, the part before a resume included."""
    loop = runner.train_loop
    if not isinstance(loop, (IterBasedTrainLoop, EpochBasedTrainLoop)):
        raise ValueError(
            f'remaining needs the number of iterations, found {type(loop).__name__}; train with '
            "train_cfg=dict(type='IterBasedTrainLoop', max_iters=…) or an EpochBasedTrainLoop, or give alpha"
        )
    batch = _loader_batch_size(loop.dataloader) * world_size
    updates = loop.max_iters * batch // samples_per_update
    if updates < 1:
        raise ValueError(
            f'{loop.max_iters} iterations of {batch} samples make no update of {samples_per_update} samples, expected '
            'one or more; train longer, lower samples_per_update, or give alpha'
        )
    return updates


def _loader_batch_size(dataloader: DataLoader) -> int:
    """Samples of a process's batch.

    Raises ValueError where nobody knows.
    """
    size = _known_batch_size(dataloader)
    if size is None:
        raise ValueError(
            f'the batch size of {type(dataloader.batch_sampler).__name__} is not known, expected an integer; give it a '
            '`batch_size`, or the hook alpha instead of remaining'
        )
    return size


def _known_batch_size(dataloader: DataLoader) -> int | None:
    """Samples of a process's batch, if known: a batch sampler that mixes adds to the `batch_size` of the config."""
    size = getattr(dataloader.batch_sampler, 'batch_size', dataloader.batch_size)
    return size if isinstance(size, int) else None


def _has_stepped(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """True if this iteration ended in an optimizer step, and not in the middle of gradient accumulation."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return any(wrapper.should_update() for wrapper in wrappers)


def _with_own_statistics(model: nn.Module) -> list[nn.Module]:
    """Layers whose running mean and variance differ between processes; those of SyncBatchNorm agree already."""
    return [
        module
        for module in model.modules()
        if getattr(module, 'running_mean', None) is not None and not isinstance(module, nn.SyncBatchNorm)
    ]


def _running_averages(layers: list[nn.Module]) -> list[Tensor]:
    """Running mean and variance; those of layers in eval mode do not move, and averaging would round them."""
    return [buffer for layer in layers if layer.training for buffer in (layer.running_mean, layer.running_var)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same_memory(before: Iterable[list[Tensor]], after: Iterable[list[Tensor]]) -> bool:
    """True if all tensors are still the same ones."""
    one, other = ([tensor.data_ptr() for tensors in lists for tensor in tensors] for lists in (before, after))
    return one == other
