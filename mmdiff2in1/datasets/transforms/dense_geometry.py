"""Resizing, cutting and mirroring of maps that are more than classes: each task says what becomes of its values."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop, RandomFlip, Resize
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks import VALID_REGION, SemanticSegmentation
from mmdiff2in1.tasks.base import nearest

CLASS_MAPS = ('gt_seg_map', SemanticSegmentation.field)
"""Where mmseg's loaders and `LoadDenseAnnotation` put class maps."""


@TRANSFORMS.register_module()
class DenseResize(Resize):
    """mmseg's Resize; maps of `LoadDenseAnnotation` are resized by their task, all others to the nearest neighbour.

    Args:
        scale_values: Treat it as a zoom of the camera: depth is divided by the enlargement (InvPT, TaskPrompter). Else
            it is the same photograph in other pixels.
        nearest: All maps to the nearest neighbour by pixel centres, as the image is resized (InvPT, TaskPrompter). Else
            each task as it likes. Class maps beside other maps are resized so in any case, that all agree; alone as
            mmseg does it, up to half a pixel beside.
        **kwargs: See mmcv's `Resize`; for a random size `dict(type='RandomResize', resize_type='DenseResize', …)`.
    """

    def __init__(self, *args, scale_values: bool = False, nearest: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.scale_values, self.nearest = scale_values, nearest

    def _resize_seg(self, results: dict) -> None:
        tasks, size = results.get('dense_tasks', {}), results['img'].shape[:2]
        aside = {field: results.pop(field) for field in tasks}
        if self.nearest or aside:
            for field in results.get('seg_fields', []):
                if field not in aside and results.get(field) is not None:
                    results[field] = nearest(results[field], size)
        else:
            super()._resize_seg(results)
        for field, array in aside.items():
            task = tasks[field]
            results[field] = nearest(array, size) if self.nearest else task.resize(array, size)
            if self.scale_values:
                enlargement = np.sqrt(size[0] / array.shape[0] * size[1] / array.shape[1])
                results[field] = task.rescale(results[field], float(enlargement))


@TRANSFORMS.register_module()
class RandomZoom(BaseTransform):
    """Image and maps enlarged by one random factor s: a zoom, depth is divided by it.

    The size is int(s · H) × int(s · W); the image bilinear, every map to the nearest neighbour. ATRC's way, and so that
    of InvPT and TaskPrompter. mmcv's `RandomResize` draws a share of one size for all images, here it is their own.

    Args:
        ratio_range: Smallest and largest s, drawn evenly.

    Raises:
        ValueError: A range that is out of order or not above 0.
    """

    def __init__(self, ratio_range: tuple[float, float] = (0.5, 2.0)) -> None:
        low, high = ratio_range
        if not 0 < low <= high:
            raise ValueError(f'ratio_range={tuple(ratio_range)}: expected two factors above 0, the smaller one first')
        self.ratio_range = low, high
        self.resize = DenseResize(scale=1, scale_values=True, nearest=True)

    @cache_randomness
    def _factor(self) -> float:
        return float(np.random.uniform(*self.ratio_range))

    def transform(self, results: dict) -> dict:
        """Resizes the image and all `seg_fields`."""
        factor = self._factor()
        height, width = (max(1, int(side * factor)) for side in results['img'].shape[:2])
        self.resize.scale = (width, height)
        return self.resize(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio_range={self.ratio_range})'


@TRANSFORMS.register_module()
class DenseRandomCrop(RandomCrop):
    """mmseg's RandomCrop; `cat_max_ratio` counts where an image has a class map, others are cut anywhere.

    With one, up to ten places are drawn until none of at least two classes has more than that share; an eleventh is
    taken as it is.

    Args:
        crop_size: (H, W); what is smaller stays so.
        cat_max_ratio: Largest share of a class among the pixels that have one.
        ignore_index: Of class maps.
    """

    def __init__(self, crop_size: int | tuple[int, int], cat_max_ratio: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(crop_size, cat_max_ratio, ignore_index)
        self.anywhere = RandomCrop(crop_size)

    def crop_bbox(self, results: dict) -> tuple:
        """Top, bottom, left, right."""
        image, classes = results['img'], next((results[key] for key in CLASS_MAPS if key in results), None)
        if self.cat_max_ratio >= 1 or classes is None or (classes == self.ignore_index).all():
            return self.anywhere.crop_bbox(dict(img=image))
        return super().crop_bbox(dict(img=image, gt_seg_map=classes))


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
