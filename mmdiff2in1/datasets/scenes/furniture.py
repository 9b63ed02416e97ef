"""Things that stand on the floor or on other things: beds, cabinets, tables, bins and balls.

Each `add_*` draws one thing and puts it where there is room, or leaves the scene as it is when no room is found.
"""

import numpy as np

from .graph import Layout, Part, draw_colour, new_thing, paint


def add_bed(layout: Layout, rng: np.random.Generator) -> None:
    w, length, h = rng.uniform(0.9, 1.5), rng.uniform(1.75, 2.0), rng.uniform(0.38, 0.52)
    spot = _place(layout, rng, (w, length), against_wall=True)
    if spot is None:
        return
    name, colour = draw_colour(rng)
    thing = new_thing(layout, 'bed', name)
    wood = paint(str(rng.choice(('brown', 'white', 'black'))), rng)
    head = rng.uniform(0.75, 1.05)

    def box(dx, y, dz, hx, hy, hz, albedo, finish='plain'):
        layout.parts.append(Part('box', _local(*spot, dx, y, dz), (hx, hy, hz), spot[2], thing, albedo, finish))

    box(0, h * 0.25, 0.03, w / 2 - 0.02, h * 0.25, length / 2 - 0.03, wood)
    box(0, h * 0.75, 0.04, w / 2, h * 0.25, length / 2 - 0.04, colour, 'blanket')
    box(0, head / 2, -length / 2 + 0.035, w / 2, head / 2, 0.035, wood)
    pillow = np.array([0.93, 0.93, 0.91])
    offsets = (0.0,) if w < 1.2 else (-w / 4, w / 4)
    for dx in offsets:
        box(dx, h + 0.05, -length / 2 + 0.3, 0.26, 0.06, 0.17, pillow)


def add_cabinet(layout: Layout, rng: np.random.Generator) -> None:
    w, d = rng.uniform(0.5, 1.3), rng.uniform(0.35, 0.55)
    h = float(rng.uniform(0.6, 1.1) if rng.random() < 0.6 else rng.uniform(1.4, 2.0))
    spot = _place(layout, rng, (w, d), against_wall=True)
    if spot is None:
        return
    name, colour = draw_colour(rng)
    thing = new_thing(layout, 'cabinet', name)
    finish = str(rng.choice(('drawers', 'doors')))
    layout.parts.append(Part('box', _local(*spot, 0, h / 2, 0), (w / 2, h / 2, d / 2), spot[2], thing, colour, finish))


def add_table(layout: Layout, rng: np.random.Generator) -> None:
    w, d, h = rng.uniform(0.8, 1.5), rng.uniform(0.6, 0.9), rng.uniform(0.6, 0.78)
    spot = _place(layout, rng, (w, d), against_wall=False)
    if spot is None:
        return
    name, colour = draw_colour(rng)
    thing = new_thing(layout, 'table', name)
    top, leg = 0.035, rng.uniform(0.032, 0.045)
    layout.parts.append(Part('box', _local(*spot, 0, h - top, 0), (w / 2, top, d / 2), spot[2], thing, colour, 'plain'))
    for sx in (-1, 1):
        for sz in (-1, 1):
            centre = _local(*spot, sx * (w / 2 - leg - 0.02), h / 2 - top, sz * (d / 2 - leg - 0.02))
            layout.parts.append(Part('box', centre, (leg, h / 2 - top, leg), spot[2], thing, colour * 0.85, 'plain'))


def add_bin(layout: Layout, rng: np.random.Generator) -> None:
    radius, h = rng.uniform(0.14, 0.22), rng.uniform(0.3, 0.55)
    spot = _place(layout, rng, (2 * radius, 2 * radius), against_wall=False)
    if spot is None:
        return
    name, colour = draw_colour(rng)
    thing = new_thing(layout, 'bin', name)
    layout.parts.append(Part('cylinder', (spot[0], h / 2, spot[1]), (radius, h / 2, radius), 0.0, thing, colour, 'bin'))


def add_ball(layout: Layout, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.11, 0.26)
    perches = [part for part in layout.parts if _can_carry(part)]
    if perches and rng.random() < 0.35:
        perch = perches[rng.integers(len(perches))]
        radius = min(radius, 0.15)
        dx = rng.uniform(-1, 1) * (perch.half[0] - radius)
        x, y, z = _local(perch.centre[0], perch.centre[2], perch.yaw, dx, perch.centre[1] + perch.half[1] + radius, 0)
        balls = [part for part in layout.parts if part.shape == 'sphere']
        if any(np.hypot(b.centre[0] - x, b.centre[2] - z) < b.half[0] + radius for b in balls):
            return
    else:
        spot = _place(layout, rng, (2 * radius, 2 * radius), against_wall=False)
        if spot is None:
            return
        x, y, z = spot[0], radius, spot[1]
    name, colour = draw_colour(rng)
    thing = new_thing(layout, 'ball', name)
    finish = str(rng.choice(('glossy', 'band')))
    layout.parts.append(
        Part('sphere', (x, y, z), (radius, radius, radius), rng.uniform(0, np.pi), thing, colour, finish)
    )


def _can_carry(part: Part) -> bool:
    """True if a ball can lie on the part: a flat top, wide enough, that the camera looks down on."""
    flat = part.shape == 'box' and part.finish != 'blanket' and min(part.half[0], part.half[2]) > 0.16
    return flat and 0.5 < part.centre[1] + part.half[1] < 1.2


def _place(
    layout: Layout, rng: np.random.Generator, size: tuple[float, float], against_wall: bool
) -> tuple[float, float, float] | None:
    """Find a free spot for a (width, depth) footprint: (x, z, yaw), or None. Against a wall, local -z faces it."""
    width, _, depth = layout.room
    for _ in range(25):
        if against_wall:
            yaw = float(rng.choice((0.0, np.pi / 2, -np.pi / 2), p=(0.5, 0.25, 0.25)))
        else:
            yaw = float(rng.uniform(-0.6, 0.6))
        c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
        ex, ez = (c * size[0] + s * size[1]) / 2, (s * size[0] + c * size[1]) / 2
        x, z = rng.uniform(ex + 0.03, width - ex - 0.03), rng.uniform(ez + 0.03, depth - ez - 0.03)
        if against_wall:
            if yaw == 0.0:
                z = ez + 0.01
            else:
                x = ex + 0.01 if yaw > 0 else width - ex - 0.01
        box = (x - ex, z - ez, x + ex, z + ez)
        if _free(layout, box):
            layout.footprints.append(box)
            return x, z, yaw
    return None


def _free(layout: Layout, box: tuple[float, float, float, float], margin: float = 0.06) -> bool:
    """True if a footprint (x0, z0, x1, z1) lies in the room, clear of the camera and of what stands there."""
    x0, z0, x1, z1 = box
    if x0 < 0 or z0 < 0 or x1 > layout.room[0] or z1 > layout.room[2]:
        return False
    cx, _, cz = layout.camera.position
    if np.hypot(cx - min(max(cx, x0), x1), cz - min(max(cz, z0), z1)) < 1.1:
        return False  # nothing stands right in front of the lens
    return all(
        x1 + margin < a or d < z0 - margin or x0 - margin > c or z1 + margin < b for a, b, c, d in layout.footprints
    )


def _local(x: float, z: float, yaw: float, dx: float, y: float, dz: float) -> tuple[float, float, float]:
    """World position of the point (dx, y, dz) of a thing that stands at (x, z), turned by `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    return (x + c * dx + s * dz, y, z - s * dx + c * dz)
