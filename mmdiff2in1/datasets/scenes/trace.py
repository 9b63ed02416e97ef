"""Ray casting from one common origin (the camera, or the light) through the room, the wall rectangles and the parts.

Directions are not normalised: a camera ray has length 1 along the optical axis, so the ray parameter t IS the z-depth
in metres; a light ray ends at the point it aims at, so that point lies at t = 1.
"""

import numpy as np

from .graph import BACK, Camera, Layout, Part

ROOM_SURFACES = 6  # floor, ceiling, back, left, right, front; then decals, then parts
_TINY = 1e-9


def camera_rays(camera: Camera, size: int, offsets: np.ndarray, dtype: type) -> tuple[np.ndarray, ...]:
    """World directions of the rays through every pixel, one per sub-pixel offset.

    Args:
        camera: The camera.
        size: Side of the image in pixels.
        offsets: (n, 2) offsets (x, y) from the pixel centre, in pixels.
        dtype: Floating-point type to compute in.

    Returns:
        Three arrays (n, size, size): x, y and z of the directions, each of length 1 along the optical axis.
    """
    half = np.tan(camera.fov / 2)
    grid = (np.arange(size) + 0.5) * (2 / size) - 1
    x = half * (grid[None, None, :] + offsets[:, 0, None, None] * (2 / size))
    y = -half * (grid[None, :, None] + offsets[:, 1, None, None] * (2 / size))
    r = camera.rotation
    return tuple((r[i, 0] * x + r[i, 1] * y - r[i, 2]).astype(dtype) for i in range(3))


def trace(layout: Layout, directions: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, tuple, np.ndarray]:
    """First hit of camera rays.

    Args:
        layout: The scene.
        directions: Three arrays (n, size, size), see `camera_rays`.
        size: Side of the image in pixels.

    Returns:
        t (n, size, size), z-depth in metres; the world normal as three arrays; the surface hit, int16: a room surface
        0-5, then decals, then parts.
    """
    origin = layout.camera.position
    t, normal, surface = _hit_room(layout, origin, directions)
    _hit_decals(layout, origin, directions, t, surface)
    first = ROOM_SURFACES + len(layout.decals)
    for number, part in enumerate(layout.parts):
        window = _screen_window(layout.camera, part, size)
        if window is None:
            continue
        rays = tuple(d[window] for d in directions)
        t_part, normal_part = _hit_part(part, origin, rays, with_normal=True)
        closer = t_part < t[window]
        np.copyto(t[window], t_part, where=closer)
        np.copyto(surface[window], np.int16(first + number), where=closer)
        for axis in range(3):
            np.copyto(normal[axis][window], normal_part[axis], where=closer)
    return t, normal, surface


def lit(layout: Layout, points: tuple[np.ndarray, ...], lights: np.ndarray) -> np.ndarray:
    """Points that the light reaches: boolean (n, size, size), one light position per leading index."""
    visible = np.ones(points[0].shape, dtype=bool)
    dtype = points[0].dtype
    origin = tuple(lights[:, i, None, None].astype(dtype) for i in range(3))
    rays = tuple(p - o for p, o in zip(points, origin, strict=True))
    for part in layout.parts:
        t, _ = _hit_part(part, origin, rays, with_normal=False)
        visible &= t > 0.997
    return visible


def _hit_room(layout: Layout, origin, directions):
    """Where rays leave the room; every ray does."""
    t, axis = None, None
    for i, d in enumerate(directions):
        wall = np.where(d > 0, layout.room[i], 0.0).astype(d.dtype)
        safe = np.where(np.abs(d) < _TINY, np.asarray(_TINY, d.dtype), d)
        ti = (wall - d.dtype.type(origin[i])) / safe
        ti = np.where(ti <= 0, np.inf, ti).astype(d.dtype)
        if t is None:
            t, axis = ti, np.zeros(d.shape, np.int8)
        else:
            closer = ti < t
            axis[closer] = i
            t = np.minimum(t, ti)
    normal = tuple(np.where(axis == i, -np.sign(d), 0).astype(d.dtype) for i, d in enumerate(directions))
    x, y, z = directions
    surface = np.where(axis == 1, (y > 0), np.where(axis == 0, 3 + (x > 0), 2 + 3 * (z > 0))).astype(np.int16)
    return t, normal, surface


def _hit_decals(layout: Layout, origin, directions, t, surface) -> None:
    """Relabel room hits that fall into a rectangle on that wall; in place."""
    if not layout.decals:
        return
    x, y, z = (d * t + d.dtype.type(o) for d, o in zip(directions, origin, strict=True))
    for number, decal in enumerate(layout.decals):
        u = x if decal.wall == BACK else z
        inside = (surface == decal.wall) & (u > decal.u[0]) & (u < decal.u[1]) & (y > decal.v[0]) & (y < decal.v[1])
        surface[inside] = ROOM_SURFACES + number


def _hit_part(part: Part, origin, rays, with_normal: bool):
    """t of the first hit (inf where missed) and, if asked, the world normal there."""
    dtype = rays[0].dtype.type
    o = tuple(np.subtract(a, b).astype(dtype) for a, b in zip(origin, part.centre, strict=True))
    if part.shape == 'sphere':
        return _hit_sphere(part, o, rays, with_normal)
    if part.shape == 'cylinder':
        return _hit_cylinder(part, o, rays, with_normal)
    return _hit_box(part, o, rays, with_normal)


def _hit_box(part: Part, o, rays, with_normal: bool):
    dtype = rays[0].dtype.type
    c, s = dtype(np.cos(part.yaw)), dtype(np.sin(part.yaw))
    local_o = (c * o[0] - s * o[2], o[1], s * o[0] + c * o[2])
    local_d = (c * rays[0] - s * rays[2], rays[1], s * rays[0] + c * rays[2])
    near, far, axis = None, None, None
    for i in range(3):
        with np.errstate(divide='ignore', invalid='ignore'):
            inverse = 1 / np.where(local_d[i] == 0, dtype(_TINY), local_d[i])
        h = np.abs(inverse) * dtype(part.half[i])
        middle = -local_o[i] * inverse
        enter, leave = middle - h, middle + h
        if near is None:
            near, far = enter, leave
            axis = np.zeros(enter.shape, np.int8) if with_normal else None
        else:
            if with_normal:
                axis[enter > near] = i
            near, far = np.maximum(near, enter), np.minimum(far, leave)
    t = np.where((near < far) & (near > 1e-4), near, dtype(np.inf))
    if not with_normal:
        return t, None
    nx, ny, nz = (np.where(axis == i, -np.sign(local_d[i]), 0).astype(dtype) for i in range(3))
    return t, (c * nx + s * nz, ny, -s * nx + c * nz)


def _hit_sphere(part: Part, o, rays, with_normal: bool):
    dtype = rays[0].dtype.type
    radius = dtype(part.half[0])
    a = rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2
    b = o[0] * rays[0] + o[1] * rays[1] + o[2] * rays[2]
    c = o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - radius**2
    under_root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(under_root, 0))) / a
    t = np.where((under_root > 0) & (t > 1e-4), t, dtype(np.inf))
    if not with_normal:
        return t, None
    finite = np.where(np.isfinite(t), t, 0)
    return t, tuple((p + finite * d) / radius for p, d in zip(o, rays, strict=True))


def _hit_cylinder(part: Part, o, rays, with_normal: bool):
    dtype = rays[0].dtype.type
    radius, half = dtype(part.half[0]), dtype(part.half[1])
    a = rays[0] ** 2 + rays[2] ** 2 + dtype(_TINY)
    b = o[0] * rays[0] + o[2] * rays[2]
    c = o[0] ** 2 + o[2] ** 2 - radius**2
    under_root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(under_root, 0))) / a
    side = (under_root > 0) & (t > 1e-4) & (np.abs(o[1] + t * rays[1]) < half)
    t = np.where(side, t, dtype(np.inf))
    down = np.where(rays[1] < 0, rays[1], dtype(-_TINY))
    t_top = (half - o[1]) / down  # bins stand on something: only the upper lid can be seen
    top = (rays[1] < 0) & (t_top > 1e-4) & ((o[0] + t_top * rays[0]) ** 2 + (o[2] + t_top * rays[2]) ** 2 < radius**2)
    top &= t_top < t
    t = np.where(top, t_top, t)
    if not with_normal:
        return t, None
    finite = np.where(np.isfinite(t), t, 0)
    nx, nz = (np.where(top, 0, (o[i] + finite * rays[i]) / radius) for i in (0, 2))
    return t, (nx, top.astype(dtype), nz)


def _screen_window(camera: Camera, part: Part, size: int):
    """Index of the pixels that the part can cover, None if none: saves most of the intersection work."""
    reach = float(np.hypot(part.half[0], part.half[2])) if part.shape == 'box' else part.half[0]
    corner = np.array([reach, part.half[1], reach])
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    seen = (np.array(part.centre) + signs * corner - camera.position) @ camera.rotation
    if (seen[:, 2] > -0.05).all():
        return None
    if (seen[:, 2] > -0.05).any():
        return np.s_[:, :, :]
    focal = size / 2 / np.tan(camera.fov / 2)
    x, y = size / 2 - focal * seen[:, 0] / seen[:, 2], size / 2 + focal * seen[:, 1] / seen[:, 2]
    x0, x1 = max(int(x.min()) - 1, 0), min(int(x.max()) + 2, size)
    y0, y1 = max(int(y.min()) - 1, 0), min(int(y.max()) + 2, size)
    return np.s_[:, y0:y1, x0:x1] if x0 < x1 and y0 < y1 else None
