"""PASCAL-Context with several kinds of labels, as ATRC packed it."""

import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS

from .dense_map_dataset import DenseMapDataset
from .folder_listing import FolderListing
from .label_formats import CONTEXT_KEY
from .pascal_files import human_parts
from .task_folders import check_setting, folders_of_tasks

FOLDERS = dict(
    semantic_segmentation=('seg_map_path', 'semseg/VOC12'),
    human_parts=('human_parts_map_path', 'human_parts'),
    saliency=('saliency_map_path', 'sal_distill'),
    normal=('normal_map_path', 'normals_distill'),
    edge=('edge_map_path', 'pascal-context/trainval'),
)
"""Task → its key in `data_prefix` and its folder."""
OTHER_CLASSES = 'semseg/pascal-context'
"""Class maps of the images that VOC 2012 has none of."""
CONTEXT = 'pascal-context/trainval'
"""`LabelMap` of each image: edges, and where normals count."""
OTHER_KEY = 'other_seg_path'
PARTS = ('train', 'val')


@DATASETS.register_module()
class PASCALContextMTDataset(DenseMapDataset):
    """4,998 images to train with, 5,105 to test on, in the folders that ATRC, InvPT and TaskPrompter read.

    | below data_root | holds |
    | --- | --- |
    | ImageSets/Context/{train,val}.txt | names of images, without suffix |
    | JPEGImages/ID.jpg | images |
    | semseg/VOC12/ID.png, else semseg/pascal-context/ID.png | VOC's 21 classes, 255 ignored |
    | human_parts/ID.mat | PASCAL-Part's struct |
    | sal_distill/ID.png | grey, salient above half of 255 |
    | normals_distill/ID.png | (n + 1) / 2 in 8 bits; resized to the image, known inside of 170 labels only |
    | pascal-context/trainval/ID.mat | `LabelMap`, 459 labels: edges, and where normals count |

    An image without one of the label files says nothing of that task. Saliency and normals are predictions of other
    networks. Files are only read: ATRC's loader writes a list of the persons into ImageSets/Parts, this one does not.

    Args:
        tasks: Names of the tasks whose labels are wanted.
        part: 'train' or 'val'.
        only_persons: Leave out the images without a part of a person, as ATRC does when parts are the only task. Reads
            all files of parts at the start, about a minute.
        **kwargs: See `DenseMapDataset`; what is given here goes before.

    Raises:
        ValueError: An unknown part or task, or `only_persons` without human parts.
        FileNotFoundError: See `DenseMapDataset`; a task without a label for any image counts.
    """

    METAINFO = dict(classes=PascalVOCDataset.METAINFO['classes'], palette=PascalVOCDataset.METAINFO['palette'])

    def __init__(
        self, tasks: Sequence[str] = tuple(FOLDERS), part: str = 'train', only_persons: bool = False, **kwargs
    ) -> None:
        check_setting('part', part, PARTS)
        self.part = part
        if only_persons and 'human_parts' not in tasks:
            raise ValueError(f'only_persons=True needs the task human_parts, found tasks={tuple(tasks)}')
        self.only_persons = only_persons
        usual: dict[str, Any] = dict(
            ann_file=f'ImageSets/Context/{part}.txt',
            img_suffix='.jpg',
            data_prefix=dict(img_path='JPEGImages', **folders_of_tasks(tasks, FOLDERS)) | self._beside(tasks),
            map_suffixes=dict(human_parts_map_path='.mat', edge_map_path='.mat'),
            label_formats=dict(
                human_parts_map_path='pascal_parts',
                edge_map_path='label_map_edges',
                saliency_map_path='grey_saliency',
                normal_map_path='context_normals',
            ),
            maps_may_lack=True,
        )
        super().__init__(**(usual | kwargs))

    @staticmethod
    def _beside(tasks: Sequence[str]) -> dict[str, str]:
        """Folders of what belongs to the labels of these tasks."""
        others = {OTHER_KEY: OTHER_CLASSES} if 'semantic_segmentation' in tasks else {}
        return others | ({CONTEXT_KEY: CONTEXT} if {'normal', 'edge'} & set(tasks) else {})

    def _completed(self, pair: dict, there: FolderListing) -> dict:
        """With the class map of the other folder where VOC 2012 has none, and the file of the `LabelMap`."""
        name = osp.relpath(pair['img_path'], self.data_prefix['img_path']).removesuffix(self.img_suffix)
        classes, others, context = (self.data_prefix.get(key) for key in ('seg_map_path', OTHER_KEY, CONTEXT_KEY))
        if classes and others and pair['seg_map_path'] not in there:
            pair = pair | dict(seg_map_path=osp.join(others, name + self.seg_map_suffix))
        if not context:
            return pair
        file = osp.join(context, f'{name}.mat')
        if 'normal_map_path' in pair and file not in there:  # where they count is not known
            pair = pair | dict(normal_map_path=file)
        return pair | ({CONTEXT_KEY: file} if file in there else {})

    def load_data_list(self) -> list[dict]:
        """The samples in the order of the list; see `DenseMapDataset`."""
        samples = super().load_data_list()
        if not self.only_persons:
            return samples
        kept = [sample for sample in samples if self._shows_parts(sample.get('human_parts_map_path'))]
        print_log(f'{len(kept)} of {len(samples)} images show parts of persons', 'current')
        return kept

    def _shows_parts(self, path: str | None) -> bool:
        try:
            return path is not None and bool(human_parts(path, (1, 1), self.backend_args).any())
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
