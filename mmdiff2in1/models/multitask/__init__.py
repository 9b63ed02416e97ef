"""Several tasks at once: heads side by side on one backbone, and the losses of heads for all."""

from .invpt import InvPTHead
from .task_heads import TaskHeads
from .task_losses import TASK_WEIGHTS, task_loss

__all__ = ['TASK_WEIGHTS', 'InvPTHead', 'TaskHeads', 'task_loss']
