"""Distillation: a strong teacher labels created images for any student, and what that was worth is measured.

Scores are of the student's validation set. The student that ships is θ_C, the average of θ_E.
"""

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.building import building
from mmdiff2in1.core.names import type_name
from mmdiff2in1.core.randomness import kept_randomness
from mmdiff2in1.datasets.dataset_meta import dataset_meta_of
from mmdiff2in1.engine.distributed import launcher_of_environment
from mmdiff2in1.evaluation import check_figure, figure_names
from mmdiff2in1.models.checkpoints import still_to_learn
from mmdiff2in1.models.self_improving import Teachers
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.models.self_improving.label_rules.teacher_settings import TeacherSettings
from mmdiff2in1.models.self_improving.trained_teacher import model_config
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER
from mmdiff2in1.synthesis import SampleStore, prepare
from mmdiff2in1.synthesis.upkeep import dry_run

from .chain import check_before, draw_curves, train
from .control import equal_control
from .recipes import make_self_improving
from .scoring import better_by, chosen_metric, evaluator_of, scores
from .stages import store_of, warmup_config
from .wrapping import changed_and_wrapped

RESULTS = 'distillation.json'


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Settings of a distillation: from whom, and how.

    Attributes:
        teachers: dict(config=…, checkpoint=…) of each; several are an ensemble.
        settings: Further settings of `make_self_improving`: `diffusion`, `num_samples`, `soft`, `per_step`, …
        changes: To the whole config, by dotted keys, as ``--cfg-options`` gives them.
        student_score: What the student reaches alone, on its validation set, where it is known.
        control: Train the student without created images as well, on twice as many real ones per step.
        metric: Name of the number that is compared; None: mIoU, rmse of depth, mean angle of normals.
    """

    teachers: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    student_score: float | None = None
    control: bool = False
    metric: str | None = None

    def config(self, student: Config) -> Config:
        """The whole config: the plain student's, by the preset `distil`."""

        def wrap(cfg: Config) -> Config:
            teachers = [dict(each) for each in self.teachers]
            make_self_improving(cfg, preset='distil', teacher=teachers, **self.settings)
            return cfg

        return changed_and_wrapped(plain_config(student), self.changes, wrap)


def distil(student: Config, asked: Distillation, work_dir: str | Path, resume: bool = False) -> dict[str, Any]:
    """Scores teacher and student, trains the student on real and created images, and scores it again.

    Under torchrun every process calls this.

    Args:
        student: Config of a plain segmentor; of a self-improving one its segmentor is taken. Its `load_from`, if any,
            is the student as it is, from which the training starts.
        asked: Teachers and settings.
        work_dir: Gets ``student`` and, where it is asked for, ``control``, each with the stages of a chain, and
            ``distillation.json``.
        resume: Unfinished stages go on from their last checkpoint.

    Returns:
        What the file holds: ``metric``, the scores ``teacher``, ``alone`` (with ``alone_is``, where it comes from) and
        ``student``, ``share_closed`` of the distance from alone to teacher (None where there is none), ``verdict``.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: See `train`; a config without a validation set.
    """
    work_dir, cfg = Path(work_dir), asked.config(student)
    launcher_of_environment()
    judge = Judge(cfg, asked)
    check(cfg, asked, work_dir, resume)
    found = judge.before()
    for line in judge.advice(found):
        print_log(line, 'current', logging.WARNING)
    results = train(copy.deepcopy(cfg), work_dir / 'student', resume)
    found['student'] = judge.trained(cfg, results, 'student')
    if asked.control:
        control = equal_control(cfg)
        results = train(copy.deepcopy(control), work_dir / 'control', resume)
        found |= dict(alone=judge.trained(control, results, 'control'), alone_is='control of equal batch')
        if is_main_process():
            draw_curves(work_dir / 'student', work_dir / 'control')
    found = judge.verdict(found)
    if is_main_process():
        write_atomically(work_dir / RESULTS, (json.dumps(found, indent=2) + '\n').encode())
    return found


def plan(student: Config, asked: Distillation, work_dir: str | Path) -> Iterator[str]:
    """Lines that say what `distil` would do, and whether the teacher is worth it; nothing is written."""
    work_dir, cfg = Path(work_dir), asked.config(student)
    judge = Judge(cfg, asked)
    check(cfg, asked, work_dir)
    found = judge.before()
    yield ', '.join(f'{key}: {value:.4g}' for key, value in found.items() if isinstance(value, float))
    yield from judge.advice(found)
    yield 'labels: made anew in every step' if asked.settings.get('per_step') else 'labels: written once, in the store'
    store = store_of(cfg, work_dir / 'student')
    if (cfg.get('stages') or {}).get('synthesis') and store is not None:
        yield from dry_run(prepare(cfg), SampleStore(store))


def check(cfg: Config, asked: Distillation, work_dir: Path, resume: bool = False) -> None:
    """Finds what would end a training, before anything is scored.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: See `train`.
    """
    check_before(copy.deepcopy(cfg), work_dir / 'student', resume)
    if asked.control:
        check_before(equal_control(cfg), work_dir / 'control', resume)


def plain_config(student: Config) -> Config:
    """The config of the plain student: itself, or what a self-improving one wraps."""
    cfg = copy.deepcopy(student)
    if type_name(cfg.model) != 'SelfImprovingSegmentor':
        return cfg
    cfg.stages = dict(warmup={})
    plain = warmup_config(cfg, Path())
    plain.pop('work_dir')
    if type_name(plain.train_dataloader.dataset) == 'SyntheticSampleDataset':
        plain.train_dataloader.dataset = plain.train_dataloader.dataset.dataset
    return plain


class Judge:
    """Scores of teacher and student on the validation set of a config, and what they say."""

    def __init__(self, cfg: Config, asked: Distillation) -> None:
        self.cfg, self.asked = cfg, asked
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        if not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
            raise ValueError(
                'the config has no val_dataloader and val_evaluator: without a validation set nobody can say whether '
                'the teacher is better than the student; add them, see configs/_base_/datasets/scenes.py'
            )
        evaluator = evaluator_of(cfg, 'val')
        if asked.metric is not None:
            check_figure(asked.metric, evaluator, '--metric')
        _, model, task = model_config(cfg)
        with kept_randomness(), building(model, 'model'):
            self.segmentor = MODELS.build(model)
        self.tasks = build_tasks(task, self.segmentor)
        self.classes = dataset_meta_of(cfg).get('classes')
        names = figure_names(evaluator)
        if names is not None:
            chosen_metric(dict.fromkeys(names, 0.0), self.tasks, asked.metric)

    def before(self) -> dict[str, Any]:
        """``metric``, ``teacher``, and ``alone`` where it is known: given, or of the checkpoint in `load_from`."""
        listed = [dict(each) for each in self.asked.teachers]
        mirrored, scales = self.asked.settings.get('mirrored', False), self.asked.settings.get('scales', (1.0,))
        metrics = self._scores(TeacherSettings.parse(listed, mirrored, scales), 'scoring the teacher')
        name = chosen_metric(metrics, self.tasks, self.asked.metric)
        found: dict[str, Any] = dict(metric=name, teacher=metrics[name], alone=None, alone_is=None)
        start = self.cfg.get('load_from')
        if self.asked.student_score is not None:
            found |= dict(alone=float(self.asked.student_score), alone_is='given')
        elif start and not (self.cfg.get(MAY_DIFFER) or still_to_learn(start)):
            as_it_is = TeacherSettings((dict(config=self.cfg, checkpoint=start),))
            metrics = self._scores(as_it_is, 'scoring the student')
            found |= dict(alone=metrics[name], alone_is=f'as it is: {start}')
        return found

    def trained(self, cfg: Config, results: Mapping[str, Any], title: str) -> float:
        """Score of θ_C after a training."""
        checkpoint = results['self_improving']['checkpoint']
        metrics = self._scores(TeacherSettings((dict(config=cfg, checkpoint=checkpoint),)), f'scoring the {title}')
        return metrics[chosen_metric(metrics, self.tasks, self.asked.metric)]

    def advice(self, found: Mapping[str, Any]) -> list[str]:
        """Lines to print before the work; none where the teacher is better."""
        name, teacher, alone = (found[key] for key in ('metric', 'teacher', 'alone'))
        if alone is None:
            return [
                f'the teacher has {name} {teacher:.4g} on val; what the student reaches alone is not known: give '
                '--student-score, a trained student in load_from, or --control, so that the gain can be told'
            ]
        if better_by(name, teacher, alone) > 0:
            return []
        return [
            f'THE TEACHER IS NOT BETTER: {name} {teacher:.4g} on val, the student alone {alone:.4g}. Labels of such a '
            'teacher hold nothing that the student lacks, and created images add none. Take a teacher that was trained '
            'on more labels or is larger, several of them, or mirrored and larger views; or give the student images '
            'with true labels (docs/recipes.md)'
        ]

    def verdict(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """With ``share_closed`` and the ``verdict`` in a line."""
        name, teacher, alone, after = (found[key] for key in ('metric', 'teacher', 'alone', 'student'))
        if alone is None:
            return dict(found, share_closed=None, verdict=f'{name} on val: teacher {teacher:.4g}, student {after:.4g}')
        distance, gained = better_by(name, teacher, alone), better_by(name, after, alone)
        share = gained / distance if distance > 0 else None
        if share is None:
            closed = 'the teacher is not better'
        else:
            closed = f'{share:.0%} of the distance is closed' if share > 0 else 'none of the distance is closed'
        text = (
            f'{name} on val: student alone {alone:.4g} ({found["alone_is"]}), distilled {after:.4g}, teacher '
            f'{teacher:.4g}: {closed}'
        )
        return dict(found, share_closed=share, verdict=text)

    def _scores(self, settings: TeacherSettings, title: str) -> dict[str, float]:
        return scores(self.cfg, Teachers(settings, self.tasks, self.classes), self.segmentor, title)
