"""Image → maps; prompt or image → new image with its maps; trained models as folders."""

from .hub import push_to_hub, teacher_from
from .inferencer import Diff2in1Inferencer
from .model_card import Claims

__all__ = ['Claims', 'Diff2in1Inferencer', 'push_to_hub', 'teacher_from']
