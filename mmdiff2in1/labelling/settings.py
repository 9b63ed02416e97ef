"""`stages.labelling` of a config: a teacher labels the created images before the training starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmdiff2in1.core.building import building
from mmdiff2in1.core.names import unknown_names
from mmdiff2in1.core.randomness import kept_randomness
from mmdiff2in1.datasets.dataset_meta import dataset_meta_of
from mmdiff2in1.models.self_improving import TeacherLabel
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.models.self_improving.trained_teacher import model_config
from mmdiff2in1.tasks import TaskSet

from .label_store import Labelling


@dataclass(frozen=True, kw_only=True)
class LabellingSettings:
    """The keys of `stages.labelling`, and nothing else.

    `teacher`, `min_confidence`, `soft`, `temperature`, `mirrored`, `scales`: see `TeacherLabel`. `topk`: see
    `Labelling`. `batch_size`, `device`, `replace`: see `label_store`.
    """

    teacher: Any
    min_confidence: float | Mapping[str, float] | None = None
    soft: bool = False
    temperature: float = 1.0
    mirrored: bool = False
    scales: Sequence[float] = (1.0,)
    topk: int = 4
    batch_size: int = 8
    device: str | None = None
    replace: bool = False

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'LabellingSettings':
        """Of a config.

        Raises:
            ValueError: Unknown keys, no teacher, or a `topk` that is no number of classes.
        """
        given = dict(cfg.stages.labelling)
        known = [each.name for each in fields(cls)]
        unknown = sorted(given.keys() - set(known))
        if unknown or 'teacher' not in given:
            found = f'unknown keys {unknown_names(unknown, known)}' if unknown else 'no teacher'
            raise ValueError(f'stages.labelling has {found}')
        settings = cls(**given)
        if isinstance(settings.topk, bool) or not isinstance(settings.topk, int) or settings.topk < 1:
            raise ValueError(f'stages.labelling.topk is {settings.topk!r}, expected an integer of 1 or more')
        return settings

    def rule(self) -> TeacherLabel:
        """The rule by which labels are written."""
        names = ('teacher', 'min_confidence', 'soft', 'temperature', 'mirrored', 'scales')
        return TeacherLabel(**{name: getattr(self, name) for name in names})


def labelling_of(cfg: Config) -> Labelling:
    """The labelling of `stages.labelling` in a self-improving config; the student is built to see what it predicts."""
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    settings = LabellingSettings.from_cfg(cfg)
    return Labelling(settings.rule(), student_tasks(cfg), dataset_meta_of(cfg).get('classes'), settings.topk)


def student_tasks(cfg: Config) -> TaskSet:
    """Tasks that the segmentor of a config predicts, self-improving or not."""
    _, model, task = model_config(cfg)
    with kept_randomness(), building(model, 'model'):
        return build_tasks(task, MODELS.build(model))
