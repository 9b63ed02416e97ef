"""The parts of the Scenes set that the generator is judged on, and which of their images carry labels.

N images of H × W pixels, uint8.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.datasets import ScenesDataset
from mmdiff2in1.diffusion.image_folder import ImageCaptionFolder
from mmdiff2in1.synthesis import read_captions
from mmdiff2in1.synthesis.images import image_size

PARTS = ('train', 'val', 'test')


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
    """Images, captions and classes of `root`/`part`.

    Raises:
        FileNotFoundError: Something is missing; make the set with tools/dataset_converters/make_scenes.py.
        ValueError: An image cannot be read or has no caption, or a label is not of its size.
    """
    folder = root / part / 'images'
    first = next(iter(sorted(folder.glob('*.png'))), None)
    if first is None:
        raise FileNotFoundError(f'{folder} holds no images; make them with tools/dataset_converters/make_scenes.py')
    found = ImageCaptionFolder(folder, image_size(first), read_captions(root / part / 'captions.jsonl'))
    labels = [np.asarray(Image.open(root / part / 'semantic' / name)) for name in found.names]
    wrong = [name for name, label in zip(found.names, labels, strict=True) if label.shape != found.size]
    if wrong:
        raise ValueError(f'{root / part}: the labels of {len(wrong)} images are not {found.size}, first {wrong[0]}')
    return Part(found.names, found.images.permute(0, 2, 3, 1).numpy(), found.captions, np.stack(labels))


def labelled_positions(root: Path, train: Part, num_labelled: int, subset_seed: int) -> np.ndarray:
    """Positions in `train` of the images that a training with these settings of ScenesDataset sees labels of."""
    prefix = dict(img_path='train/images', seg_map_path='train/semantic')
    drawn = ScenesDataset(num_labelled, subset_seed, prefix, data_root=str(root), pipeline=[])
    names = [Path(drawn.get_data_info(i)['img_path']).name for i in range(len(drawn))]
    return np.array([train.names.index(name) for name in names])


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
