"""IgnoreWithoutPersons: an image that shows no part of a person says nothing of parts."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.tasks import HumanParts


@TRANSFORMS.register_module()
class IgnoreWithoutPersons(BaseTransform):
    """Maps of human parts with nothing but background become all ignored, as ATRC, InvPT and TaskPrompter do.

    Stands after everything that cuts: a crop of an image with persons may show none. In a test it belongs before the
    last step, since the published figures leave out images without persons.
    """

    def transform(self, results: dict) -> dict:
        """Changes the fields of `HumanParts`."""
        for field, task in results.get('dense_tasks', {}).items():
            if isinstance(task, HumanParts):
                array = results[field]
                if not ((array != 0) & (array != task.ignore_index)).any():
                    results[field] = np.full_like(array, task.ignore_index)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
