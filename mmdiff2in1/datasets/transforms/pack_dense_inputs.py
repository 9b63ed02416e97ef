"""PackDenseInputs: the last step of a pipeline with continuous maps."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks import VALID_REGION

from .load_label_map import LABEL_MAP

META_KEYS = (
    'img_path',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'reduce_zero_label',
    'category_id',
    'caption',
)


@TRANSFORMS.register_module()
class PackDenseInputs(PackSegInputs):
    """mmseg's PackSegInputs, and the maps of `LoadDenseAnnotation` as targets (c, H, W) of their task under its field.

    What says nothing in a map, and so may pad it, stands beside it as `pad`. `gt_valid_region`, where the data set has
    one, is (1, H, W) bool, `gt_label_map` (1, H, W) int32. Of `meta_keys`, those that a sample has are kept; unless
    they are given, the paths of its label files as well.

    Raises, when called:
        ValueError: The image was mirrored by a transform that does not know the task.
    """

    def __init__(self, meta_keys: tuple[str, ...] | None = None) -> None:
        super().__init__(META_KEYS if meta_keys is None else meta_keys)
        self.keeps_paths = meta_keys is None

    def transform(self, results: dict) -> dict:
        """See mmseg's; the maps come in addition."""
        tasks = results.get('dense_tasks', {})
        flipped = bool(results.get('flip', False))
        wrong = [field for field in tasks if results['mirrored_with_task'][field] != flipped]
        if wrong:
            raise ValueError(
                f'{results.get("img_path")}: the image was mirrored by a RandomFlip that does not know that '
                f'{", ".join(wrong)} may have to change their values; use DenseRandomFlip after LoadDenseAnnotation'
            )
        packed = super().transform(results)
        if self.keeps_paths:
            paths = {key: path for key, path in results.items() if key.endswith('_map_path') and path is not None}
            packed['data_samples'].set_metainfo(paths)
        for field, task in tasks.items():
            target = PixelData(data=task.to_target(results[field]), metainfo=dict(pad=task.invalid))
            packed['data_samples'].set_data({field: target})
        if VALID_REGION in results:
            region = torch.from_numpy(np.ascontiguousarray(results[VALID_REGION][None])).bool()
            packed['data_samples'].set_data({VALID_REGION: PixelData(data=region, metainfo=dict(pad=False))})
        if LABEL_MAP in results:
            labels = torch.from_numpy(np.ascontiguousarray(results[LABEL_MAP][None]))
            packed['data_samples'].set_data({LABEL_MAP: PixelData(data=labels, metainfo=dict(pad=0))})
        return packed
