"""What users call: the inferencer and the stage chain."""

from .inferencer import Diff2in1Inferencer

__all__ = ['Diff2in1Inferencer']
