"""The Scenes set as an mmseg dataset, with the paper's data-efficiency setting: a seeded draw of the labels."""

import json
import os.path as osp

import numpy as np
from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .scenes import CLASSES, PALETTE, VERSION


@DATASETS.register_module()
class ScenesDataset(BaseSegDataset):
    """One part of the set that `tools/dataset_converters/make_scenes.py` writes.

    Args:
        num_labelled: Use only so many images of the part, drawn without replacement; None: all of them. A smaller
            draw with the same seed is contained in a larger one, so sizes can be compared.
        subset_seed: Seed of the draw.
        data_prefix: Folders under `data_root`. Of `depth_map_path` and `normal_map_path`, each one that is given adds
            the path of that label to every sample, under the same key.
        **kwargs: See `BaseSegDataset`.

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
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        **kwargs,
    ) -> None:
        self.num_labelled = num_labelled
        self.subset_seed = subset_seed
        super().__init__(data_prefix=data_prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Samples in order of their file names; see `BaseSegDataset`."""
        images = self.data_prefix['img_path']
        if not fileio.isdir(images, backend_args=self.backend_args):
            raise FileNotFoundError(f'{images} is not there; make it with tools/dataset_converters/make_scenes.py')
        samples = super().load_data_list()
        if not samples:
            raise FileNotFoundError(f'{images} holds no {self.img_suffix} images; make the set anew')
        for key in ('depth_map_path', 'normal_map_path'):
            if key in self.data_prefix:
                for sample in samples:
                    stem = osp.splitext(osp.relpath(sample['img_path'], images))[0]
                    sample[key] = osp.join(self.data_prefix[key], stem + self.seg_map_suffix)
        self._check_labels(samples)
        self._check_version()
        return self._draw(samples)

    def _check_version(self) -> None:
        path = osp.join(self.data_root or '', 'meta.json')
        if self.data_prefix.get('normal_map_path') and osp.isfile(path):
            with open(path, encoding='utf-8') as file:
                version = json.load(file).get('version', 0)
            if version < 2:
                raise ValueError(
                    f'{path}: found version {version}, whose normals have x to the right; expected version {VERSION}. '
                    f'Make the set anew: python tools/dataset_converters/make_scenes.py --out FOLDER'
                )

    def _check_labels(self, samples: list[dict]) -> None:
        for key in ('seg_map_path', 'depth_map_path', 'normal_map_path'):
            if not self.data_prefix.get(key):
                continue
            folder = self.data_prefix[key]
            there = set()
            if fileio.isdir(folder, backend_args=self.backend_args):
                names = fileio.list_dir_or_file(
                    folder, list_dir=False, suffix=self.seg_map_suffix, recursive=True, backend_args=self.backend_args
                )
                there = {osp.join(folder, name) for name in names}
            missing = [sample[key] for sample in samples if sample[key] not in there]
            if missing:
                raise FileNotFoundError(
                    f'{len(missing)} of {len(samples)} images have no label, the first is {missing[0]}; make the set '
                    f'anew, or leave {key} out of data_prefix (the part unlabelled has none)'
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
