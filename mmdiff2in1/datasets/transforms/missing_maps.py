"""mmseg's loaders of label maps, for images of which some have no label file. H, W: size of the image in its file."""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmdiff2in1.core.label_files import read_map
from mmdiff2in1.tasks.base import nearest
from mmdiff2in1.tasks.soft_classes import FIELD, NOWHERE, from_file


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
        """Adds the map (H, W).

        Raises:
            ValueError: A file that cannot be read, or a map of another size than its image.
        """
        height, width = results['ori_shape'][:2]
        size = (int(height), int(width))
        path, fields = results.get(self.path_key), results.setdefault('seg_fields', [])
        if path is None:
            results[self.key] = np.full(size, self.blank)
            fields.append(self.key)
        elif self.as_stored and results.get('labels') == 'stored':
            results[self.key], topk = _stored(path, size, self.blank)
            fields.append(self.key)
            if topk is not None:
                results[FIELD] = topk
                fields.append(FIELD)
        else:
            try:
                results = self.loader(results)
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's, without the file
                raise ValueError(f'{path}: expected a whole label file, found: {error}; unpack it again') from error
        if results.get('labels') == 'source' and results[self.key].shape != size:
            results[self.key] = nearest(results[self.key], size)
        found = results[self.key].shape[:2]
        if found != size:
            raise ValueError(
                f'{path}: found a map of {found[0]}×{found[1]} (height × width), expected {height}×{width}, the size '
                f'of {results.get("img_path")}; check that the two belong together'
            )
        return results


class PackTopk:
    """Around the last step of a pipeline: the top-k map of a created image goes into its sample, int32 (2k, H, W).

    As one of the `seg_fields` it has been resized (to the nearest neighbour), cut and mirrored by all that mmseg does
    to class maps. What has been filled in is no class there.

    Args:
        pack: The last step.
        blank: What says nothing in the class map.

    Raises, when called:
        ValueError: A transform has changed the class map, or the image, and not the top-k map.
    """

    def __init__(self, pack: Callable[[dict], dict], blank: np.generic) -> None:
        self.pack, self.blank = pack, blank

    def __call__(self, results: dict) -> dict:
        """See mmseg's PackSegInputs."""
        packed = self.pack(results)
        if FIELD in results:
            self._check(results[FIELD], results['gt_seg_map'])
            planes = np.ascontiguousarray(results[FIELD].transpose(2, 0, 1)).astype(np.int32)
            packed['data_samples'].set_data({FIELD: PixelData(data=torch.from_numpy(planes))})
        return packed

    def _check(self, topk: np.ndarray, classes: np.ndarray) -> None:
        height, width, planes = topk.shape
        classes, likeliest = classes[:height, :width], topk[..., planes // 2]  # a Pad leaves the top-k map as it is
        if classes.shape != likeliest.shape or ((classes != likeliest) & (classes != self.blank)).any():
            raise ValueError(
                'a transform of the pipeline has resized, cut or mirrored the classes, but not their probabilities: '
                "use mmseg's own (RandomFlip, not mmcv.RandomFlip), which treat all seg_fields alike, or hard labels"
            )


def _stored(path: str, size: tuple[int, int], blank: np.generic) -> tuple[np.ndarray, np.ndarray | None]:
    """The classes (H, W) in a label file, and the top-k map (H, W, 2k) if it holds one."""
    try:
        array = read_map(path)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    topk = from_file(array, size)
    if topk is not None:
        likeliest = topk[len(topk) // 2].astype(np.uint8)
        return np.where(likeliest == NOWHERE, np.uint8(blank), likeliest), topk.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.shape != size:
        raise ValueError(f'{path}: found a map of {array.dtype} {array.shape}, expected classes, uint8 {size}')
    return array, None
