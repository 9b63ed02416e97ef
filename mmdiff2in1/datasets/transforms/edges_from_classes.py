"""EdgesFromClasses: an edge map for sets that have none, from the class map. H, W: size of the map."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.region_borders import region_borders
from mmdiff2in1.core.thinning import thin
from mmdiff2in1.tasks import Edges


@TRANSFORMS.register_module()
class EdgesFromClasses(BaseTransform):
    """Adds `gt_edge`: lines of one pixel where regions of `gt_seg_map` meet, unknown where the class map is ignored.

    After the geometry, before `PackDenseInputs`: a resized line would be broken or thick. A map that is there and says
    something (a stored label of a created image, loaded by `LoadDenseAnnotation`) stays. Two things of one class that
    touch have no edge between them.

    Args:
        ignore_index: Value of the class map where nothing is known.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index
        self.edges = Edges()

    def transform(self, results: dict) -> dict:
        """Adds the map (H, W) float32, if there is a class map."""
        field, classes = self.edges.field, results.get('gt_seg_map')
        if classes is None or (field in results and self.edges.known(results[field]).any()):
            return results
        known = classes != self.ignore_index
        lines = thin(region_borders(classes, known)).astype(np.float32)
        results[field] = np.where(known, lines, np.float32(self.edges.invalid))
        if field not in results.setdefault('seg_fields', []):
            results['seg_fields'].append(field)
        results.setdefault('dense_tasks', {})[field] = self.edges
        results.setdefault('mirrored_with_task', {})[field] = bool(results.get('flip', False))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ignore_index={self.ignore_index})'
