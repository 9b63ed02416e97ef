"""The warm-up of a config of Scenes with cached views beside the same without, in pairs, from files to weights.

And that of VPD at the size of Stable Diffusion 1.5, frozen, on scenes of 512 × 512.
"""

import copy
import time
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.training.cached_views import with_cached_views
from mmdiff2in1.training.runs import build_runner
from mmdiff2in1.training.stages import warmup_config

from .cells import FULL_VIEWS, Cell
from .model import segmentor_config

CONFIGS = Path(__file__).parents[2] / 'configs' / 'baselines'
LABELLED, VIEWS = 60, 8
STEPS = 5
"""Of one side of a pair."""
FULL_SIZE = dict(labelled=2, views=1, steps=1)
"""In their place where an image takes ten seconds."""
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]


class Pairs:
    """Steps of two trainings in turns, so that what else the machine does falls on both alike.

    Args:
        cell: ``bf16``: as ``--amp`` trains; ``channels_last``: with a ChannelsLastHook.

    Attributes:
        images_per_second: Of each pair those without and with cached views.
        notes: What the JSON line is to hold.
    """

    def __init__(self, cell: Cell) -> None:
        init_default_scope('mmseg')
        self._batch, self._folder = cell.batch, TemporaryDirectory()  # gone when the process ends
        folder, is_full = Path(self._folder.name), cell.case == FULL_VIEWS
        counts = FULL_SIZE if is_full else dict(labelled=LABELLED, views=VIEWS, steps=STEPS)
        labelled, views, self._steps = counts['labelled'], counts['views'], counts['steps']
        make_scenes(folder / 'scenes', {'train': labelled}, size=cell.size, workers=1, progress=False)
        name = 'vpd_scenes' if is_full else cell.warmup
        cfg = Config.fromfile(CONFIGS / f'{name}.py', format_python_code=False)
        stage = warmup_config(cfg, folder / 'warmup')
        stage.train_dataloader.dataset.dataset.update(data_root=str(folder / 'scenes'), num_labelled=labelled)
        if is_full:
            stage.model = ConfigDict(segmentor_config(cell, folder))
            stage.model.data_preprocessor.update(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
            stage.train_dataloader.dataset.dataset.pipeline = PIPELINE
        stage.train_dataloader.batch_size = cell.batch
        stage.val_dataloader = stage.val_cfg = stage.val_evaluator = None
        stage.train_cfg.pop('val_interval', None)
        stage.log_level = 'ERROR'
        if cell.precision == 'bf16':
            stage.optim_wrapper.type = 'BF16OptimWrapper'
        cached = copy.deepcopy(stage)
        cached.cached_views = dict(views=views, folder=str(folder / 'views'))
        start = time.perf_counter()
        cached = with_cached_views(cached)
        seconds = time.perf_counter() - start
        self._sides = [_Training(each, cell) for each in (stage, cached)]
        self.images_per_second: list[list[float]] = []
        self.notes = dict(images_per_second=self.images_per_second, views=views, seconds_caching=seconds)

    def warm_up(self) -> None:
        """A pair that does not count."""
        self.step()
        self.images_per_second.clear()

    def step(self) -> None:
        """One pair; every other one the other way round."""
        found = [0.0, 0.0]
        for side in (0, 1) if len(self.images_per_second) % 2 else (1, 0):
            start = time.perf_counter()
            self._sides[side].run(self._steps)
            found[side] = self._steps * self._batch / (time.perf_counter() - start)
        self.images_per_second.append(found)


class _Training:
    """A runner's own loader, model and optimizer, without its hooks."""

    def __init__(self, cfg: Config, cell: Cell) -> None:
        runner = build_runner(cfg)
        self._model, loader = runner.model.train(), runner.build_dataloader(runner._train_dataloader, seed=0)
        if 'channels_last' in cell.options:
            self._model.to(memory_format=torch.channels_last)
        self._optimizer: Any = runner.build_optim_wrapper(runner.optim_wrapper)
        self._batches = chain.from_iterable(repeat(loader))

    def run(self, steps: int) -> None:
        """So many optimizer steps."""
        for _ in range(steps):
            self._model.train_step(next(self._batches), self._optimizer)
