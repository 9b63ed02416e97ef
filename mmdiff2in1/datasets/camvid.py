"""CamVid: road scenes, 11 classes, in the copy that SegNet's authors prepared (480 × 360)."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """Images and label PNGs of the same name; labels 0 … 10 are classes, 11 is unlabelled (ignored).

    Layout: ``images/{train,val}/*.png``, ``annotations/{train,val}/*.png``. The losses must ignore 11 as well
    (``ignore_index=11`` of the decode head).
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

    def __init__(self, img_suffix: str = '.png', seg_map_suffix: str = '.png', ignore_index: int = 11, **kwargs):
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs)
