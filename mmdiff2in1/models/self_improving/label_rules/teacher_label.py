"""TeacherLabel: y' = θ_C(x'), the rule of the paper (Diff-2-in-1, self-improving stage)."""

from collections.abc import Mapping

from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.tasks import TaskSet

from .base import Label, LabelRule


@TASK_UTILS.register_module()
class TeacherLabel(LabelRule):
    """What θ_C sees in the created image, as a hard label.

    Args:
        min_confidence: In [0, 1]; pixels of which θ_C is less sure teach nothing. One number for all tasks that have a
            confidence, or one by the name of a task. None, as in the paper: all teach.

    Raises:
        ValueError: Outside [0, 1].
    """

    def __init__(self, min_confidence: float | Mapping[str, float] | None = None) -> None:
        numbers = min_confidence.values() if isinstance(min_confidence, Mapping) else [min_confidence]
        for number in numbers:
            if number is not None and not 0 <= number <= 1:
                raise ValueError(f'min_confidence={number}: expected a number in [0, 1].')
        self.min_confidence = min_confidence

    def check(self, tasks: TaskSet) -> None:
        """Raises ValueError for a confidence of a task that has none, or is none of these."""
        sure = [name for name, task in tasks.items() if task.has_confidence]
        if isinstance(self.min_confidence, Mapping):
            for name in self.min_confidence:
                if name not in sure:
                    raise ValueError(
                        f'min_confidence names {name!r}; the tasks with a confidence are {", ".join(sure) or "none"}.'
                    )
        elif self.min_confidence is not None and not sure:
            raise ValueError(f'The task {", ".join(tasks)!r} gives no confidence: min_confidence must be None.')

    def label(self, given: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Label]:
        """See `LabelRule`."""
        labels = {}
        for name, output in outputs.items():
            target, confidence = tasks[name].pseudo_label(output)
            least = self._least(name)
            if least is not None and confidence is not None:
                target = tasks[name].invalidate(target, ~(confidence >= least))  # NaN is no confidence
            labels[name] = Label(target)
        return labels

    def _least(self, name: str) -> float | None:
        return self.min_confidence.get(name) if isinstance(self.min_confidence, Mapping) else self.min_confidence

    def __repr__(self) -> str:
        return f'TeacherLabel(min_confidence={self.min_confidence!r})'
