"""All arms of one labelled set and seed, trained side by side: one warm-up, the same real batches, features made once.

What is frozen does not depend on the arm: every image goes through it once per step (features.py) and is then shown to
every model that wants it. A run is a pure function of its job; killed, it goes on from its last state.

B samples; H, W pixels.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from images.pools import Pool
from torch import Tensor

from mmdiff2in1.core.randomness import derived_seed
from mmdiff2in1.engine import alpha_for
from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures
from mmdiff2in1.tasks import DenseTask

from .arms import CONTROL_ARM, Arm
from .features import Shown
from .learner import Learner, labelled
from .records import Outcome, records
from .scoring import scores
from .states import identity, load_state, save_state, write_progress
from .streams import Batch, Stream

STATE_INTERVAL, EVAL_BATCH = 100, 25


@dataclass(frozen=True)
class Schedule:
    """Two stages of training.

    Attributes:
        warmup, self_improving: Steps of the stages.
        warmup_end: Learning rate at the end of the warm-up as a share of the peak; the smaller, the readier θ_C is.
        restart: And at the beginning of the second stage, which ends at a hundredth of that.
        batch_size: Real images per step, and as many of a pool.
        validations: Of the second stage.
    """

    warmup: int
    self_improving: int
    warmup_end: float = 0.2
    restart: float = 0.5
    batch_size: int = 8
    validations: int = 4


@dataclass
class Data:
    """What a job reads: the labelled pool, the pools by name (made when first asked for), the parts to score on."""

    labelled: Pool
    pool: Callable[[str], Pool]
    val: Pool
    test: Pool | None


class Lockstep:
    """One job: a labelled set, a seed, its tasks and their arms.

    Args:
        data: See :class:`Data`.
        tasks: Task name → task.
        arms: Task name → arms; the control is trained in any case.
        backbone: Its U-Net is frozen, or trained by every arm for itself.
        schedule: Steps.
        seed: Of weights, order and augmentation.
        folder: State and progress.
        warmup: File of the warm-up's result, shared by all jobs of this labelled set, seed and tasks.
    """

    def __init__(
        self,
        data: Data,
        tasks: dict[str, DenseTask],
        arms: dict[str, list[Arm]],
        backbone: DiffusionBackbone,
        schedule: Schedule,
        seed: int,
        folder: Path,
        warmup: Path,
    ):
        self.data, self.tasks, self.schedule, self.seed = data, tasks, schedule, seed
        self.backbone, self.folder, self.warmup_file = backbone.eval(), folder, warmup
        self.device = next(backbone.parameters()).device
        self.weights = backbone.diffusion.weights_hash()
        self.arms = {task: [CONTROL_ARM, *arms[task]] for task in tasks}
        self.pools = {arm.pool for each in self.arms.values() for arm in each if arm.pool}
        folder.mkdir(parents=True, exist_ok=True)
        self._parts: dict[str, list[tuple[FrozenFeatures, dict[str, Tensor]]]] = {}

    def run(self) -> list[dict[str, Any]]:
        """One record per task and arm: scores of θ_C and θ_E, curves, settings."""
        begun = time.monotonic()
        learners, warm = self._warm_up()
        forks = {
            (name, arm.name): Learner(task, self.backbone, arm, start=learners[name])
            for name, task in self.tasks.items()
            for arm in self.arms[name]
        }
        curves, kept = self._self_improve(forks)
        common = dict(
            steps=asdict(self.schedule),
            weights=self.weights[:12],
            regime=self.backbone.regime,
            seconds=round(time.monotonic() - begun, 1),
        )
        parts = ['val'] if self.data.test is None else ['val', 'test']
        return [
            dict(task=task) | record
            for task in self.tasks
            for arm in self.arms[task]
            for key in [f'{task}|{arm.name}']
            for record in records(
                Outcome(arm, partial(self._score, forks[task, arm.name]), curves[key], kept[key]),
                parts,
                warm[task],
                common,
            )
        ]

    # --- the two stages --------------------------------------------------------------------------------------------

    def _warm_up(self) -> tuple[dict[str, Learner], dict]:
        """θ_E on real images; θ_C ← θ_E. Returns the learners and the validation scores on the way."""
        learners = {}
        for name, task in self.tasks.items():
            torch.manual_seed(derived_seed(self.seed, 'weights', name))
            learners[name] = Learner(task, self.backbone)
        own = self._identity()
        state = load_state(self.warmup_file, own) or dict(step=0, learners={}, curve={})
        for name, saved in state['learners'].items():
            learners[name].load(saved)
        stream, total, curve = self._stream('labelled', 'real'), self.schedule.warmup, state['curve']
        for step in range(state['step'], total):
            batch = stream.batch(step)
            features = self._features(batch.images)
            for name, learner in learners.items():
                seed = derived_seed(self.seed, 'warm-up', name, step)
                share = _warmup_share(step, total, self.schedule.warmup_end)
                learner.step(features, self._samples(name, batch, synthetic=False), share, seed)
            done = step + 1
            if done % (total // 4) == 0 or done == total:
                for name, learner in learners.items():
                    curve.setdefault(name, []).append([done, self._score(learner, 'exploiter', 'val')])
            if done % STATE_INTERVAL == 0 or done == total:
                saved = {name: learner.state() for name, learner in learners.items()}
                save_state(self.warmup_file, own, step=done, learners=saved, curve=curve)
            self._report('warm-up', done)
        return learners, curve

    def _self_improve(self, learners: dict[tuple[str, str], Learner]) -> tuple[dict, dict]:
        """All arms on the same real batches. Returns validation curves and mean kept shares."""
        total = self.schedule.self_improving
        path = self.folder / 'state.pth'
        own = self._identity(self.arms)
        state = load_state(path, own) or dict(step=0, learners={}, curves={}, kept={})
        for key, saved in state['learners'].items():
            learners[tuple(key.split('|'))].load(saved)
        curves, kept = state['curves'], state['kept']
        real_stream = self._stream('labelled', 'real after warm-up')
        # One name for all: pools of equal size are drawn and augmented alike, so that arms differ in the images alone.
        streams = {name: self._stream(name, 'synthetic') for name in sorted(self.pools)}
        for step in range(state['step'], total):
            real = real_stream.batch(step)
            created = {name: stream.batch(step) for name, stream in streams.items()}
            shown = self._all_features(real, created, learners)
            for task in self.tasks:
                for arm in self.arms[task]:
                    share = self._arm_step(learners[task, arm.name], arm, real, created, shown, step)
                    kept[f'{task}|{arm.name}'] = kept.get(f'{task}|{arm.name}', 0) + share / total
            done = step + 1
            if done % (total // self.schedule.validations) == 0:
                for (task, name), learner in learners.items():
                    curves.setdefault(f'{task}|{name}', []).append([done, self._score(learner, 'creator', 'val')])
            if done % STATE_INTERVAL == 0 or done == total:
                saved = {'|'.join(key): learner.state() for key, learner in learners.items()}
                save_state(path, own, step=done, learners=saved, curves=curves, kept=kept)
            self._report('self-improving', done)
        return curves, kept

    def _arm_step(
        self, learner: Learner, arm: Arm, real: Batch, created: dict[str, Batch], shown: Shown, step: int
    ) -> float:
        """One update of an arm; returns the share of the pseudo-labelled pixels that was kept."""
        task, total = learner.task.name, self.schedule.self_improving
        share = self.schedule.restart * _cosine(step / total, 0.01)
        seed = derived_seed(self.seed, 'self-improving', task, step)  # the same dropout in every arm
        names = (['real'] if arm.real else []) + ([arm.pool] if arm.pool else [])
        views = [_view(name, learner.view) for name in names] if learner.view else None
        samples = self._samples(task, real, synthetic=False) if arm.real else []
        if arm.pool:
            samples += self._samples(task, created[arm.pool], synthetic=True)
        _, kept = learner.step(shown.batch(names, views), samples, share, seed)
        learner.follow(alpha_for(total, arm.remaining))
        return kept

    def _samples(self, task: str, batch: Batch, synthetic: bool) -> list:
        target = batch.targets.get(task)
        height, width = batch.images.shape[-2:]
        on_device = None if target is None else target.to(self.device)
        return labelled(self.tasks[task], on_device, (height, width), len(batch.images), synthetic)

    # --- features --------------------------------------------------------------------------------------------------

    def _all_features(self, real: Batch, created: dict[str, Batch], learners: dict[tuple[str, str], Learner]) -> Shown:
        """Of 'real' and each pool, and of what a teacher wants to see besides."""
        batches = {'real': real, **created}
        images = {name: batch.images for name, batch in batches.items()}
        for (task, name), learner in learners.items():
            arm = next(arm for arm in self.arms[task] if arm.name == name)
            if learner.view:
                # θ_C labels the pool alone, but an index into the batch must find the view at the same place.
                for each in ('real', arm.pool):
                    images[_view(each, learner.view)] = getattr(batches[each], learner.view)
        return Shown.of(self._features, images)

    def _features(self, images: Tensor) -> FrozenFeatures:
        return self.backbone.frozen_features(images.to(self.device))

    def _score(self, learner: Learner, who: str, part: str) -> dict[str, float]:
        """Scores of θ_E ('exploiter') or θ_C ('creator')."""
        return scores(learner.task, self._outputs(learner, who, part))

    def _outputs(self, learner: Learner, who: str, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        if part not in self._parts:
            pool = getattr(self.data, part)
            self._parts[part] = [
                (
                    self._features(pool.images[i : i + EVAL_BATCH].float() / 127.5 - 1),
                    {name: target[i : i + EVAL_BATCH].to(self.device) for name, target in pool.targets.items()},
                )
                for i in range(0, len(pool), EVAL_BATCH)
            ]
        for features, targets in self._parts[part]:
            yield learner.outputs(who, features), targets[learner.task.name]

    def _stream(self, pool: str, name: str) -> Stream:
        source = self.data.labelled if pool == 'labelled' else self.data.pool(pool)
        return Stream(source, name, self.seed, self.schedule.batch_size, self.tasks)

    # --- files -----------------------------------------------------------------------------------------------------

    def _report(self, stage: str, done: int) -> None:
        if done % 10 == 0 or stage == 'warm-up' and done == self.schedule.warmup:
            before = 0 if stage == 'warm-up' else self.schedule.warmup
            write_progress(self.folder, before + done, self.schedule.warmup + self.schedule.self_improving)

    def _identity(self, *others: object) -> str:
        """What a state must agree in to be gone on from."""
        images = hashlib.sha256(self.data.labelled.images.numpy().tobytes()).hexdigest()
        model = ['SelfImprovingSegmentor', self.weights, self.backbone.regime]
        return identity(*model, images, self.schedule, self.seed, list(self.tasks), *others)


def _warmup_share(step: int, total: int, end: float) -> float:
    """Learning rate as a share of the peak: linear for a tenth at most, then a cosine down to ``end``."""
    rise = min(50, total // 10)
    return (step + 1) / rise if step < rise else _cosine((step - rise) / (total - rise), end)


def _cosine(progress: float, end: float) -> float:
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def _view(batch: str, view: str) -> str:
    """Name of another view of a batch."""
    return f'{batch}, {view}'
