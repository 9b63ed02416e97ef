"""Draws one scene: first the room, its light and the camera, then the things that stand, lie and hang in it."""

import numpy as np

from .furniture import add_ball, add_bed, add_bin, add_cabinet, add_table
from .graph import Camera, Layout, Thing, paint
from .hangings import add_door, add_picture, add_window
from .vocabulary import FLOOR_COLOURS, FLOOR_PATTERNS, WALL_COLOURS, WALL_PATTERNS


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw one scene; all of its randomness comes from `rng`."""
    layout = _draw_room(rng)
    for furnish, odds in (
        (add_bed, (0.55, 0.45)),
        (add_cabinet, (0.3, 0.45, 0.25)),
        (add_table, (0.3, 0.55, 0.15)),
        (add_bin, (0.55, 0.35, 0.1)),
        (add_ball, (0.3, 0.35, 0.25, 0.1)),
        (add_door, (0.45, 0.5, 0.05)),
        (add_window, (0.45, 0.4, 0.15)),
        (add_picture, (0.35, 0.35, 0.2, 0.1)),
    ):
        for _ in range(rng.choice(len(odds), p=odds)):
            furnish(layout, rng)
    return layout


def _draw_room(rng: np.random.Generator) -> Layout:
    width, height, depth = rng.uniform(3.2, 5.0), rng.uniform(2.4, 3.0), rng.uniform(3.4, 5.4)
    position = np.array([width * rng.uniform(0.25, 0.75), rng.uniform(1.1, 1.75), depth - rng.uniform(0.15, 0.5)])
    aim = np.array([width * rng.uniform(0.25, 0.75), 0.0, depth * rng.uniform(0.0, 0.3)])
    yaw = np.arctan2(position[0] - aim[0], position[2] - aim[2]) + rng.uniform(-0.15, 0.15)
    pitch = -rng.uniform(0.08, 0.36)
    camera = Camera(position, _rotation(yaw, pitch), np.deg2rad(rng.uniform(62.0, 84.0)))
    light = np.array([width * rng.uniform(0.2, 0.8), height * rng.uniform(0.8, 0.92), depth * rng.uniform(0.25, 0.75)])
    warmth = rng.uniform(-0.06, 0.08)

    wall = (str(rng.choice(WALL_PATTERNS, p=(0.4, 0.25, 0.15, 0.2))), str(rng.choice(WALL_COLOURS)))
    floor_pattern = str(rng.choice(FLOOR_PATTERNS, p=(0.25, 0.35, 0.25, 0.15)))
    floor = (floor_pattern, 'brown' if floor_pattern == 'wooden' else str(rng.choice(FLOOR_COLOURS)))
    # Paint on walls and floors is paler than paint on things, or rooms drown what stands in them.
    wall_colour = paint(wall[1], rng) * 0.5 + 0.42
    floor_colour = paint(floor[1], rng) * 0.72 + 0.08
    surfaces = {
        'floor': floor_colour,
        'floor2': np.clip(floor_colour * rng.uniform(0.5, 0.72), 0, 1),
        'ceiling': np.full(3, rng.uniform(0.82, 0.95)),
        'wall': wall_colour,
        'wall2': np.clip(wall_colour * rng.uniform(0.62, 0.8), 0, 1),
    }
    return Layout(
        room=(width, height, depth),
        camera=camera,
        light=light,
        light_colour=np.array([1.0 + warmth, 1.0, 1.0 - warmth]) * rng.uniform(0.75, 1.0),
        ambient=rng.uniform(0.36, 0.5),
        wall=wall,
        floor=floor,
        surfaces=surfaces,
        pattern_scale=rng.uniform(0.22, 0.4),
        grain=rng.random((64, 64)),
        things=[Thing('floor', floor[1]), Thing('ceiling', 'white'), Thing('wall', wall[1])],
    )


def _rotation(yaw: float, pitch: float) -> np.ndarray:
    """Camera-to-world rotation: pitch about x (positive looks up), then yaw about y (positive looks left)."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[cy, sy * sp, sy * cp], [0.0, cp, -sp], [-sy, cy * sp, cy * cp]])
