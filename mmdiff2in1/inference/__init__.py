"""Image → maps; prompt or image → new image with its maps."""

from .inferencer import Diff2in1Inferencer

__all__ = ['Diff2in1Inferencer']
