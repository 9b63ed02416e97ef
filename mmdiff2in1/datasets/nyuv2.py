"""NYUv2 indoor scenes, 640 × 480: surface normals (795 training, 654 test images) and metric depth."""

import os.path as osp
import re
from typing import Any

from mmseg.datasets import NYUDataset
from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset
from .task_folders import check_setting

VALID_BOX = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows 45 … 470 and columns 41 … 600: the evaluation crop of NYUv2, inside its white border."""

FRAME_BOX = (7 / 480, 474 / 480, 7 / 640, 632 / 640)
"""The box that the white frame of the images leaves free; depth is measured up to it."""

PARTS = ('train', 'test')
_SCENES = NYUDataset.METAINFO['classes']


@DATASETS.register_module()
class NYUv2NormalDataset(DenseMapDataset):
    """Surface normals of NYUv2 as GeoNet made them, in the packs of Bae et al., DSINE or iDisc.

    The files hold (n + 1) / 2 in 8 bits, black where there is no normal, in this package's frame: DSINE's author gives
    it as (x, y, z) = (right, down, front) for the vector *into* the surface, a wall in front is (0, 0, 1) (github
    baegwangbin/DSINE, issues 8 and 12). That is x left, y up, z towards the viewer for the vector out of it. Another
    pack has another frame: set `label_axes`, and ask mmdiff2in1 check. Ladicky's normals need ('-z', '-y', '-x').

    | layout | below data_root | ann_file may be |
    | --- | --- | --- |
    | bae | {train,test}/{img,norm}/000002.png | Bae's nyu_train.txt, nyu_test.txt (image, normal) |
    | idisc | {train,test}/{img,norm}/…, train in a folder per scene type | iDisc's lists (image, depth, normal) |
    | dsine | {train,test}/000002_{img,normal}.png | DSINE's train.txt, test.txt (image) |

    Args:
        layout: 'bae', 'idisc' or 'dsine'.
        part: 'train' or 'test'.
        **kwargs: See `DenseMapDataset`; what is given here goes before what the layout says.
    """

    def __init__(self, layout: str = 'bae', part: str = 'train', **kwargs) -> None:
        check_setting('layout', layout, ('bae', 'idisc', 'dsine'))
        check_setting('part', part, PARTS)
        self.layout, self.part = layout, part
        folders = dict(img_path=f'{part}/img', normal_map_path=f'{part}/norm')
        columns: dict[str, tuple] = {
            'bae': ('img_path', 'normal_map_path'),
            'idisc': ('img_path', None, 'normal_map_path'),
        }
        usual: dict[str, Any] = dict(
            data_prefix=folders, columns=columns.get(layout, ('img_path',)), valid_box=VALID_BOX
        )
        if layout == 'dsine':
            usual |= dict(data_prefix=dict.fromkeys(folders, part), img_suffix='_img.png', seg_map_suffix='_normal.png')
        super().__init__(**(usual | kwargs))


@DATASETS.register_module()
class NYUv2DepthDataset(DenseMapDataset):
    """Depth of NYUv2, 16-bit millimetres with 0 where it is not known, and the kind of scene as `category_id`.

    | layout | below data_root | ann_file may be |
    | --- | --- | --- |
    | mmseg | images/{train,test}/bathroom_0001_00001.jpg, annotations/{train,test}/….png | names |
    | vpd | sync/kitchen_0028b/{rgb_*.jpg,sync_depth_*.png}, official_splits/test/bathroom/… | VPD's, iDisc's lists |

    The 27 kinds are mmseg's and VPD's, in their order; they are told by the file name (mmseg) or the folder (vpd), up
    to the first digit. `nyu_office_0` is an office.

    Args:
        layout: 'mmseg' or 'vpd'. In `sync` lie more frames than the published list of 24231 has.
        part: 'train' or 'test'.
        first_kind: Take the first of the 27 that occurs in the name, as VPD's code and so its checkpoints do: a
            study_room is a study then, an office_kitchen a kitchen. Otherwise each is what it is called.
        **kwargs: See `DenseMapDataset`; what is given here goes before what the layout says.

    Raises:
        ValueError: A file whose kind of scene is none of the 27.
    """

    METAINFO = dict(classes=_SCENES)

    def __init__(self, layout: str = 'mmseg', part: str = 'train', first_kind: bool = False, **kwargs) -> None:
        check_setting('layout', layout, ('mmseg', 'vpd'))
        check_setting('part', part, PARTS)
        self.layout, self.part, self.first_kind = layout, part, first_kind
        usual: dict[str, Any] = dict(columns=('img_path', 'depth_map_path'), img_suffix='.jpg', valid_box=FRAME_BOX)
        if layout == 'mmseg':
            usual['data_prefix'] = dict(img_path=f'images/{part}', depth_map_path=f'annotations/{part}')
        else:
            folder = 'sync' if part == 'train' else 'official_splits/test'
            usual |= dict(
                data_prefix=dict(img_path=folder, depth_map_path=folder),
                list_root=folder,
                name_prefixes=('rgb_', 'sync_depth_'),
            )
        super().__init__(**(usual | kwargs))

    def category_of(self, img_path: str) -> int:
        """Index of the scene's kind."""
        folder, file = osp.split(img_path)
        text = osp.basename(folder) if self.layout == 'vpd' else file
        kind = re.split(r'\d', text)[0].rstrip('_').removeprefix('nyu_')
        if self.first_kind:
            kind = next((each for each in _SCENES if each in kind), kind)
        if kind not in _SCENES:
            raise ValueError(
                f'{img_path}: found the scene {kind!r}, expected one of {", ".join(_SCENES)}; check layout'
            )
        return _SCENES.index(kind)
