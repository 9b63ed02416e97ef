"""The loop as it was, an implementation of its own, and as it is, on the package: 20 equal steps of both.

    python projects/evidence/port.py        prints, and writes docs/evidence/port.jsonl

The old one is taken out of git. Both get the same features, targets, first weights, optimizer moments, dropout and
learning rates. Where a formula differs, the old one is run again with the package's formula in its place, one after the
other, so that each difference has its cause and its size:

    as it was          normals and depth are resized, then activated; its own losses
    activated first    activated, then resized, as DenseTaskHead does it
    package's losses   besides: CosineNormalLoss (normalises where the old one took rsqrt), ScaleInvariantLogLoss (no
                       floor of 1e-6 under the root), mmseg's cross-entropy (mean in another order)

B samples; H, W pixels.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from port_formulas import VARIANTS, formulas
from torch import Tensor

from mmdiff2in1.core.atomic_files import write_atomically

ROOT = Path(__file__).parents[2]
OLD = '35011748fe70a38068eb7c4ba31cf3e72c5256c3'
WARMUP, STEPS, BATCH, DRAWS, SCENES = 100, 20, 4, 5, 12


def main(arguments: list[str] | None = None) -> None:
    """Runs all tasks and arms in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'evidence' / 'port.jsonl', help='(%(default)s)')
    parser.add_argument('--tasks', nargs='+', default=['normal', 'semantic_segmentation', 'depth'], help='(all)')
    parser.add_argument('--precisions', nargs='+', default=['float32', 'bfloat16'], help='of the heads (both)')
    args = parser.parse_args(arguments)
    from mmengine.registry import init_default_scope

    import mmdiff2in1.components  # noqa: F401  registers

    init_default_scope('mmseg')
    torch.set_num_threads(1)
    lines = []
    with old_loop() as old:
        material = Material.of_scenes()
        for task in args.tasks:
            for precision in args.precisions:
                for line in compared(old, material, task, precision):
                    print(json.dumps(line))
                    lines.append(json.dumps(line) + '\n')
    write_atomically(args.out, ''.join(lines).encode())


@contextmanager
def old_loop() -> Iterator[Any]:
    """The module ``learner`` of the commit ``OLD``."""
    archive = subprocess.run(['git', 'archive', OLD, 'projects/evidence/loop'], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise SystemExit(f'{OLD[:12]} is not in this clone; fetch the whole history: {archive.stderr.decode()}')
    with tempfile.TemporaryDirectory() as folder:
        tarfile.open(fileobj=io.BytesIO(archive.stdout)).extractall(folder, filter='data')
        (Path(folder) / 'projects' / 'evidence' / 'loop').rename(Path(folder) / 'old_loop')
        sys.path.insert(0, folder)
        from old_loop import learner  # type: ignore[import-not-found]

        yield learner
        sys.path.remove(folder)


class Material:
    """Real and other scenes as a job draws them, with their features under the built-in U-Net."""

    def __init__(self, backbone: Any, steps: list[tuple[Any, Any, Any]]):
        self.backbone, self.steps = backbone, steps

    @classmethod
    def of_scenes(cls) -> 'Material':
        """Renders scenes and makes ``DRAWS`` steps of them: (real batch, batch of the pool, features)."""
        from images.pools import TASKS, rendered
        from loop.features import Shown, make_backbone
        from loop.jobs import backbone_config
        from loop.streams import Stream

        from mmdiff2in1.datasets.scenes.render import render_scene

        tasks = TASKS['scenes']

        def stream(first: int, name: str) -> Stream:
            scenes = [render_scene(0, first + i, 64) for i in range(SCENES)]
            return Stream(rendered(scenes, tasks), name, 0, BATCH, tasks)

        backbone = make_backbone(backbone_config('scenes', 'builtin:scenes', 'frozen'))
        real, pool, steps = stream(0, 'real'), stream(SCENES, 'synthetic'), []
        for step in range(DRAWS):
            one, other = real.batch(step), pool.batch(step)
            views = {f'{name}, {view}': getattr(batch, view) for name, batch in (('real', one), ('pool', other))
                     for view in ('plain', 'mirrored')}  # fmt: skip
            images = {'real': one.images, 'pool': other.images, **views}
            steps.append((one, other, Shown.of(backbone.frozen_features, images)))
        return cls(backbone, steps)


def compared(old: Any, material: Material, name: str, precision: str) -> Iterator[dict[str, Any]]:
    """One line per arm and variant of the old loop."""
    from images.pools import TASKS
    from loop.arms import BEST, CONTROL_ARM, Arm
    from loop.learner import Learner

    arms = [
        CONTROL_ARM,
        Arm(name='Diff-2-in-1', pool='pool'),
        Arm(name='best', pool='pool', weight=0.3, min_confidence=BEST[name].min_confidence),
        Arm(name='true labels', pool='pool', teacher='GivenLabel'),
        Arm(name='mirrored teacher', pool='pool', teacher='MirroredTeacher'),
        Arm(name='fixed teacher', pool='pool', teacher='FixedTeacher'),
        Arm(name='weak-to-strong', pool='pool', teacher='WeakTeacher'),
        Arm(name='synthetic only', pool='pool', real=False),
    ]
    task, usual = TASKS['scenes'][name], torch.autocast
    if precision == 'float32':
        torch.autocast = lambda *args, **kwargs: nullcontext()  # type: ignore[assignment, misc]
    try:
        torch.manual_seed(0)
        warm = Learner(task, material.backbone)
        torch.manual_seed(0)
        equal_start = _equal(warm.model.exploiter, old.Learner(task, _old_model(task, material)).exploiter)
        for step in range(WARMUP):
            new_step(warm, CONTROL_ARM, material, step, kept=[])
        for arm in arms:
            new = Learner(task, material.backbone, arm, start=warm)
            kept: list[float] = []
            losses, seconds = _run(partial(new_step, new, arm, material, kept=kept))
            moved = _distance(new.model.creator, warm.model.exploiter)
            for variant in VARIANTS:
                with formulas(old, task, variant):
                    other = old_learner(old, warm, arm, material)
                    found, old_seconds = _run(partial(old_step, other, arm, material))
                difference = (losses - found).abs()
                apart = _distance(new.model.creator, other.creator)
                yield dict(
                    task=name,
                    heads=precision,
                    arm=arm.name,
                    old=variant,
                    loss=round(losses[0].item(), 6),
                    kept_share=round(sum(kept) / STEPS, 4),
                    first_loss_differs_by=difference[0].item(),
                    losses_differ_by=difference.max().item(),
                    creator_differs_by=apart,
                    creator_moved_by=moved,
                    bit_for_bit=difference.max().item() == apart == 0,
                    equal_first_weights=equal_start,
                    ms_per_step=[round(1000 * each / STEPS) for each in (old_seconds, seconds)],
                    steps=STEPS,
                    commit=OLD[:12],
                )
    finally:
        torch.autocast = usual  # type: ignore[misc]


def new_step(learner: Any, arm: Any, material: Material, step: int, kept: list[float]) -> Tensor:
    """A step as Lockstep takes it; the share of pseudo-labelled pixels that was kept is appended to ``kept``."""
    from loop.learner import labelled

    from mmdiff2in1.engine import alpha_for

    real, pool, shown = material.steps[step % DRAWS]
    names = (['real'] if arm.real else []) + (['pool'] if arm.pool else [])
    views = [f'{name}, {learner.view}' for name in names] if learner.view else None
    samples = [
        sample
        for name in names
        for batch in [real if name == 'real' else pool]
        for sample in labelled(learner.task, batch.targets[learner.task.name], (64, 64), BATCH, name == 'pool')
    ]
    loss, share = learner.step(shown.batch(names, views), samples, 0.5, seed=step)
    learner.follow(alpha_for(STEPS, arm.remaining))
    kept.append(share)
    return loss


def old_step(learner: Any, arm: Any, material: Material, step: int) -> Tensor:
    """A step as the Lockstep of then took it."""
    real, pool, shown = material.steps[step % DRAWS]

    def features(name: str) -> list[Tensor]:
        return list(shown.batch([name]).pyramid)

    target = real.targets[learner.task.name]
    if arm.pool is None:
        loss = learner.step(features('real'), target, None, 0, 0.5, step)
    else:
        if arm.teacher == 'GivenLabel':
            labels = pool.targets[learner.task.name]
        else:
            by = features('pool, plain' if arm.teacher == 'WeakTeacher' else 'pool')
            mirrored = features('pool, mirrored') if arm.teacher == 'MirroredTeacher' else None
            labels, _ = learner.pseudo_labels(by, (64, 64), arm.min_confidence, mirrored)
        if arm.real:
            both = [torch.cat(levels) for levels in zip(features('real'), features('pool'), strict=True)]
            loss = learner.step(both, target, labels, arm.weight, 0.5, step)
        else:
            loss = learner.step(features('pool'), None, labels, arm.weight, 0.5, step)
    learner.follow(arm.remaining ** (1 / STEPS))
    return loss


def old_learner(old: Any, warm: Any, arm: Any, material: Material) -> Any:
    """The old learner with the weights and moments of a new one."""
    learner = old.Learner(warm.task, _old_model(warm.task, material))
    names = learner.exploiter.state_dict()
    weights = dict(zip(names, warm.model.exploiter.state_dict().values(), strict=True))
    learner.load(dict(exploiter=weights, creator=weights, optimizer=warm.optimizer.state_dict()))
    return learner.fork(fixed_teacher=arm.teacher == 'FixedTeacher')


def _old_model(task: Any, material: Material) -> Any:
    from old_loop.features import make_model  # type: ignore[import-not-found]

    return make_model(task, material.backbone)


def _run(step: Callable[[int], Tensor]) -> tuple[Tensor, float]:
    """The losses of all steps, and the processor time."""
    begun = time.process_time()
    losses = torch.stack([step(i) for i in range(STEPS)])
    return losses, time.process_time() - begun


def _distance(one: Any, other: Any) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def _equal(one: Any, other: Any) -> bool:
    return _distance(one, other) == 0


if __name__ == '__main__':
    main()
