"""The arms of the comparison: what θ_E sees besides the real batch, and how it is labelled and weighted."""

from dataclasses import dataclass, replace
from typing import Any

from evidence.runs import CONTROL
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Creation:
    """How a pool of created images comes from the labelled ones.

    Attributes:
        T: Noise levels, which the samples of a source take in turn. 1000 is pure noise.
        recombined: The things of one training caption in the room of another, instead of the source's own caption.
        per_image: Samples per labelled image, at most ``MAX_SAMPLES`` in all.
    """

    T: tuple[int, ...]
    recombined: bool = False
    per_image: int = 4


MAX_SAMPLES = 240

# `labelled` and `unlabelled` are real images and need no creation.
CREATIONS = {
    'T200': Creation(T=(200,)),
    'T600': Creation(T=(600,)),
    'T600, 1 per image': Creation(T=(600,), per_image=1),
    'T800': Creation(T=(800,)),
    'T range': Creation(T=(200, 400, 600, 800)),
    'new T_max': Creation(T=(1000,), recombined=True),
    'new T range': Creation(T=(600, 700, 800, 900), recombined=True),
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to spend the self-improving stage after a common warm-up.

    Attributes:
        name: As in the tables.
        pool: Key of ``CREATIONS``, ``labelled``, ``unlabelled``, or None: real images only.
        weight: Weight of the synthetic loss; the real one has weight 1.
        real: Whether the real batch is learned from.
        teacher: The label rule: the paper's `TeacherLabel`, `GivenLabel` for the true labels of the pool, or one of
            teachers.py.
        min_confidence: Pixels of which θ_C is less sure are left out (segmentation only).
        remaining: Share of the warm-up's weights left in θ_C at the end.
    """

    name: str
    pool: str | None = None
    weight: float = 1.0
    real: bool = True
    teacher: str = 'TeacherLabel'
    min_confidence: float | None = None
    remaining: float = 0.05

    def rule(self, warm: nn.Module | None) -> dict[str, Any]:
        """Config of the label rule; ``warm`` is θ_E after the warm-up."""
        given = dict(teacher=warm) if self.teacher == 'FixedTeacher' else {}
        filtered = {} if self.min_confidence is None else dict(min_confidence=self.min_confidence)
        return dict(type=self.teacher, **given, **filtered)


CONTROL_ARM = Arm(name=CONTROL)


# Chosen on `val` from the block `knobs`: what did least harm there.
BEST = {
    'normal': Arm(name='Diff-2-in-1, best', pool='T600', weight=0.3),
    'semantic_segmentation': Arm(name='Diff-2-in-1, best', pool='T600', weight=0.3, min_confidence=0.9),
    'depth': Arm(name='Diff-2-in-1, best', pool='T600', weight=0.3),
}


def main_arms(task: str) -> list[Arm]:
    """Every arm of the main comparison but the control; weight 1 and no filter where nothing else is said."""
    return [
        Arm(name='self-distillation', pool='labelled'),
        Arm(name='Diff-2-in-1', pool='T600'),
        BEST[task],
        Arm(name='new scenes, T_max', pool='new T_max'),
        Arm(name='new scenes, T range', pool='new T range'),
        Arm(name='unlabelled', pool='unlabelled'),
        replace(BEST[task], name='unlabelled, best', pool='unlabelled'),
        Arm(name='unlabelled, true labels', pool='unlabelled', teacher='GivenLabel'),
        Arm(name='synthetic only', pool='T600', real=False),
    ]


def range_arms(task: str) -> list[Arm]:
    """The arms that are followed over the number of labels."""
    names = ('Diff-2-in-1', 'Diff-2-in-1, best', 'new scenes, T range', 'unlabelled', 'unlabelled, true labels')
    return [arm for arm in main_arms(task) if arm.name in names]


def readiness_arms(task: str) -> list[Arm]:
    """The arms that a better teacher should help first, and a teacher that is better still."""
    return [
        Arm(name='Diff-2-in-1', pool='T600'),
        Arm(name='mirrored teacher', pool='T600', teacher='MirroredTeacher'),
        Arm(name='unlabelled', pool='unlabelled'),
        Arm(name='unlabelled, mirrored teacher', pool='unlabelled', teacher='MirroredTeacher'),
        Arm(name='unlabelled, true labels', pool='unlabelled', teacher='GivenLabel'),
    ]


def finetune_arms(task: str) -> list[Arm]:
    """With a U-Net that learns, a step costs ten times as much: the loop alone."""
    return [Arm(name='Diff-2-in-1', pool='T600')]


def knob_arms(task: str) -> list[Arm]:
    """One change at a time to Diff-2-in-1 as the paper has it (T = 600, weight 1, no filter)."""
    arms = [
        Arm(name='Diff-2-in-1', pool='T600'),
        Arm(name='T=200', pool='T200'),
        Arm(name='T=800', pool='T800'),
        Arm(name='T=200 ... 800', pool='T range'),
        Arm(name='1 sample per image', pool='T600, 1 per image'),
        Arm(name='weight 0.3', pool='T600', weight=0.3),
        Arm(name='weight 3', pool='T600', weight=3.0),
        Arm(name='slow average, 50 % left', pool='T600', remaining=0.5),
        Arm(name='fast average, 0.1 % left', pool='T600', remaining=0.001),
        Arm(name='fixed teacher', pool='T600', teacher='FixedTeacher'),
        Arm(name='weak-to-strong', pool='T600', teacher='WeakTeacher'),
    ]
    if task == 'semantic_segmentation':
        arms.append(Arm(name='confidence 0.9', pool='T600', min_confidence=0.9))
    return arms
