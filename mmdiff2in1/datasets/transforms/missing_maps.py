"""mmseg's loaders of label maps, for images of which some have no label file. H, W: size of the image in its file."""

from collections.abc import Callable

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.label_files import read_map
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
        self.blank = np.uint8(ignore_index)

    def transform(self, results: dict) -> dict:
        """Adds `gt_seg_map` where `results` holds an image."""
        # Made here: a bound method of the base, kept, is pickled for worker processes as that of this class.
        return OrBlank(super().transform, 'seg_map_path', 'gt_seg_map', self.blank, as_stored=True)(results)


class OrBlank:
    """Around a loader of label maps: an image without a file gets a map that says nothing.

    A map of the image that this one was created from is brought to its size.

    Args:
        loader: Reads the map.
        path_key: Of its file in `results`.
        key: Of the map there.
        blank: What says nothing.
        as_stored: A label in a store of created images is taken as it is: it is in the task's own encoding, and what
            the loader does to the files of the data set (zero label, classes left out) has been done already.
    """

    def __init__(
        self, loader: Callable[[dict], dict], path_key: str, key: str, blank: np.generic, as_stored: bool = False
    ) -> None:
        self.loader, self.path_key, self.key, self.blank, self.as_stored = loader, path_key, key, blank, as_stored

    def __call__(self, results: dict) -> dict:
        """Adds the map (H, W)."""
        height, width = results['ori_shape'][:2]
        size = (int(height), int(width))
        path, fields = results.get(self.path_key), results.setdefault('seg_fields', [])
        if path is None:
            results[self.key] = np.full(size, self.blank)
            fields.append(self.key)
        elif self.as_stored and results.get('labels') == 'stored':
            results[self.key] = _stored(path, size)
            fields.append(self.key)
        else:
            results = self.loader(results)
        if results.get('labels') == 'source' and results[self.key].shape != size:
            results[self.key] = nearest(results[self.key], size)
        return results


def _stored(path: str, size: tuple[int, int]) -> np.ndarray:
    try:
        array = read_map(path)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if array.dtype != np.uint8 or array.shape != size:
        raise ValueError(f'{path}: found a map of {array.dtype} {array.shape}, expected classes, uint8 {size}')
    return array
