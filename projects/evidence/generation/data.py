"""The parts of the Scenes set that the generator is judged on, and which of their images carry labels.

N images of H × W pixels, uint8.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from images.pools import TASKS, scenes_part
from mmengine.config import Config

from mmdiff2in1.datasets import ScenesDataset

PARTS = ('train', 'val', 'test')
CLASSES_TASK = {'semantic_segmentation': TASKS['scenes']['semantic_segmentation']}


@dataclass(frozen=True)
class Part:
    """A part of the set in memory.

    Attributes:
        names: File names, sorted.
        images: RGB (N, H, W, 3).
        captions: One per image.
        labels: Classes (N, H, W).
    """

    names: list[str]
    images: np.ndarray
    captions: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: np.ndarray) -> 'Part':
        """The images at the positions `chosen`, in that order."""
        names, captions = ([values[i] for i in chosen] for values in (self.names, self.captions))
        return Part(names, self.images[chosen], captions, self.labels[chosen])


def read_part(root: Path, part: str) -> Part:
    """Images, captions and classes of `root`/`part`; raises what `scenes_part` does."""
    pool = scenes_part(root, part, CLASSES_TASK)
    labels = pool.targets['semantic_segmentation'][:, 0].numpy()
    return Part(pool.names, pool.images.permute(0, 2, 3, 1).contiguous().numpy(), pool.captions, labels)


def labelled_positions(root: Path, train: Part, num_labelled: int, subset_seed: int) -> np.ndarray:
    """Positions in `train` of the images that a training with these settings of ScenesDataset sees labels of."""
    drawn = scenes_part(root, 'train', {}, num_labelled, subset_seed)
    return np.array([train.names.index(name) for name in drawn.names])


def labelled_settings(cfg: Config) -> tuple[int | None, int]:
    """`num_labelled` and `subset_seed` of the ScenesDataset that a config trains on, however it is wrapped.

    Raises:
        ValueError: The config trains on something else.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while dataset and dataset.get('type') not in ('ScenesDataset', ScenesDataset):
        dataset = dataset.get('dataset') or {}
    if not dataset:
        raise ValueError(f'{cfg.filename}: train_dataloader holds no ScenesDataset; which images are labelled?')
    return dataset.get('num_labelled'), dataset.get('subset_seed', 0)


def source_positions(labelled: np.ndarray, total: int, samples: int) -> np.ndarray:
    """Positions of `samples` sources out of `total`: labelled ones first, at most half, then the others in order."""
    others = np.setdiff1d(np.arange(total), labelled)
    # With nearly all images asked for, the others do not fill their half.
    count = min(len(labelled), max(samples // 2, samples - len(others)))
    return np.concatenate([labelled[:count], others[: samples - count]])
