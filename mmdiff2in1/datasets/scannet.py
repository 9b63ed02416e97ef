"""ScanNet surface normals, made by FrameNet from the meshes."""

from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset

_LAYOUTS = {
    'framenet': dict(
        data_prefix=dict(img_path='scannet-frames', normal_map_path='scannet-frames'),
        img_suffix='-color.png',
        seg_map_suffix='-normal.png',
        mask_suffix='-orient-mask.png',
        list_root='scannet-frames',
        label_axes=('-x', '-y', '-z'),
    ),
    'dsine': dict(
        data_prefix=dict(img_path='', normal_map_path=''), img_suffix='_img.png', seg_map_suffix='_normal.png'
    ),
}


@DATASETS.register_module()
class ScanNetNormalDataset(DenseMapDataset):
    """FrameNet's normals of ScanNet frames, (n + 1) / 2 in 8 bits.

    FrameNet's own files point the other way and are multiplied by −1 (github baegwangbin/surface_normal_uncertainty,
    issues 3 and 5), and they are known where `-orient-mask.png` is not 0 (hjwdzh/FrameNet, its data set class). In
    DSINE's pack, whose loader reads NYUv2 and ScanNet alike and turns neither, that is done already, and black is
    unknown.

    | layout | below data_root | ann_file |
    | --- | --- | --- |
    | framenet | scannet-frames/scene0000_00/frame-000000-{color,normal,orient-mask}.png | see below |
    | dsine | scene0000_00/000000_{img,normal}.png | DSINE's test.txt: 300 frames |

    Without the masks, `mask_suffix=None`. FrameNet's split comes as a pickle:
    tools/dataset_converters/framenet_splits.py makes lists of it, with --every 200 that of the frames which FrameNet
    tests on.

    Args:
        layout: 'framenet' or 'dsine'.
        **kwargs: See `DenseMapDataset`; what is given here goes before what the layout says.
    """

    def __init__(self, layout: str = 'framenet', **kwargs) -> None:
        if layout not in _LAYOUTS:
            raise ValueError(f'layout={layout!r}: expected one of {", ".join(_LAYOUTS)}')
        self.layout = layout
        super().__init__(**(_LAYOUTS[layout] | kwargs))
