"""The labelling stage of a chain, between synthesis and training; and teachers that are looked at before all stages."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, init_default_scope

from mmdiff2in1.core.devices import check_device
from mmdiff2in1.datasets.dataset_meta import dataset_meta_of
from mmdiff2in1.labelling import LabellingSettings, label_store, labelling_of
from mmdiff2in1.labelling.label_store import is_labelled
from mmdiff2in1.labelling.settings import student_tasks
from mmdiff2in1.models.self_improving import LabelRule, Teachers
from mmdiff2in1.models.self_improving.construction import build_rule
from mmdiff2in1.models.self_improving.label_rules.teacher_settings import CREATOR
from mmdiff2in1.synthesis import SampleStore


def rule_of(model: Mapping) -> LabelRule:
    """The label rule of the config of a self-improving model.

    Raises:
        ValueError: Settings that it refuses, or several rules.
    """
    with DefaultScope.overwrite_default_scope('mmseg'):
        return build_rule(model.get('label_rule'), model.get('min_confidence'), bool(model.get('use_stored_labels')))


def check_teachers(cfg: Config) -> None:
    """Loads the teachers of a config once, so that one that does not fit is found before hours of creation.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: No such files or device; a teacher that does not fit.
    """
    if (cfg.get('stages') or {}).get('labelling'):
        device = LabellingSettings.from_cfg(cfg).device
        if device:
            check_device(device, 'stages.labelling.device')
        for teacher in labelling_of(cfg).teachers.load():
            kind = type(teacher.segmentor).__name__
            if hasattr(teacher.segmentor, 'conditioned'):
                raise ValueError(
                    f'the teacher is a {kind}, which must be told what each image shows, and '
                    'a store does not say it; label in every step (label_rule), or take another teacher'
                )
        return
    asked = rule_of(cfg.model).teachers
    if asked is not None and asked.teachers != (CREATOR,):
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        Teachers(asked, student_tasks(cfg), dataset_meta_of(cfg).get('classes')).load()


def check_labels(cfg: Config) -> None:
    """Labels that a stage is going to write must be read.

    Raises:
        ValueError: They are not.
    """
    labels, rule = cfg.train_dataloader.dataset.get('labels'), rule_of(cfg.model)
    if not cfg.stages.get('labelling'):
        _warn_of_labels(cfg, labels, rule)
        return
    LabellingSettings.from_cfg(cfg)
    if labels != 'stored' or not rule.reads_given:
        raise ValueError(
            f'stages.labelling writes labels, but train_dataloader.dataset.labels is {labels!r} and model.label_rule '
            f"{type(rule).__name__}; expected labels='stored' and dict(type='GivenLabel')"
        )


def _warn_of_labels(cfg: Config, labels: str | None, rule: LabelRule) -> None:
    """Says what is created and then not taught, or taught otherwise, where nobody writes labels."""
    synthesis = cfg.stages.get('synthesis') or {}
    if synthesis.get('layout') and not (rule.reads_given and labels == 'stored'):
        print_log(
            f'stages.synthesis.layout composes true labels, but nobody reads them: labels={labels!r} of '
            f"train_dataloader.dataset, label_rule {type(rule).__name__}; expected labels='stored' and "
            "dict(type='GivenLabel')",
            'current',
            logging.WARNING,
        )
    if synthesis.get('unlabelled') and not rule.reads_outputs:
        print_log(
            f'stages.synthesis.unlabelled: nobody labels these images, and {type(rule).__name__} teaches nothing with '
            'them, unless their labels are in the store already; name a teacher (stages.labelling), or leave them out',
            'current',
            logging.WARNING,
        )


def label(cfg: Config, store: Path, poll_seconds: float = 15.0) -> None:
    """Each process labels its share of the samples; none waits inside a collective while others work."""
    settings, labelling = LabellingSettings.from_cfg(cfg), labelling_of(cfg)
    samples, world_size = SampleStore(store), int(os.environ.get('WORLD_SIZE', 1))
    label_store(
        samples,
        labelling,
        batch_size=settings.batch_size,
        device=settings.device,
        replace=settings.replace,
        rank=get_rank(),
        world_size=world_size,
        progress=is_main_process(),
    )
    names = list(labelling.tasks)
    while not all(is_labelled(record, names, labelling.mark, samples) for record in samples.records()):
        time.sleep(poll_seconds)
    barrier()
