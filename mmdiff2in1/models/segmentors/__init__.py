"""Segmentors: the wrapper that trains θ_E next to θ_C, its moving average."""

from .parameter_pairs import EMATensors
from .self_improving import SelfImprovingSegmentor

__all__ = ['EMATensors', 'SelfImprovingSegmentor']
