"""LoadDenseAnnotation: the depth or normal map of a sample, as a step of any mmseg pipeline. H, W: image size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.label_files import is_known, read_map, where_known
from mmdiff2in1.datasets.label_formats import read_label_file
from mmdiff2in1.tasks import VALID_REGION, DenseTask, SurfaceNormal
from mmdiff2in1.tasks.task_set import built_task


@TRANSFORMS.register_module()
class LoadDenseAnnotation(BaseTransform):
    """Adds the map of a task under its field (`gt_normal_map`, `gt_depth_map`), in the task's encoding and frame.

    Where it stands decides, as for mmseg's `LoadAnnotations`, at which size a map is: before the geometry for training,
    after it for a test, which scores at the image's own size. `DenseResize` and `DenseRandomFlip` know what a map
    needs; mmseg's `RandomCrop` can be used as it is.

    What the data set says about its files is obeyed: `label_formats` (how they are read), `label_axes` (another frame
    of normals), `valid_mask_path` (a file that is 0 where the map is not known), `valid_box` (top, bottom, left, right
    as fractions of height and width: there is never ground truth outside, so there must be no pseudo label either;
    becomes `gt_valid_region`). An image for which the data set gives no file has a map that says nothing: sets with
    different tasks may be mixed, and a created image has no label of its own.

    Args:
        task: What the map is, a TASK_UTILS config.
        backend_args: Of mmengine's file backend.

    Raises, when called:
        ValueError: A file that holds something else, or a map of another size than its image, both with the file; a
            map that has been loaded already: all that is done to a field would be done to it twice.
    """

    def __init__(self, task: dict, backend_args: dict | None = None) -> None:
        self.task: DenseTask = built_task(task)
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Adds the map, (H, W) or (H, W, 3), where `results` holds an image."""
        height, width = results['ori_shape'][:2]
        size = (int(height), int(width))
        if self.task.field in results:
            raise ValueError(
                f'{self.task.field} is there already, expected one step that loads it; take the second '
                'LoadDenseAnnotation of that task out of the pipeline'
            )
        if results.get(self.task.path_key) is None:
            array = self.task.unknown(size)
        else:
            array = self._read(results, size)
        results[self.task.field] = array
        results.setdefault('seg_fields', []).append(self.task.field)
        results.setdefault('dense_tasks', {})[self.task.field] = self.task
        results.setdefault('mirrored_with_task', {})[self.task.field] = bool(results.get('flip', False))
        if results.get('valid_box') is not None and VALID_REGION not in results:
            results[VALID_REGION] = valid_region(results['valid_box'], size)
            results['seg_fields'].append(VALID_REGION)
        return results

    def _read(self, results: dict, size: tuple[int, int]) -> np.ndarray:
        path = results[self.task.path_key]
        try:
            raw = read_label_file(results, self.task.path_key, size, self.backend_args)
            # A label in a store of created images knows itself what it knows, and is in our frame.
            of_the_set = results.get('labels') != 'stored'
            mask = None
            if of_the_set and results.get('valid_mask_path') is not None:
                mask = read_map(results['valid_mask_path'], self.backend_args)
                raw = where_known(raw, mask)
            array = self.task.decode(raw)
            if mask is not None:  # 0 in a file is not for every task what says nothing
                array[~is_known(mask)] = self.task.invalid
            if of_the_set and is_turned(results, self.task):
                array = self.task.reorient(array, results['label_axes'])
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        if array.shape[:2] != size and results.get('labels') == 'source':
            return self.task.resize(array, size)  # the image was created at another size than its source has
        if array.shape[:2] != size:
            raise ValueError(
                f'{path}: found a map of {array.shape[0]}×{array.shape[1]} (height × width), expected '
                f'{size[0]}×{size[1]}, the size of {results.get("img_path")}; check that the two belong together'
            )
        return array

    def __repr__(self) -> str:
        return f'{type(self).__name__}(task={self.task!r})'


def is_turned(info: Mapping[str, Any], task: DenseTask) -> bool:
    """True if `label_axes` of a data info is meant for the maps of a task: in a set with normals it is for those."""
    if info.get('label_axes') is None:
        return False
    return task.path_key == SurfaceNormal.path_key or info.get(SurfaceNormal.path_key) is None


def valid_region(box: tuple[float, float, float, float], size: tuple[int, ...]) -> np.ndarray:
    """uint8 (H, W): 1 for pixels whose centre lies in the box (top, bottom, left, right), fractions of the image."""
    top, bottom, left, right = box
    rows, columns = ((np.arange(side) + 0.5) / side for side in size)
    inside = (rows >= top) & (rows < bottom)
    return (inside[:, None] & (columns >= left) & (columns < right)).astype(np.uint8)
