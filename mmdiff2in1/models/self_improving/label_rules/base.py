"""The interface of label rules: source labels and θ_C's outputs in, targets and weights per pixel out.

S created images; c channels of a target, C of an output; H, W: the crop that θ_E sees.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmdiff2in1.tasks import TaskSet

from .teacher_settings import TeacherSettings


@dataclass(frozen=True)
class Label:
    """Target and weight that θ_E learns one task from.

    Attributes:
        target: (S, c, H, W) in the task's encoding, invalid where nothing is taught. For classes also probabilities
            (S, K, H, W), floating point, all zero where nothing is taught.
        weight: (S, 1, H, W), at least 0; None: every pixel that is taught weighs 1.
    """

    target: Tensor
    weight: Tensor | None = None


class LabelRule(ABC):
    """A rule is registered in mmseg's TASK_UTILS and chosen by `label_rule=dict(type=…)`. It holds settings, no state.

    Attributes:
        reads_outputs: Whether θ_C must predict; without, its forward pass is saved.
        reads_given: Whether labels that the samples bring along are wanted; see `labels` of `SyntheticSampleDataset`.
        teachers: Who looks in θ_C's place, and in which views; the model that holds the rule loads them (`Teachers`).
            None: θ_C, in one view.
    """

    reads_outputs: bool = True
    reads_given: bool = False
    teachers: TeacherSettings | None = None

    def check(self, tasks: TaskSet) -> None:  # noqa: B027  most rules fit every task
        """Raises ValueError where the rule cannot label one of these tasks; called when a model is built."""

    def look(self, creator: Any, inputs: Any, metas: list[dict], tasks: TaskSet) -> Tensor:
        """The outputs (S, C, H, W), float32, that `label` gets: those of θ_C, of the images as θ_E sees them.

        A rule may let another model look, or at other views of the images.

        Args:
            creator: θ_C, in eval mode, or what stands in its place: `teachers` in front of these images.
            inputs: Images (S, 3, H, W) or frozen features of them.
            metas: Metainfo of S samples, its shapes those of the crop.
            tasks: What is predicted.
        """
        return creator.encode_decode(inputs, metas).float()

    @abstractmethod
    def label(self, given: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Label]:
        """The labels of a batch, without gradient.

        Args:
            given: By task, what the samples brought along (S, c, H, W), invalid where nothing is known, or for classes
                probabilities as in `Label.target`; empty unless `reads_given`.
            outputs: By task, what θ_C or the teachers put out (S, C, H, W), float32; empty unless `reads_outputs`.
            tasks: What is predicted.

        Returns:
            By task; one that is left out is not taught. Padding and what never has ground truth are taken out by the
            caller.
        """
