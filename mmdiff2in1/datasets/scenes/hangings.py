"""Things that hang on the walls: doors, windows and pictures, flat rectangles of the wall itself."""

import numpy as np

from .graph import BACK, LEFT, RIGHT, Decal, Layout, draw_colour, new_thing
from .vocabulary import COLOURS


def add_door(layout: Layout, rng: np.random.Generator) -> None:
    names = ('brown', 'white', 'grey', 'red', 'blue', 'green')
    _add_decal(layout, rng, 'door', rng.uniform(0.75, 0.95), 0.0, rng.uniform(1.95, 2.15), names)


def add_window(layout: Layout, rng: np.random.Generator) -> None:
    v0 = rng.uniform(0.8, 1.1)
    _add_decal(layout, rng, 'window', rng.uniform(0.7, 1.5), v0, v0 + rng.uniform(0.8, 1.1), ('white', 'brown', 'grey'))


def add_picture(layout: Layout, rng: np.random.Generator) -> None:
    v0 = rng.uniform(1.15, 1.4)
    _add_decal(layout, rng, 'picture', rng.uniform(0.4, 0.9), v0, v0 + rng.uniform(0.4, 0.65), tuple(COLOURS))


def _add_decal(
    layout: Layout, rng: np.random.Generator, category: str, w: float, v0: float, v1: float, names: tuple[str, ...]
) -> None:
    spot = _hang(layout, rng, w, v0, v1)
    if spot is None:
        return
    name, colour = draw_colour(rng, names)
    _, colour2 = draw_colour(rng)
    finish = category
    if category == 'picture':
        finish = str(rng.choice(('picture-hills', 'picture-disc', 'picture-bands')))
    thing = new_thing(layout, category, name)
    layout.decals.append(Decal(spot[0], (spot[1], spot[2]), (v0, v1), thing, colour, finish, colour2))


def _hang(layout: Layout, rng: np.random.Generator, w: float, v0: float, v1: float) -> tuple[int, float, float] | None:
    """Find a free interval of width `w` at heights [v0, v1] on a visible wall: (wall, u0, u1), or None."""
    for _ in range(20):
        wall = int(rng.choice((BACK, LEFT, RIGHT), p=(0.6, 0.2, 0.2)))
        length = layout.room[0] if wall == BACK else layout.room[2] - 1.0
        if length < w + 0.3:
            continue
        u0 = rng.uniform(0.12, length - w - 0.12)
        u1 = u0 + w
        clash = any(
            d.wall == wall and u0 < d.u[1] + 0.1 and u1 > d.u[0] - 0.1 and v0 < d.v[1] + 0.1 and v1 > d.v[0] - 0.1
            for d in layout.decals
        )
        if not clash and not _hidden(layout, wall, u0, u1, v0):
            return wall, u0, u1
    return None


def _hidden(layout: Layout, wall: int, u0: float, u1: float, v0: float) -> bool:
    """True if a box that stands against the wall reaches up into the rectangle."""
    for part in layout.parts:
        if part.shape != 'box' or part.centre[1] + part.half[1] < v0:
            continue
        along, across = (0, 2) if wall == BACK else (2, 0)
        reach = max(part.half[0], part.half[2])
        gap = layout.room[0] - part.centre[0] if wall == RIGHT else part.centre[across]
        if gap < reach + 0.15 and u0 < part.centre[along] + reach and u1 > part.centre[along] - reach:
            return True
    return False
