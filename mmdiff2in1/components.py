"""Imports every room that registers something; configs name this module in ``custom_imports``."""

from . import datasets, engine, evaluation, models, tasks

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'tasks']
