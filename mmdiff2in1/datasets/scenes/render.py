"""Renders scene number `index` of a seed: RGB, classes, z-depth, normals, saliency, edges and a caption, all exact."""

from dataclasses import dataclass

import numpy as np

from mmdiff2in1.core.region_borders import region_borders

from .captions import caption
from .graph import Layout
from .layout import draw_layout
from .shade import shade
from .trace import ROOM_SURFACES, camera_rays, trace
from .vocabulary import CLASSES, STANDING

VERSION = 2  # of the pictures: any change that alters a pixel or a word raises it

_CENTRE = np.zeros((1, 2))
_SUBPIXELS = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered scene (H = W = size).

    Attributes:
        image: (H, W, 3) uint8 RGB, mean of 2 x 2 rays per pixel.
        semantic: (H, W) uint8, index into `CLASSES`.
        depth: (H, W) float32, z-depth in metres: the distance along the optical axis, not along the ray.
        normal: (H, W, 3) float32, unit length, in the frame of `tasks.SurfaceNormal`.
        saliency: (H, W) uint8, 1 on what stands in the room (`STANDING`), 0 on the room and what hangs on its walls.
        edge: (H, W) float32, 1 on the borders of things, one pixel wide, see `region_borders`, otherwise 0.
        caption: What is visible, in words of `VOCABULARY`.

    Labels belong to the one ray through the centre of each pixel and are never averaged.
    """

    image: np.ndarray
    semantic: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    saliency: np.ndarray
    edge: np.ndarray
    caption: str


def render_scene(seed: int, index: int, size: int = 64) -> Scene:
    """Render scene `index` of the endless collection `seed`; a pure function of its arguments.

    Args:
        seed: Which collection, >= 0.
        index: Which scene of it, >= 0.
        size: Side of the square image in pixels. The scene does not depend on it.

    Raises:
        ValueError: A negative seed or index, or a size below 16.
    """
    if seed < 0 or index < 0 or size < 16:
        raise ValueError(f'need seed >= 0, index >= 0 and size >= 16, got seed={seed}, index={index}, size={size}')
    layout = draw_layout(np.random.default_rng([seed, index]))
    return render_layout(layout, size)


def render_layout(layout: Layout, size: int = 64) -> Scene:
    """Render a scene that is already laid out; see `render_scene`."""
    depth, normal, surface = trace(layout, camera_rays(layout.camera, size, _CENTRE, np.float64), size)
    thing = surface_things(layout)[surface[0]]
    category = np.array([CLASSES.index(t.category) for t in layout.things], np.uint8)
    standing = np.array([t.category in STANDING for t in layout.things], np.uint8)
    r = layout.camera.rotation
    in_camera = np.stack([sum(normal[i][0] * r[i, j] for i in range(3)) for j in range(3)], axis=-1)
    in_camera *= (-1, 1, 1)  # the camera's x points right, that of normal maps left

    rays = camera_rays(layout.camera, size, _SUBPIXELS, np.float32)
    colour = shade(layout, rays, *trace(layout, rays, size)).mean(axis=0)
    pixels = np.bincount(thing.ravel(), minlength=len(layout.things))
    return Scene(
        image=np.round(colour * 255).astype(np.uint8),
        semantic=category[thing],
        depth=depth[0].astype(np.float32),
        normal=in_camera.astype(np.float32),
        saliency=standing[thing],
        edge=region_borders(thing).astype(np.float32),
        caption=caption(layout, pixels, min_pixels=max(4.0, 0.002 * size * size)),
    )


def surface_things(layout: Layout) -> np.ndarray:
    """Which thing (index into `layout.things`) each surface number of `trace` belongs to."""
    room = [0, 1] + [2] * (ROOM_SURFACES - 2)
    return np.array(room + [d.thing for d in layout.decals] + [p.thing for p in layout.parts])
