"""GivenLabel: a created image is taught with the label that it brings along; θ_C labels nothing."""

from collections.abc import Mapping

from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.tasks import TaskSet

from .base import Label, LabelRule


@TASK_UTILS.register_module()
class GivenLabel(LabelRule):
    """The label in the store, or that of the source: `labels='stored'` or `'source'` of `SyntheticSampleDataset`."""

    reads_outputs = False
    reads_given = True

    def label(self, given: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Label]:
        """See `LabelRule`."""
        return {name: Label(target) for name, target in given.items()}

    def __repr__(self) -> str:
        return 'GivenLabel()'
