"""In which frame normals are stored: what is seen faces the camera, and a floor points up.

A surface that is seen at a pixel faces the camera: n · c > 0, with c the direction to the camera, which a camera of
ordinary width gives well enough. Of the 48 frames that three signed axes make, a set of rooms breaks that in all but
the right one. N: sampled pixels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmdiff2in1.core.problem import Problem

FRAMES = [
    tuple(sign + axis for sign, axis in zip(signs, axes, strict=True))
    for axes in itertools.permutations('xyz')
    for signs in itertools.product(('', '-'), repeat=3)
]
"""All values of `label_axes`; the first is this package's own frame."""

FIELD_OF_VIEW = 60.0  # degrees, along the longer side: NYUv2 63, ScanNet 58
TOLERANCE = 0.1  # of a cosine: noise, and the camera that is only roughly known
SAMPLED = 4096  # pixels per image, about
LEVEL = np.cos(np.deg2rad(30))
# A frame is warned about if another one breaks the rule at so many pixels less, and in most of the images.
CLEAR, CLEAR_ALONE = 0.02, 0.05
AGREEING = 0.8

_SIGNED = np.zeros((9, len(FRAMES)))  # from all products file axis × camera axis to n · c, for each frame
for _number, _frame in enumerate(FRAMES):
    for _ours, _name in enumerate(_frame):
        _SIGNED[3 * 'xyz'.index(_name[-1]) + _ours, _number] = -1 if _name[0] == '-' else 1


@dataclass(frozen=True)
class NormalFacts:
    """Facts of one map about its frame.

    `away`: (48,) share of its pixels that would face away from the camera, for each of `FRAMES`. `level`: how many
    sampled vectors of the lowest third would point (up, down), within 30 degrees, in the frame that was declared.
    """

    away: np.ndarray
    level: tuple[int, int]
    bits: int


def normal_facts(vectors: np.ndarray, axes: Sequence[str] | None, bits: int) -> NormalFacts | None:
    """Facts of a map of unit and zero vectors (H, W, 3) in the frame of its file; None if it knows nothing.

    `axes`: `label_axes` as the data set declares them. `bits`: of a channel in the file.
    """
    known = (vectors != 0).any(-1)
    if not known.any():
        return None
    step = max(1, round((known.sum() / SAMPLED) ** 0.5))
    grid = (slice(step // 2, None, step), slice(step // 2, None, step))
    kept = known[grid]
    if not kept.any():
        grid, kept = (slice(None), slice(None)), known
    n, c = vectors[grid][kept].astype(np.float64), to_camera(vectors.shape[:2])[grid][kept]  # (N, 3)
    facing = (n[:, :, None] * c[:, None, :]).reshape(-1, 9) @ _SIGNED  # n · c, (N, 48)
    axis = (axes or FRAMES[0])[1]
    up = n[:, 'xyz'.index(axis[-1])] * (-1 if axis[0] == '-' else 1)
    up = up[np.nonzero(kept)[0] >= len(kept) * 2 / 3]
    level = int((up > LEVEL).sum()), int((up < -LEVEL).sum())
    return NormalFacts((facing < -TOLERANCE).mean(0), level, bits)


@lru_cache(maxsize=8)
def to_camera(size: tuple[int, int]) -> np.ndarray:
    """Unit vectors (H, W, 3) from what is seen at each pixel to the camera: x left, y up, z towards the viewer."""
    height, width = size
    focal = max(size) / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW) / 2)
    right, down = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
    c = np.stack(np.broadcast_arrays(right, down[:, None], np.float64(focal)), axis=-1)
    return c / np.linalg.norm(c, axis=-1, keepdims=True)


def normal_notes(facts: Sequence[NormalFacts], axes: Sequence[str] | None) -> list[str]:
    """Notes on the maps of a set, for the report."""
    up, down = np.sum([fact.level for fact in facts], axis=0)
    away = np.mean([fact.away[FRAMES.index(tuple(axes or FRAMES[0]))] for fact in facts])
    notes = [f'normals: {away:.1%} of the pixels face away from the camera']
    if up + down:
        notes[0] += f'; of the level surfaces in the lowest third {up / (up + down):.0%} face up'
    if any(fact.bits == 8 for fact in facts):
        notes.append('normals: 8 bits per channel, a step of 0.45 degrees')
    return notes


def frame_problems(facts: Sequence[NormalFacts], axes: Sequence[str] | None, where: str) -> list[Problem]:
    """A warning if the maps of a set fit another frame clearly better than the one that was declared.

    Args:
        facts: Of some maps of the set, at least one.
        axes: `label_axes` of the set.
        where: Folder of the maps, for the problem.
    """
    away = np.stack([fact.away for fact in facts])  # (images, 48)
    declared = FRAMES.index(tuple(axes or FRAMES[0]))
    mean = away.mean(0)
    best = int(mean.argmin())
    gain = away[:, declared] - away[:, best]
    clear = CLEAR if len(facts) > 1 else CLEAR_ALONE
    if gain.mean() < clear or mean[best] > mean[declared] / 2 or (gain > 0).mean() < AGREEING:
        return []
    others = np.delete(mean, best)
    found = (
        f'{mean[declared]:.1%} of the pixels facing away from the camera in the declared frame, label_axes='
        f'{FRAMES[declared]}, but {mean[best]:.1%} with {FRAMES[best]} (the next best has {others.min():.1%}; '
        f'{len(facts)} maps, {(gain > 0).mean():.0%} of them agree)'
    )
    expected = 'normals that face the camera: x left, y up, z towards the viewer'
    step = (
        f'Set label_axes={FRAMES[best]} in the data set, then look at the picture: a floor is green, a front wall blue'
    )
    if others.min() - mean[best] < clear:
        step += '. More maps, without --limit, would tell that frame from the next best one'
    return [Problem('warning', 'label-axes', where, found, expected, step)]
