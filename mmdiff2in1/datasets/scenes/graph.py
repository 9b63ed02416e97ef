"""The graph of a scene: room, camera, light, the things in it and the solid parts and wall rectangles they are made of.

World frame: x right, y up, z towards the default viewer, metres; the room is the box [0, W] x [0, H] x [0, D] and the
camera stands near z = D, looking towards z = 0.
"""

from dataclasses import dataclass, field

import numpy as np

from .vocabulary import COLOURS

BACK, LEFT, RIGHT = 2, 3, 4  # surfaces of the room; 0 floor, 1 ceiling, 5 the wall behind the camera


@dataclass(frozen=True, slots=True)
class Part:
    """A convex solid: `box` (half extents), `sphere` (half[0] = radius) or upright `cylinder` (radius, half height)."""

    shape: str
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float  # radians about y
    thing: int
    colour: np.ndarray  # (3,) albedo
    finish: str


@dataclass(frozen=True, slots=True)
class Decal:
    """A rectangle on a wall: `u` is x on the back wall and z on the side walls, `v` is the height."""

    wall: int
    u: tuple[float, float]
    v: tuple[float, float]
    thing: int
    colour: np.ndarray
    finish: str
    colour2: np.ndarray


@dataclass(frozen=True, slots=True)
class Thing:
    """Class and colour of a thing, as a caption can name it."""

    category: str
    colour: str


@dataclass(frozen=True, slots=True)
class Camera:
    """Pinhole camera; the columns of `rotation` are its right, up and backward axes in the world."""

    position: np.ndarray
    rotation: np.ndarray
    fov: float  # horizontal, radians


@dataclass(slots=True)
class Layout:
    """One scene before it is rendered."""

    room: tuple[float, float, float]  # W, H, D
    camera: Camera
    light: np.ndarray
    light_colour: np.ndarray
    ambient: float
    wall: tuple[str, str]  # pattern, colour name
    floor: tuple[str, str]
    surfaces: dict[str, np.ndarray]  # albedo of floor, ceiling, wall and the second wall and floor colours
    pattern_scale: float
    grain: np.ndarray  # (64, 64) lattice of the noise textures, in [0, 1]
    things: list[Thing] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)
    footprints: list[tuple[float, float, float, float]] = field(default_factory=list)  # x0, z0, x1, z1


def paint(name: str, rng: np.random.Generator) -> np.ndarray:
    """Albedo (3,) of a named colour, no two coats quite the same."""
    colour = np.array(COLOURS[name])
    return np.clip(colour * rng.uniform(0.88, 1.1) + rng.uniform(-0.03, 0.03, 3), 0.03, 0.97)


def draw_colour(rng: np.random.Generator, names: tuple[str, ...] = tuple(COLOURS)) -> tuple[str, np.ndarray]:
    """A colour name and its albedo."""
    name = str(rng.choice(names))
    return name, paint(name, rng)


def new_thing(layout: Layout, category: str, colour: str) -> int:
    """Add a thing to the scene; its number."""
    layout.things.append(Thing(category, colour))
    return len(layout.things) - 1
