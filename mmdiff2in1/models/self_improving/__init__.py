"""Self-improving training of any mmseg segmentor: θ_E, θ_C beside it, and the rules that label created images."""

from .label_rules import GivenLabel, Label, LabelRule, RulePerTask, TeacherLabel
from .parameter_pairs import EMATensors
from .segmentor import SelfImprovingSegmentor
from .teachers import Teachers

__all__ = [
    'EMATensors',
    'GivenLabel',
    'Label',
    'LabelRule',
    'RulePerTask',
    'SelfImprovingSegmentor',
    'TeacherLabel',
    'Teachers',
]
