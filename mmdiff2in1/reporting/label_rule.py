"""The label rule of a config in words."""

from collections.abc import Mapping
from typing import Any

from mmdiff2in1.models.self_improving import GivenLabel, TeacherLabel
from mmdiff2in1.training.labelling_stage import rule_of


def rule_in_words(model: Mapping[str, Any]) -> str:
    """The label rule of created images in words, to go after "with"; raises what `rule_of` raises."""
    rule = rule_of(model)
    if isinstance(rule, GivenLabel):
        return 'the labels that they bring along'
    if type(rule) is not TeacherLabel:
        return f'what the rule {type(rule).__name__} says'
    asked = None if rule.teachers is None else rule.teachers.teachers
    who = 'θ_C' if asked in (None, ('creator',)) else 'a teacher' if len(asked) == 1 else 'the mean of several models'
    least = rule.min_confidence
    if least is None:
        return f'what {who} sees in them, at every pixel'
    if isinstance(least, Mapping):
        limits = ', '.join(f'{least_of:g} ({task.replace("_", " ")})' for task, least_of in least.items())
    else:
        limits = f'{least:g}'
    return f'what {who} sees in them, at the pixels with a confidence of at least {limits}'
