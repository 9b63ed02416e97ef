"""Segmentors: the wrapper that trains θ_E next to θ_C, its moving average; one that goes on denoising."""

from .denoising import DenoisingEncoderDecoder
from .parameter_pairs import EMATensors
from .self_improving import SelfImprovingSegmentor

__all__ = ['DenoisingEncoderDecoder', 'EMATensors', 'SelfImprovingSegmentor']
