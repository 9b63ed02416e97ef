"""mmseg's loaders of label maps, for images of which some have no label file. H, W: image size."""

from collections.abc import Callable

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks.base import nearest


@TRANSFORMS.register_module()
class LoadClassAnnotation(LoadAnnotations):
    """mmseg's LoadAnnotations; an image without a `seg_map_path` gets a map (H, W) that ignores every pixel.

    So sets with different tasks can be mixed.

    Args:
        ignore_index: Of the data set.
        **loader: See mmseg's.
    """

    def __init__(self, ignore_index: int = 255, **loader) -> None:
        super().__init__(**loader)
        self._loads = OrBlank(super().transform, 'seg_map_path', 'gt_seg_map', np.uint8(ignore_index))

    def transform(self, results: dict) -> dict:
        """Adds `gt_seg_map` where `results` holds an image."""
        return self._loads(results)


class OrBlank:
    """Around a loader of label maps: an image without a file gets a map that says nothing.

    A map of the image that this one was created from is brought to its size.

    Args:
        loader: Reads the map.
        path_key: Of its file in `results`.
        key: Of the map there.
        blank: What says nothing.
    """

    def __init__(self, loader: Callable[[dict], dict], path_key: str, key: str, blank: np.generic) -> None:
        self.loader, self.path_key, self.key, self.blank = loader, path_key, key, blank

    def __call__(self, results: dict) -> dict:
        """Adds the map (H, W)."""
        size = results['img'].shape[:2]
        if results.get(self.path_key) is None:
            results[self.key] = np.full(size, self.blank)
            results.setdefault('seg_fields', []).append(self.key)
            return results
        results = self.loader(results)
        if results.get('labels') == 'source' and results[self.key].shape != size:
            results[self.key] = nearest(results[self.key], size)
        return results
