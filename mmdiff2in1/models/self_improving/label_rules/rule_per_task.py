"""RulePerTask: tasks of one model that are taught by different rules, or on real images alone.

S created images; C channels of an output.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.tasks import TaskSet

from .base import Label, LabelRule

TEACHER = dict(type='TeacherLabel')


@TASK_UTILS.register_module()
class RulePerTask(LabelRule):
    """A rule for each task; θ_C, or the teachers, still look once for all of them.

    Args:
        rules: Task → the config of its rule. None: created images have no label of it, so it learns from real images
            alone.
        default: Of the tasks that are not named: θ_C's labels, or None.

    Raises:
        ValueError: Rules that ask different teachers, or look at different views.
    """

    def __init__(
        self, rules: Mapping[str, dict | LabelRule | None], default: dict | LabelRule | None = TEACHER
    ) -> None:
        self.rules, self.default = {name: _built(rule) for name, rule in rules.items()}, _built(default)
        used = [rule for rule in (self.default, *self.rules.values()) if rule is not None]
        self._looking = [rule for rule in used if rule.reads_outputs]
        self.reads_outputs, self.reads_given = bool(self._looking), any(rule.reads_given for rule in used)
        self.teachers = self._looking[0].teachers if self._looking else None
        first = self._looking[0] if self._looking else None
        for rule in self._looking[1:]:
            if rule.teachers != self.teachers or type(rule).look is not type(first).look:
                raise ValueError(
                    f'{first!r} and {rule!r} look at the images in different ways, but one look labels all tasks; give '
                    'both the same teacher, mirrored and scales (default=None, if all tasks are named)'
                )

    def check(self, tasks: TaskSet) -> None:
        """Raises ValueError for tasks that there are not, where no task is taught, and what the rules refuse."""
        unknown = [name for name in self.rules if name not in tasks]
        if unknown:
            raise ValueError(f'RulePerTask names {", ".join(unknown)}; the tasks are {", ".join(tasks)}')
        taught = list(self._groups(tasks))
        if not taught:
            raise ValueError(
                f'no rule for any of {", ".join(tasks)}: created images would teach nothing; name a rule, or train on '
                'real images alone (stages.synthesis=None)'
            )
        for rule, own in taught:
            rule.check(own)

    def look(self, creator: Any, inputs: Any, metas: list[dict], tasks: TaskSet) -> Tensor:
        """See `LabelRule`; as the rules have it."""
        return self._looking[0].look(creator, inputs, metas, tasks)

    def label(self, given: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Label]:
        """See `LabelRule`."""
        labels: dict[str, Label] = {}
        for rule, own in self._groups(tasks):
            read = {name: given[name] for name in own} if rule.reads_given else {}
            seen = {name: outputs[name] for name in own} if rule.reads_outputs else {}
            labels |= rule.label(read, seen, own)
        return labels

    def _groups(self, tasks: TaskSet) -> Iterator[tuple[LabelRule, TaskSet]]:
        """The rules, each with the tasks that it labels."""
        others = {name: task for name, task in tasks.items() if name not in self.rules}
        if self.default is not None and others:
            yield self.default, TaskSet(others)
        for name, rule in self.rules.items():
            if rule is not None:
                yield rule, TaskSet({name: tasks[name]})

    def __repr__(self) -> str:
        return f'RulePerTask(rules={self.rules!r}, default={self.default!r})'


def _built(rule: dict | LabelRule | None) -> LabelRule | None:
    return rule if rule is None or isinstance(rule, LabelRule) else TASK_UTILS.build(rule)
