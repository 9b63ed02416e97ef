"""Resizing and mirroring of maps that are more than classes: each task says what becomes of its values."""

import numpy as np
from mmseg.datasets.transforms import RandomFlip, Resize
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks import VALID_REGION


@TRANSFORMS.register_module()
class DenseResize(Resize):
    """mmseg's Resize; maps of `LoadDenseAnnotation` are resized by their task, all others to the nearest neighbour.

    Args:
        scale_values: Treat it as a zoom of the camera: depth is divided by the enlargement (InvPT, TaskPrompter). Else
            it is the same photograph in other pixels.
        **kwargs: See mmcv's `Resize`; for a random size `dict(type='RandomResize', resize_type='DenseResize', …)`.
    """

    def __init__(self, *args, scale_values: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.scale_values = scale_values

    def _resize_seg(self, results: dict) -> None:
        aside = {field: results.pop(field) for field in results.get('dense_tasks', {})}
        super()._resize_seg(results)
        size = results['img'].shape[:2]
        for field, array in aside.items():
            task = results['dense_tasks'][field]
            results[field] = task.resize(array, size)
            if self.scale_values:
                enlargement = np.sqrt(size[0] / array.shape[0] * size[1] / array.shape[1])
                results[field] = task.rescale(results[field], float(enlargement))


@TRANSFORMS.register_module()
class DenseRandomFlip(RandomFlip):
    """mmseg's RandomFlip; maps of `LoadDenseAnnotation` are mirrored by their task (normals: x changes its sign).

    Raises, when called:
        ValueError: Another direction than `horizontal`: the picture of a room upside down is none of a room.
    """

    def _flip(self, results: dict) -> None:
        tasks = results.get('dense_tasks', {})
        # mmseg's swap_seg_labels, which are classes, would change places in every map that stays.
        region = [VALID_REGION] if VALID_REGION in results else []
        aside = {field: results.pop(field) for field in (*tasks, *region)}
        if aside and results['flip_direction'] != 'horizontal':
            raise ValueError(f"flip_direction={results['flip_direction']!r}: expected 'horizontal' for {list(aside)}")
        super()._flip(results)
        for field, array in aside.items():
            results[field] = tasks[field].flip(array) if field in tasks else np.ascontiguousarray(array[:, ::-1])
            results['mirrored_with_task'] = results['mirrored_with_task'] | {field: True}
