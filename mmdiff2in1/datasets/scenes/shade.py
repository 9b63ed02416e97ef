"""Colours of what the rays hit: procedural textures, one soft point light with shadows, ambient light and occlusion."""

import numpy as np

from .graph import BACK, Decal, Layout, Part
from .trace import ROOM_SURFACES, lit

LIGHT_RADIUS = 0.12  # metres; each of the sub-pixel rays sees another point of the lamp: soft shadows at no cost


def shade(layout: Layout, directions: tuple, t: np.ndarray, normal: tuple, surface: np.ndarray) -> np.ndarray:
    """RGB in [0, 1], (n, size, size, 3), of the hits that `trace` returned."""
    dtype = t.dtype.type
    points = tuple(dtype(o) + d * t for o, d in zip(layout.camera.position, directions, strict=True))
    albedo, emission, gloss = _materials(layout, points, normal, surface)

    spread = np.array([[1, 0, 1], [-1, 0, 1], [1, 0, -1], [-1, 0, -1]])[np.arange(t.shape[0]) % 4]
    lights = layout.light + LIGHT_RADIUS * spread
    to_light = tuple(lights[:, i, None, None].astype(dtype) - points[i] for i in range(3))
    distance = np.sqrt(sum(v * v for v in to_light))
    cosine = sum(n * v for n, v in zip(normal, to_light, strict=True)) / distance
    direct = np.maximum(cosine, 0) * lit(layout, points, lights) / (0.62 + (distance / 3.2) ** 2)
    ambient = layout.ambient * (1 + 0.14 * normal[1]) * _occlusion(layout, points, normal, surface)
    light = direct[..., None] * (0.85 * layout.light_colour).astype(dtype) + ambient[..., None]
    shine = _highlight(directions, normal, to_light, distance) * gloss * (direct > 0)
    colour = albedo * light + emission + shine[..., None]
    return np.clip(1 - np.exp(-1.65 * colour), 0, 1) ** dtype(0.85)


def _highlight(directions, normal, to_light, distance) -> np.ndarray:
    """Blinn-Phong highlight of smooth things."""
    length = np.sqrt(sum(d * d for d in directions))
    middle = tuple(v / distance - d / length for v, d in zip(to_light, directions, strict=True))
    cosine = sum(m * n for m, n in zip(middle, normal, strict=True)) / np.sqrt(sum(m * m for m in middle) + 1e-9)
    return np.maximum(cosine, 0) ** 40


def _occlusion(layout: Layout, points, normal, surface) -> np.ndarray:
    """Share of the ambient light that arrives: less in the corners of the room and on the floor around things."""
    share = np.ones_like(points[0])
    for axis in range(3):
        gap = np.minimum(points[axis], layout.room[axis] - points[axis])
        share *= 1 - 0.3 * (1 - np.abs(normal[axis])) * np.exp(-np.maximum(gap, 0) / 0.3)
    floor = np.nonzero(surface == 0)
    x, z = points[0][floor], points[2][floor]
    contact = np.ones_like(x)
    for part in layout.parts:
        if part.centre[1] - part.half[1] > 0.02:
            continue
        c, s = np.cos(part.yaw), np.sin(part.yaw)
        dx, dz = x - x.dtype.type(part.centre[0]), z - z.dtype.type(part.centre[2])
        if part.shape == 'box':
            gap_x = np.maximum(np.abs(c * dx - s * dz) - part.half[0], 0)
            gap_z = np.maximum(np.abs(s * dx + c * dz) - part.half[2], 0)
            gap, reach = np.sqrt(gap_x**2 + gap_z**2), min(0.16, 2 * part.half[0])
        else:
            rest = 0.3 if part.shape == 'sphere' else 1.0  # a ball touches the floor in one point
            gap, reach = np.maximum(np.sqrt(dx**2 + dz**2) - rest * part.half[0], 0), 0.14
        contact *= 1 - 0.6 * np.exp(-gap / reach)
    share[floor] *= contact
    return share


def _materials(layout: Layout, points, normal, surface):
    """Albedo (…, 3), emission (…, 3) and gloss of every hit; loops over the surfaces that are seen."""
    shape, dtype = surface.shape, points[0].dtype
    albedo, emission = np.empty((*shape, 3), dtype), np.zeros((*shape, 3), dtype)
    gloss = np.zeros(shape, dtype)
    first_part = ROOM_SURFACES + len(layout.decals)
    for number in np.flatnonzero(np.bincount(surface.ravel(), minlength=first_part)):
        where = np.nonzero(surface == number)
        p = tuple(a[where] for a in points)
        n = tuple(a[where] for a in normal)
        if number < ROOM_SURFACES:
            albedo[where] = _room_colour(layout, int(number), p)
        elif number < first_part:
            albedo[where], emission[where] = _decal_colour(layout.decals[number - ROOM_SURFACES], p)
        else:
            part = layout.parts[number - first_part]
            albedo[where] = _part_colour(part, p, n)
            gloss[where] = {'glossy': 0.55, 'band': 0.45, 'bin': 0.15}.get(part.finish, 0.0)
    return albedo, emission, gloss


def _room_colour(layout: Layout, number: int, p) -> np.ndarray:
    if number == 1:
        return np.broadcast_to(layout.surfaces['ceiling'], (p[0].size, 3))
    if number == 0:
        return _pattern(layout, layout.floor[0], p[0], p[2], layout.surfaces['floor'], layout.surfaces['floor2'])
    u = p[2] if number in (3, 4) else p[0]
    colour = _pattern(layout, layout.wall[0], u, p[1], layout.surfaces['wall'], layout.surfaces['wall2'])
    skirting = p[1] < 0.08
    return np.where(skirting[:, None], layout.surfaces['ceiling'] * 0.9, colour)


def _pattern(layout: Layout, pattern: str, u, v, colour, colour2) -> np.ndarray:
    """(N, 3) albedo of a named pattern at surface coordinates in metres."""
    scale = layout.pattern_scale
    if pattern == 'striped':
        share = (np.floor(u / scale) % 2).astype(u.dtype)
    elif pattern == 'checkered':
        share = ((np.floor(u / (1.3 * scale)) + np.floor(v / (1.3 * scale))) % 2).astype(u.dtype)
    elif pattern == 'tiled':
        share = ((np.floor(u / (1.6 * scale)) + np.floor(v / (1.6 * scale))) % 2).astype(u.dtype)
    elif pattern == 'wooden':
        plank = np.floor(u / 0.28)
        tone = layout.grain[(plank.astype(int) * 7) % 64, 3].astype(u.dtype)
        seam = (u / 0.28 - plank) < 0.08
        share = 0.15 + 0.45 * tone + 0.25 * _noise(layout.grain, u * 12, v * 1.5) + 0.4 * seam
    elif pattern == 'speckled':
        share = (_noise(layout.grain, u / (0.5 * scale), v / (0.5 * scale)) > 0.58).astype(u.dtype) * 0.7
    else:
        share = 0.12 * _noise(layout.grain, u * 2, v * 2)
    return colour + np.clip(share, 0, 1)[:, None] * (colour2 - colour)


def _noise(lattice: np.ndarray, u, v) -> np.ndarray:
    """Value noise in [0, 1]: bilinear interpolation of a random periodic lattice."""
    size = lattice.shape[0]
    iu, iv = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = u - iu, v - iv
    a, b = lattice[iu % size, iv % size], lattice[(iu + 1) % size, iv % size]
    c, d = lattice[iu % size, (iv + 1) % size], lattice[(iu + 1) % size, (iv + 1) % size]
    return ((a * (1 - fu) + b * fu) * (1 - fv) + (c * (1 - fu) + d * fu) * fv).astype(u.dtype)


def _decal_colour(decal: Decal, p) -> tuple[np.ndarray, np.ndarray]:
    """Albedo and emission (N, 3) of a door, window or picture."""
    u = p[0] if decal.wall == BACK else p[2]
    width, height = decal.u[1] - decal.u[0], decal.v[1] - decal.v[0]
    a, b = (u - decal.u[0]) / width, (p[1] - decal.v[0]) / height
    edge = np.minimum(np.minimum(a, 1 - a) * width, np.minimum(b, 1 - b) * height)  # metres to the nearest border
    colour = np.tile(decal.colour, (u.size, 1))
    emission = np.zeros_like(colour)
    if decal.finish == 'door':
        panel = (np.abs(a - 0.5) < 0.32) & ((np.abs(b - 0.27) < 0.17) | (np.abs(b - 0.73) < 0.19))
        colour[panel] *= 0.74
        colour[np.minimum(a, 1 - a) * width < 0.06] = 0.3 + 0.3 * decal.colour
        colour[(1 - b) * height < 0.06] = 0.3 + 0.3 * decal.colour
        knob = np.hypot((a - 0.86) * width, (b - 0.48) * height) < 0.05
        colour[knob] = (0.95, 0.85, 0.4)
    elif decal.finish == 'window':
        bars = (edge < 0.07) | (np.abs(a - 0.5) * width < 0.03) | (np.abs(b - 0.55) * height < 0.03)
        sky = np.array([0.62, 0.82, 1.25]) + (1 - b)[:, None] * np.array([0.45, 0.35, 0.05])
        land = b < 0.22 + 0.06 * np.sin(a * 7 + decal.u[0] * 9)
        view = np.where(land[:, None], np.array([0.22, 0.5, 0.2]), sky)
        emission = np.where(bars[:, None], 0, view)
        colour = np.where(bars[:, None], decal.colour, 0.03)
    else:
        ink = decal.colour2
        if decal.finish == 'picture-disc':
            mark = np.hypot((a - 0.5) * width, (b - 0.5) * height) < 0.28 * min(width, height)
        elif decal.finish == 'picture-hills':
            mark = b < 0.45 + 0.15 * np.sin(a * 8 + decal.u[0] * 5)
        else:
            mark = (np.floor(a * 5) % 2).astype(bool)
        colour[mark] = ink
        frame = edge < 0.055
        colour[frame] = (0.1, 0.08, 0.07) if decal.colour.mean() + ink.mean() > 0.8 else (0.9, 0.82, 0.6)
    return colour, emission


def _part_colour(part: Part, p, n) -> np.ndarray:
    """(N, 3) albedo of a part; details are drawn in its own frame."""
    colour = np.tile(part.colour, (p[0].size, 1))
    if part.finish == 'plain' or part.finish == 'glossy':
        return colour
    c, s = np.cos(part.yaw), np.sin(part.yaw)
    dx, dy, dz = (a - a.dtype.type(b) for a, b in zip(p, part.centre, strict=True))
    x, z = c * dx - s * dz, s * dx + c * dz
    if part.finish == 'bin':
        rim = (n[1] > 0.5) & (np.hypot(dx, dz) < 0.82 * part.half[0])
        colour[rim] *= 0.22
    elif part.finish == 'band':
        colour[np.abs(x * 0.6 + dy * 0.8) < 0.22 * part.half[0]] = (0.95, 0.95, 0.93)
    elif part.finish == 'blanket':
        sheet = z < -part.half[2] + 0.55
        colour[sheet] = colour[sheet] * 0.3 + 0.62
    else:
        front = (s * n[0] + c * n[2]) > 0.5
        rows = max(2, round(part.half[1] / 0.16))
        if part.finish == 'drawers':
            slot = ((dy / part.half[1] + 1) / 2 * rows) % 1
            line = np.minimum(slot, 1 - slot) < 0.09
            handle = (np.abs(slot - 0.5) < 0.14) & (np.abs(x) < 0.3 * part.half[0])
        else:
            line = np.abs(x) < 0.022
            handle = (np.abs(np.abs(x) - 0.09) < 0.03) & (np.abs(dy) < 0.12)
        border = (part.half[0] - np.abs(x) < 0.03) | (part.half[1] - np.abs(dy) < 0.03)
        colour[front & (line | border)] *= 0.55
        colour[front & handle] = (0.1, 0.1, 0.1) if part.colour.mean() > 0.35 else (0.85, 0.85, 0.8)
    return colour
