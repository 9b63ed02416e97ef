"""A trained model from its config and its checkpoint, frozen, with the tasks and classes that it knows.

θ_C is `creator`. C channels of an output.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from torch import Tensor

from mmdiff2in1.core.building import building
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.datasets.dataset_meta import dataset_meta_of
from mmdiff2in1.tasks import TaskSet

from ..checkpoints import load_weights
from .construction import build_tasks
from .parameter_pairs import named_tensors


@dataclass
class Teacher:
    """A segmentor that labels; in eval mode, without gradients.

    Attributes:
        segmentor: Any mmseg segmentor.
        tasks: What it predicts.
        classes: The names of its classes, where they are known.
    """

    segmentor: Any
    tasks: TaskSet
    classes: tuple[str, ...] | None = None

    @classmethod
    def load(
        cls, config: str | Path | Mapping, checkpoint: str | Path, classes: Sequence[str] | None = None
    ) -> 'Teacher':
        """Builds and loads one.

        Args:
            config: Path of a config, a config, or the config of a model alone: of any segmentor; of a
                `SelfImprovingSegmentor` θ_C is taken.
            checkpoint: Of it, see `load_weights`.
            classes: Its class names; None: those of the checkpoint or of the config's data set.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: No such files, or weights that do not fit.
        """
        whole, model, task = model_config(config)
        scope = DefaultScope.overwrite_default_scope(whole.get('default_scope') or 'mmseg')
        with scope, building(model, 'model of the teacher'):
            segmentor = MODELS.build(model)
        meta = load_weights(segmentor, checkpoint)
        named = classes or (meta.get('dataset_meta') or {}).get('classes') or dataset_meta_of(whole).get('classes')
        tasks = build_tasks(task, segmentor)
        return cls(segmentor.requires_grad_(False).eval(), tasks, tuple(named) if named else None)

    def to(self, device: torch.device) -> None:
        """Moves it, and the mean of its data preprocessor with it."""
        if next(self.segmentor.parameters()).device != device:
            self.segmentor.to(device)

    def mark(self) -> str:
        """Hash of its weights, its layers and its data preprocessor."""
        preprocessor = self.segmentor.data_preprocessor
        shown = [(key, getattr(preprocessor, key, None)) for key in ('_channel_conversion', 'pad_val', 'test_cfg')]
        digest = hashlib.sha256(repr((self.segmentor, self.segmentor.test_cfg, shown)).encode())
        for name, tensor in sorted(named_tensors(self.segmentor), key=lambda pair: pair[0]):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def check(self, student: TaskSet, classes: Sequence[str] | None = None) -> None:
        """Refuses a student that it cannot label for.

        Raises:
            ValueError: It lacks a task, or has it with other channels or other classes.
        """
        for name, task in student.items():
            if name not in self.tasks or type(self.tasks[name]) is not type(task):
                raise ValueError(f'the teacher predicts {", ".join(self.tasks)}; the student needs {name!r} of it, too')
            found = self.tasks[name].channels
            if found != task.channels:
                what = 'classes' if task.num_classes else 'channels'
                raise ValueError(
                    f'the teacher has {found} {what} for {name}, the student {task.channels}: both must have the same '
                    'ones in the same order; take a teacher that was trained on this set'
                )
            if task.num_classes and self.classes and classes:
                _check_names(self.classes, classes)

    def output_for(self, student: TaskSet, output: Tensor) -> Tensor:
        """The part of its output (S, C, H, W) that a student has, in the student's order and as its heads give it."""
        parts = self.tasks.split(output)
        return torch.cat([self.tasks[name].output_for(task, parts[name]) for name, task in student.items()], dim=1)


def model_config(config: str | Path | Mapping) -> tuple[Mapping, ConfigDict, Any]:
    """(the whole config, the config of its segmentor with a data preprocessor, `task` of a wrapper) of a teacher.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No model in it.
    """
    whole = read_config(config) if isinstance(config, str | Path) else config
    if 'model' not in whole and 'type' not in whole:
        raise ValueError(f'the config of a teacher holds {", ".join(whole)}; expected a model, or the config of one')
    if whole.get('custom_imports'):
        import_modules_from_strings(**whole['custom_imports'])
    model = ConfigDict(copy.deepcopy(dict(whole['model'] if 'model' in whole else whole)))
    outer, task = model.get('data_preprocessor'), None
    if model.get('segmentor'):  # self-improving: θ_C is one such segmentor
        task, model = model.get('task'), model.segmentor
    for given in (outer, whole.get('data_preprocessor')):
        if model.get('data_preprocessor') is None and given is not None:
            model.data_preprocessor = copy.deepcopy(given)
    return whole, model, task


def _check_names(found: Sequence[str], expected: Sequence[str]) -> None:
    pairs = zip(found, expected, strict=False)
    differing = [(i, a, b) for i, (a, b) in enumerate(pairs) if str(a).lower() != str(b).lower()]
    if differing:
        index, theirs, ours = differing[0]
        raise ValueError(
            f'class {index} is {theirs!r} for the teacher and {ours!r} for the student; {len(differing)} of '
            f"{len(found)} names differ. If they mean the same, say so: teacher=dict(…, classes=[the student's names])"
        )
