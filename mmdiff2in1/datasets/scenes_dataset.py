"""The Scenes set as an mmseg dataset, with the paper's data-efficiency setting: a seeded draw of the labels."""

import json
import os.path as osp

from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset
from .label_draw import draw_labelled
from .scenes import CLASSES, PALETTE, VERSION

CURE = 'make the set with mmdiff2in1 scenes --out FOLDER'


@DATASETS.register_module()
class ScenesDataset(DenseMapDataset):
    """One part of the set that `mmdiff2in1 scenes` writes.

    Args:
        num_labelled: Use only so many images of the part, see `draw_labelled`; None: all of them.
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
        return draw_labelled(samples, self.num_labelled, self.subset_seed, self.data_prefix['img_path'])

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
