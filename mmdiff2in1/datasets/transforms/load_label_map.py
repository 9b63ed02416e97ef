"""LoadLabelMap: PASCAL-Context's 459 labels, whose borders edges are scored on."""

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.datasets.label_formats import CONTEXT_KEY
from mmdiff2in1.datasets.pascal_files import label_map

LABEL_MAP = 'gt_label_map'
"""Key of the labels in the results of a pipeline, (H, W) int32, and in a `SegDataSample`, (1, H, W)."""


@TRANSFORMS.register_module()
class LoadLabelMap(BaseTransform):
    """Adds `gt_label_map` for `EdgeMetric(labels='gt_label_map', ignore_index=None)`; an image without it gets none.

    Args:
        backend_args: Of mmengine's file backend.

    Raises, when called:
        ValueError: A file that holds something else; with the file.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Adds the labels."""
        path = results.get(CONTEXT_KEY)
        if path is None:
            return results
        try:
            results[LABEL_MAP] = label_map(path, self.backend_args)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        results.setdefault('seg_fields', []).append(LABEL_MAP)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
