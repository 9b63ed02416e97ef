"""Label rules that only the measurement has: who labels a created image, and what it is shown.

All arms go on from the same features, so these look at features; the teachers of the package (`TeacherLabel`) look at
images.

``view`` is what the rule wants to see besides: an attribute of :class:`.streams.Batch`, as ``Viewed.view``.
"""

import copy
from typing import Any

from mmseg.registry import TASK_UTILS
from torch import Tensor, nn

from mmdiff2in1.models.self_improving.label_rules import TeacherLabel
from mmdiff2in1.tasks import TaskSet

from .features import Viewed


@TASK_UTILS.register_module()
class FixedTeacher(TeacherLabel):
    """One model labels to the end; θ_C is averaged and scored as ever.

    Args:
        teacher: A segmentor; a copy of it is kept.
        min_confidence: See ``TeacherLabel``.
    """

    def __init__(self, teacher: nn.Module, min_confidence: float | None = None) -> None:
        super().__init__(min_confidence)
        self.teacher = copy.deepcopy(teacher).requires_grad_(False).eval()

    def look(self, creator: Any, inputs: Any, metas: list[dict], tasks: TaskSet) -> Tensor:
        """See ``LabelRule``."""
        return super().look(self.teacher, inputs, metas, tasks)


@TASK_UTILS.register_module()
class WeakTeacher(TeacherLabel):
    """θ_C labels the crop before its colours were changed (weak-to-strong)."""

    view = 'plain'

    def look(self, creator: Any, inputs: Viewed, metas: list[dict], tasks: TaskSet) -> Tensor:
        """See ``LabelRule``."""
        return super().look(creator, inputs.view, metas, tasks)


@TASK_UTILS.register_module()
class MirroredTeacher(TeacherLabel):
    """The mean of what θ_C sees in the crop and in its mirror image, mirrored back."""

    view = 'mirrored'

    def look(self, creator: Any, inputs: Viewed, metas: list[dict], tasks: TaskSet) -> Tensor:
        """See ``LabelRule``."""
        output = super().look(creator, inputs, metas, tasks)
        back = tasks.flip_output(super().look(creator, inputs.view, metas, tasks))
        height, width = output.shape[-2:]
        return tasks.resize_output((output + back) / 2, (height, width))
