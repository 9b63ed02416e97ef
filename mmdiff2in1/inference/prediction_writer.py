"""Predictions of a test set as files: label maps, and pictures beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdiff2in1.core.image_loading import picture_reader
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.tasks import DenseTask, TaskSet
from mmdiff2in1.visualization import Perceived, prediction_panel

from .perception import tasks_of

TITLES = {'creator': 'θ_C', 'exploiter': 'θ_E', None: 'prediction'}


class PredictionWriter(Hook):
    """Writes label maps, and once the last model has predicted an image, one picture of all that is seen in it.

    Label maps of several models have a folder for each, of several tasks as well: `<model>/<task>/<image>.png`.

    Args:
        runner: Whose test set is predicted.
        maps: Folder of the label maps.
        pictures: Folder of the pictures, or None.
        models: In the order in which they are tested.

    Attributes:
        which: The model that predicts now.
    """

    priority = 'LOW'

    def __init__(self, runner: Runner, maps: Path, pictures: Path | None, models: Sequence[str | None]) -> None:
        self.maps, self.pictures, self.models, self.which = maps, pictures, models, models[0]
        self.dataset = runner.test_loop.dataloader.dataset
        self.picture_of = picture_reader(self.dataset)
        model = segmentor_of(runner)
        one_model = getattr(model, 'under_evaluation', model)
        self.tasks: TaskSet = tasks_of(one_model, self.dataset.metainfo, getattr(model, 'tasks', None))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """One batch of samples with predictions."""
        for sample in outputs or ():
            name = self._name(sample.img_path)
            for task_name, task in self.tasks.items():
                found = task.encode(task.predicted_map(sample)) + _shift(sample, task)
                write_png(self._file(self.which, task_name, name), found)
            if self.pictures and self.which == self.models[-1]:
                write_png(self.pictures / name, self._picture(sample, name))

    def _picture(self, sample, name: Path) -> np.ndarray:
        """The image, the truth and what each model sees: of several tasks a row for each."""
        image, rows = self.picture_of(sample.img_path), []
        for task_name, task in self.tasks.items():
            shift = _shift(sample, task)
            before = [task.decode(read_png(self._file(m, task_name, name)) - shift) for m in self.models[:-1]]
            truth = sample.get(task.field)
            rows.append(
                Perceived(
                    image=image,
                    truth=None if truth is None else task.to_map(truth.data),
                    predictions=[*before, task.predicted_map(sample)],
                    caption='' if rows else name.as_posix(),
                )
            )
        models = [TITLES[model] for model in self.models]
        return prediction_panel(rows, self.tasks.only if len(rows) == 1 else list(self.tasks.values()), models)

    def _name(self, image: str) -> Path:
        """The image's path below the image folder of the data set, as PNG; its file name where there is none."""
        folder = getattr(self.dataset, 'data_prefix', {}).get('img_path')
        path = Path(image)
        inside = folder and path.is_relative_to(folder)
        return (path.relative_to(folder) if inside else Path(path.name)).with_suffix('.png')

    def _file(self, which: str | None, task_name: str, name: Path) -> Path:
        folder = self.maps / which if len(self.models) > 1 else self.maps
        return folder / (task_name if len(self.tasks) > 1 else '') / name


def _shift(sample, task: DenseTask) -> np.uint8:
    """mmseg has moved such classes down by one while loading: label files start at one, 0 is ignored."""
    return np.uint8(bool(sample.metainfo.get('reduce_zero_label')) and task.path_key == 'seg_map_path')


def segmentor_of(runner: Runner) -> nn.Module:
    """The model inside the wrappers for several processes and for test-time augmentation."""
    model = runner.model
    while hasattr(model, 'module'):
        model = model.module
    return model
