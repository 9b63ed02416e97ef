"""Scenes: small indoor rooms, ray-cast in NumPy, with exact classes, depth and normals and a true caption each."""

from .render import VERSION, Scene, render_scene
from .vocabulary import CLASSES, PALETTE, VOCABULARY
from .write import DEFAULT_COUNTS, make_scenes

__all__ = ['CLASSES', 'DEFAULT_COUNTS', 'PALETTE', 'VERSION', 'VOCABULARY', 'Scene', 'make_scenes', 'render_scene']
