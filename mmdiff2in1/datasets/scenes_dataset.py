"""The Scenes set as an mmseg dataset, with the paper's data-efficiency setting: a seeded draw of the labels."""

import json
import os.path as osp

import numpy as np
from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset
from .scenes import CLASSES, PALETTE, VERSION

CURE = 'make the set with python tools/dataset_converters/make_scenes.py --out FOLDER'


@DATASETS.register_module()
class ScenesDataset(DenseMapDataset):
    """One part of the set that `tools/dataset_converters/make_scenes.py` writes.

    Args:
        num_labelled: Use only so many images of the part, drawn without replacement; None: all of them. A smaller
            draw with the same seed is contained in a larger one, so sizes can be compared.
        subset_seed: Seed of the draw.
        data_prefix: Folders under `data_root`: `img_path`, and of each kind of label that is wanted its folder, see
            `DenseMapDataset`.
        **kwargs: See `DenseMapDataset`.

    Raises:
        FileNotFoundError: No images, or images without a label file.
        ValueError: `num_labelled` below 1 or above the number of images, or normals of an older version of the set.
    """

    METAINFO = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])

    def __init__(
        self,
        num_labelled: int | None = None,
        subset_seed: int = 0,
        data_prefix: dict[str, str] = dict(img_path='images', seg_map_path='semantic'),  # noqa: B006  copied by the base
        **kwargs,
    ) -> None:
        self.num_labelled = num_labelled
        self.subset_seed = subset_seed
        super().__init__(data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Samples in order of their file names; see `DenseMapDataset`."""
        try:
            samples = super().load_data_list()
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{error}; {CURE}') from error
        self._check_version()
        return self._draw(samples)

    def _check_version(self) -> None:
        path = osp.join(self.data_root or '', 'meta.json')
        if self.data_prefix.get('normal_map_path') and osp.isfile(path):
            with open(path, encoding='utf-8') as file:
                version = json.load(file).get('version', 0)
            if version < 2:
                raise ValueError(
                    f'{path}: found version {version}, whose normals have x to the right; expected version {VERSION}; '
                    f'{CURE}'
                )

    def _draw(self, samples: list[dict]) -> list[dict]:
        if self.num_labelled is None:
            return samples
        if not 1 <= self.num_labelled <= len(samples):
            raise ValueError(
                f'num_labelled={self.num_labelled}: expected 1 to {len(samples)}, the number of images in '
                f'{self.data_prefix["img_path"]}'
            )
        # The first entries of one permutation: a smaller draw is contained in a larger one.
        order = np.random.default_rng(self.subset_seed).permutation(len(samples))
        return [samples[i] for i in sorted(order[: self.num_labelled])]
