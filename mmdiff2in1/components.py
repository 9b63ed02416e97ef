"""Imports every room that registers something; configs name this module in ``custom_imports``.

Of the rooms that grow by a file per idea, every file.
"""

from . import datasets, engine, evaluation, models, tasks
from .core.rooms import import_room

for room in ('tasks', 'models.multitask', 'models.self_improving.label_rules', 'synthesis.layouts'):
    import_room(f'{__package__}.{room}')

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'tasks']
