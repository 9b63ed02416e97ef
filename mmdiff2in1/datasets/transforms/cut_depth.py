"""CutDepth: a vertical stripe of the image shows its own depth, so that a model does not lean on texture alone."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks import Depth


@TRANSFORMS.register_module()
class CutDepth(BaseTransform):
    """With probability `prob`, replaces a stripe of the image's full height by its depth in grey, far is bright.

    Vertical CutDepth as GLPDepth and VPD train with it (there, every fourth sample). Their code, and mmseg's
    `RandomDepthMix`, write millimetres into 8 bits, which leaves the remainder by 256; here, 0 … `max_depth` of the
    task is 0 … 255.

    Args:
        prob: Probability, 0 … 1.
        width: Widest stripe, as a share of what lies right of its left edge.

    Raises:
        KeyError: When called, no depth was loaded before; of several, the first is shown.
    """

    def __init__(self, prob: float = 0.25, width: float = 0.75) -> None:
        self.prob, self.width = prob, width

    def transform(self, results: dict) -> dict:
        """Changes `img`; the label stays."""
        chance, left, share = np.random.random(3)
        depths = {field: task for field, task in results.get('dense_tasks', {}).items() if isinstance(task, Depth)}
        if not depths:
            raise KeyError("CutDepth: no depth was loaded; put dict(type='LoadDenseAnnotation', task=…) before it")
        field, task = next(iter(depths.items()))
        # A created image has no depth yet, and in mixed sets some real ones have none: the stripe would be black.
        if chance >= self.prob or not task.known(results[field]).any():
            return results
        columns = results['img'].shape[1]
        start = int(columns * left)
        stop = start + max(1, int((columns - start) * self.width * share))
        grey = results[field][:, start:stop] / task.max_depth * 255
        image = results['img'].copy()
        image[:, start:stop] = np.clip(grey, 0, 255).astype(image.dtype)[..., None]
        results['img'] = image
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, width={self.width})'
