"""CamVid: road scenes, 11 classes, in the copy that SegNet's authors prepared (480 × 360)."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .label_draw import draw_labelled


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """Images and label PNGs of the same name; labels 0 … 10 are classes, 11 is unlabelled (ignored).

    Layout: ``images/{train,val}/*.png``, ``annotations/{train,val}/*.png``. The losses must ignore 11 as well
    (``ignore_index=11`` of the decode head).

    Args:
        num_labelled: Use only so many images of the part, see `draw_labelled`; None: all of them.
        subset_seed: Seed of the draw.
        img_suffix: See `BaseSegDataset`, as all that follows.
        seg_map_suffix: The same.
        ignore_index: The same.
        **kwargs: The same.

    Raises:
        ValueError: `num_labelled` below 1 or above the number of images.
    """

    METAINFO = dict(
        classes=(
            'Sky',
            'Building',
            'Pole',
            'Road',
            'Pavement',
            'Tree',
            'SignSymbol',
            'Fence',
            'Car',
            'Pedestrian',
            'Bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self,
        num_labelled: int | None = None,
        subset_seed: int = 0,
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        ignore_index: int = 11,
        **kwargs,
    ) -> None:
        self.num_labelled = num_labelled
        self.subset_seed = subset_seed
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Samples in order of their file names."""
        samples = super().load_data_list()
        return draw_labelled(samples, self.num_labelled, self.subset_seed, self.data_prefix['img_path'])
