"""NYUD-MT: NYUv2 cut to 425 × 560 with several kinds of labels, as ATRC packed it."""

from collections.abc import Sequence
from typing import Any

from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset
from .task_folders import check_setting, folders_of_tasks

CLASSES = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture', 'counter',
    'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling', 'books',
    'refrigerator', 'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard', 'person', 'night stand',
    'toilet', 'sink', 'lamp', 'bathtub', 'bag', 'otherstructure', 'otherfurniture', 'otherprop',
)  # fmt: skip
FOLDERS = dict(
    semantic_segmentation=('seg_map_path', 'segmentation'),
    depth=('depth_map_path', 'depth'),
    normal=('normal_map_path', 'normals'),
    edge=('edge_map_path', 'edge'),
)
"""Task → its key in `data_prefix` and its folder."""
PARTS = ('train', 'val')


@DATASETS.register_module()
class NYUDMTDataset(DenseMapDataset):
    """795 images to train with, 654 to test on, in the folders that ATRC, InvPT and TaskPrompter read.

    | below data_root | holds |
    | --- | --- |
    | gt_sets/{train,val}.txt | names of images, without suffix |
    | images/ID.png | images, 425 × 560 |
    | segmentation/ID.png | 0 ignored, 1 … 40; the zero label is reduced |
    | depth/ID.npy | metres, float, 0 where not known |
    | normals/ID.png | (n + 1) / 2 in 8 bits, black or grey where not known |
    | edge/ID.png | 255 on an edge |

    An image without one of the label files says nothing of that task. In which frame the normals of a pack are,
    mmdiff2in1 check finds out; with `label_axes` they are turned into ours. A published checkpoint predicts in
    the frame of the files that it was trained on.

    Args:
        tasks: Names of the tasks whose labels are wanted.
        part: 'train' or 'val'.
        **kwargs: See `DenseMapDataset`; what is given here goes before.

    Raises:
        ValueError: An unknown part or task.
        FileNotFoundError: See `DenseMapDataset`; a task without a label for any image counts.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(self, tasks: Sequence[str] = tuple(FOLDERS), part: str = 'train', **kwargs) -> None:
        check_setting('part', part, PARTS)
        self.part = part
        usual: dict[str, Any] = dict(
            ann_file=f'gt_sets/{part}.txt',
            data_prefix=dict(img_path='images', **folders_of_tasks(tasks, FOLDERS)),
            map_suffixes=dict(depth_map_path='.npy'),
            label_formats=dict(normal_map_path='grey_normals'),
            maps_may_lack=True,
            reduce_zero_label=True,
        )
        super().__init__(**(usual | kwargs))
