"""Several tasks at once: heads side by side on one backbone, models for all tasks, and their losses."""

from .invpt import InvPTHead
from .task_heads import TaskHeads
from .task_losses import TASK_WEIGHTS, task_loss
from .taskprompter import TaskPrompterHead, TaskPrompterViT

__all__ = ['TASK_WEIGHTS', 'InvPTHead', 'TaskHeads', 'TaskPrompterHead', 'TaskPrompterViT', 'task_loss']
