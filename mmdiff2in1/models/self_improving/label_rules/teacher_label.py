"""TeacherLabel: y' = θ_C(x'), the rule of the paper (Diff-2-in-1, self-improving stage), and y' = teacher(x').

S created images; K classes; C channels of an output; H, W: the crop that θ_E sees.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.tasks import DenseTask, TaskSet

from .base import Label, LabelRule
from .sinkhorn import sinkhorn
from .teacher_settings import TeacherSettings


@TASK_UTILS.register_module()
class TeacherLabel(LabelRule):
    """Labels that a teacher sees in created images. With the defaults: θ_C, hard labels, all pixels, as in the paper.

    Args:
        min_confidence: In [0, 1]; pixels of which the teacher is less sure teach nothing. One number for all tasks that
            have a confidence, or one by the name of a task. None, as in the paper: all teach.
        teacher: Who labels. None: θ_C. dict(config=…, checkpoint=…): any segmentor, see `Teacher`. A list of such, and
            of 'creator' for θ_C: their mean, of probabilities, metres or vectors.
        soft: Classes are taught by their probabilities; depth and normals are what they are.
        temperature: Of the probabilities, p^(1 / temperature) normalised; above 1 they are softer. `min_confidence` is
            asked of those at 1.
        mirrored: The mean of the image's and the mirrored image's output.
        scales: The mean of the outputs at these factors of the size.
        balanced: All classes get equal shares of the pixels of a batch on a process, padding included, see `sinkhorn`.
            SENSE has soft=True, balanced=True, temperature=0.05, min_confidence=0.95.

    Raises:
        ValueError: A setting out of its range, or one that would change nothing.
    """

    def __init__(
        self,
        min_confidence: float | Mapping[str, float] | None = None,
        teacher: Any = None,
        soft: bool = False,
        temperature: float = 1.0,
        mirrored: bool = False,
        scales: Sequence[float] = (1.0,),
        balanced: bool = False,
    ) -> None:
        numbers = min_confidence.values() if isinstance(min_confidence, Mapping) else [min_confidence]
        for number in numbers:
            if number is not None and not 0 <= number <= 1:
                raise ValueError(f'min_confidence={number}: expected a number in [0, 1].')
        if not temperature > 0:
            raise ValueError(f'temperature={temperature}: expected a number above 0.')
        if temperature != 1 and not (soft or balanced):
            raise ValueError(f'temperature={temperature} changes no hard label; set soft=True or balanced=True.')
        self.min_confidence = min_confidence
        self.soft, self.temperature, self.balanced = soft, temperature, balanced
        self.teachers = TeacherSettings.parse(teacher, mirrored, scales)

    def check(self, tasks: TaskSet) -> None:
        """Raises ValueError for a confidence of a task that has none, or is none of these; soft without classes."""
        sure = [name for name, task in tasks.items() if task.has_confidence]
        if isinstance(self.min_confidence, Mapping):
            for name in self.min_confidence:
                if name not in sure:
                    raise ValueError(
                        f'min_confidence names {name!r}; the tasks with a confidence are {", ".join(sure) or "none"}.'
                    )
        elif self.min_confidence is not None and not sure:
            raise ValueError(f'The task {", ".join(tasks)!r} gives no confidence: min_confidence must be None.')
        if (self.soft or self.balanced) and not any(task.num_classes for task in tasks.values()):
            raise ValueError(f'{", ".join(tasks)} has no classes: soft and balanced must be False.')

    def label(self, given: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Label]:
        """See `LabelRule`."""
        labels = {}
        for name, output in outputs.items():
            task = tasks[name]
            target, confidence = task.pseudo_label(output)
            unsure = ~task.valid(target)
            least = self._least(name)
            if least is not None and confidence is not None:
                unsure = unsure | ~(confidence >= least)  # NaN is no confidence
            if (self.soft or self.balanced) and task.num_classes:
                probabilities = self._probabilities(task, output.nan_to_num())
                if self.soft:
                    labels[name] = Label(probabilities.masked_fill(unsure, 0))
                    continue
                target = probabilities.argmax(1, keepdim=True)
            labels[name] = Label(task.invalidate(target, unsure))
        return labels

    def _probabilities(self, task: DenseTask, output: Tensor) -> Tensor:
        """(S, K, H, W)."""
        logits = task.class_logits(output)
        if not self.balanced:
            return (logits / self.temperature).softmax(1)
        images, classes, *size = logits.shape
        flat = logits.log_softmax(1).movedim(1, -1).reshape(-1, classes)
        return sinkhorn(flat / self.temperature).view(images, *size, classes).movedim(-1, 1).contiguous()

    def _least(self, name: str) -> float | None:
        return self.min_confidence.get(name) if isinstance(self.min_confidence, Mapping) else self.min_confidence

    def __repr__(self) -> str:
        return (
            f'TeacherLabel(min_confidence={self.min_confidence!r}, teachers={self.teachers!r}, soft={self.soft}, '
            f'temperature={self.temperature}, balanced={self.balanced})'
        )
