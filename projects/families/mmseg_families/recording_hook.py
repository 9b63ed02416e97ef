"""A hook that writes down what is compared: the losses of each step, and what is predicted for each test image."""

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file

LOSSES, PREDICTIONS = 'losses.jsonl', 'predictions.pt'
OUTPUTS = ('seg_logits', 'pred_depth_map', 'pred_sem_seg')
"""Of a data sample: the first that is there."""


@HOOKS.register_module()
class RecordingHook(Hook):
    """Fills `LOSSES`, a line per step in full precision, and `PREDICTIONS`, an output (C, H, W) per image.

    Of several processes the first one writes what it has seen.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Begins the file anew."""
        if is_main_process():
            Path(runner.work_dir, LOSSES).write_text('')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Adds the terms of a step."""
        if not is_main_process():
            return
        terms = {name: float(value) for name, value in outputs.items()}
        with Path(runner.work_dir, LOSSES).open('a') as file:
            file.write(json.dumps(terms) + '\n')

    def before_test(self, runner: Runner) -> None:
        """Forgets what was predicted before."""
        self._predicted: list[Tensor] = []

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keeps the outputs of a batch."""
        for sample in outputs:
            name = next(name for name in OUTPUTS if name in sample)
            self._predicted.append(getattr(sample, name).data.float().cpu())

    def after_test(self, runner: Runner) -> None:
        """Writes them."""
        if is_main_process():
            torch.save(self._predicted, Path(runner.work_dir, PREDICTIONS))


def recorded_losses(work_dir: Path) -> list[dict[str, float]]:
    """The terms of each step of a run."""
    return [json.loads(line) for line in (work_dir / LOSSES).read_text().splitlines()]


def recorded_predictions(work_dir: Path) -> list[Tensor]:
    """The outputs (C, H, W) for the images of a test."""
    return read_checkpoint_file(work_dir / PREDICTIONS)
