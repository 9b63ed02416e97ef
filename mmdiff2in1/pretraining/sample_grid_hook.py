"""Images from pure noise after each validation: the fastest way to see what a generator has learned."""

from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor

from mmdiff2in1.generators import LatentDiffusion


class SampleGridHook(Hook):
    """Writes ``<work_dir>/samples/iter_<N>.png``, created with the averaged weights.

    Args:
        diffusion: The model in training.
        captions: One per image; 16 make a 4 × 4 grid.
        size: Image height and width.
        columns: Images per row.
        conditions: What each image is to follow, (B, 3, H, W) in [0, 1], drawn on its left; None: nothing.
    """

    # Above EMAHook, which puts the trained weights back in its own after_val_epoch.
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        diffusion: LatentDiffusion,
        captions: list[str],
        size: tuple[int, int],
        columns: int = 4,
        conditions: Tensor | None = None,
    ):
        self.diffusion, self.captions, self.size, self.columns = diffusion, captions, size, columns
        self.conditions = conditions

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draws the grid; the seeds are the same each time, so grids show the progress of the same images."""
        if not is_main_process():
            return
        created = self.diffusion.create(
            captions=self.captions,
            seeds=list(range(len(self.captions))),
            T=self.diffusion.schedule.T_max,
            num_calls=25,
            solver='dpm++',
            guidance_scale=2.0,
            size=self.size,
            conditions=self.conditions,
        ).images
        levels, columns = created.add(1).mul(127.5).cpu(), self.columns
        if self.conditions is not None:
            levels, columns = torch.stack([self.conditions * 255, levels], 1).flatten(0, 1), 2 * columns
        images = levels.round().byte().permute(0, 2, 3, 1).numpy()
        folder = Path(runner.work_dir, 'samples')
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid(images, columns)).save(folder / f'iter_{runner.iter}.png')


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (B, H, W, 3) uint8, row by row, as one; what is left free of the last row is grey."""
    columns = min(columns, len(images))
    free = -len(images) % columns
    cells = np.concatenate([images, np.full((free, *images.shape[1:]), 128, np.uint8)])
    rows, (height, width) = len(cells) // columns, images.shape[1:3]
    return cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
