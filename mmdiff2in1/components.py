"""Imports every room that registers something; configs name this module in ``custom_imports``."""

from . import datasets, engine, models, tasks

__all__ = ['datasets', 'engine', 'models', 'tasks']
