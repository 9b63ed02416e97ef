"""Several tasks at once: heads side by side on one backbone."""

from .task_heads import TaskHeads

__all__ = ['TaskHeads']
