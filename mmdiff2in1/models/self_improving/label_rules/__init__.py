"""Label rules, what a created image is taught with: one file, one registered rule."""

from .base import Label, LabelRule
from .given_label import GivenLabel
from .rule_per_task import RulePerTask
from .teacher_label import TeacherLabel

__all__ = ['GivenLabel', 'Label', 'LabelRule', 'RulePerTask', 'TeacherLabel']
