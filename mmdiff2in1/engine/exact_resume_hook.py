"""Makes a killed and resumed training equal the straight one: its random draws follow from (seed, rank, iteration)."""

from collections.abc import Mapping

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from mmdiff2in1.core.randomness import seed_all

LAST_VALIDATION = 'last_validation_iter'
"""Where a checkpoint holds it. mmengine prints what begins with `val` beside the scores of a validation."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seeds Python, NumPy and torch from a hash of (seed, rank, iteration) before every training iteration.

    mmengine saves no random state, so dropout and noise differ after a resume. Saving the states would mean one set per
    process in a checkpoint that only the first process writes, exact only for the moment at which it was taken: a
    validation, a reader thread or a draw at start-up in between would shift all that follows. A derived state needs no
    saving, cannot be lost or outdated, and makes iteration i the same whatever ran before it.

    Covers what the model draws. The order of the samples and their augmentation are covered by `StreamSampler` and
    `SyntheticSampleDataset`, the running average by `SelfImprovingHook`; together, on one machine, in fp32, at equal
    world size and thread count, a resumed run equals the straight one bit for bit.

    `seed=None` takes the runner's; without `randomness=dict(seed=…)` that one is drawn anew at every start, the order
    of the samples with it, and the hook says so.
    """

    # Last of the hooks before the step: what others draw does not shift it.
    priority = 'LOWEST'

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ValueError(f'seed is {seed!r}, expected an integer or None for the seed of the runner')
        self.seed = seed

    def before_run(self, runner: Runner) -> None:
        # Asked before a resume, which fills the seed of the checkpoint in: too late for the sampler.
        self._config_has_seed = runner._randomness_cfg.get('seed') is not None

    def before_train(self, runner: Runner) -> None:
        self._rank = get_rank()
        self._seed = runner.seed if self.seed is None else self.seed
        if not self._config_has_seed:
            runner.logger.warning(
                'ExactResumeHook: the config sets no seed, so a resumed run reads its samples in another order; '
                f'set randomness=dict(seed={runner.seed}) to repeat this run and resume it exactly'
            )

        self._make_up_lost_validation(runner)

    def after_val_epoch(self, runner: Runner, metrics: Mapping | None = None) -> None:
        runner.message_hub.update_info(LAST_VALIDATION, runner.iter)

    def _make_up_lost_validation(self, runner: Runner) -> None:
        """A checkpoint is written before the validation of its iteration: a kill in between loses that validation."""
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop) or runner.val_loop is None or not 0 < runner.iter:
            return
        due = runner.iter >= loop.val_begin and (
            runner.iter % loop.val_interval == 0 or runner.iter == runner.max_iters
        )
        if due and runner.message_hub.runtime_info.get(LAST_VALIDATION) != runner.iter:
            runner.val_loop.run()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None) -> None:
        seed_all(self._seed, 'train', self._rank, runner.iter)
