"""Labelled rooms of 48 × 64 pixels, drawn by hand: a wall and a floor, bins that stand, pictures that hang.

Every pixel has a colour of its own and labels of three tasks; the floor comes nearer row by row.
"""

import hashlib

import numpy as np

from mmdiff2in1.synthesis.layouts import LabelledSample, LabelledSamples
from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal

H, W, SKYLINE = 48, 64, 24
WALL, FLOOR, BIN, PICTURE = range(4)
NAMES = ('Wall', 'Floor', 'Bin', 'Picture')
FAR = 6.0
NORMALS = {WALL: (0.0, 0.0, 1.0), FLOOR: (0.0, 1.0, 0.0), BIN: (0.6, 0.0, 0.8), PICTURE: (-0.8, 0.0, 0.6)}


def floor_depth(row):
    """Metres at a row of the floor, FAR at the skyline."""
    return FAR * 8 / (row - SKYLINE + 8)


class Rooms(LabelledSamples):
    """`tasks`: of which labels the samples have."""

    def __init__(self, count=12, tasks=('semantic_segmentation', 'depth', 'normal'), seed=0):
        every = dict(
            semantic_segmentation=SemanticSegmentation(4, classes=NAMES), depth=Depth(), normal=SurfaceNormal()
        )
        self.areas, self.tasks = every['semantic_segmentation'], {name: every[name] for name in tasks}
        rng = np.random.default_rng(seed)
        self._samples = {f'{index}.png': self._drawn(f'{index}.png', rng) for index in range(count)}

    def __getitem__(self, name):
        return self._samples[name]

    def __iter__(self):
        return iter(self._samples)

    def __len__(self):
        return len(self._samples)

    @property
    def digest(self):
        return hashlib.sha256(b''.join(each.image.tobytes() for each in self.values())).hexdigest()

    def _drawn(self, name, rng):
        classes = np.full((H, W), WALL, np.uint8)
        classes[SKYLINE:] = FLOOR
        depth = np.full((H, W), FAR, np.float32)
        depth[SKYLINE:] = floor_depth(np.arange(SKYLINE, H))[:, None]
        if rng.random() < 0.8:
            top, left = rng.integers(3, 10), rng.integers(4, W - 16)
            classes[top : top + rng.integers(5, 8), left : left + rng.integers(6, 10)] = PICTURE
        for _ in range(rng.integers(1, 3)):
            foot = int(rng.integers(SKYLINE + 6, H - 2))
            metres = floor_depth(foot)
            high, wide = round(50 / metres), round(40 / metres)
            left = int(rng.integers(2, W - wide - 2))
            classes[foot - high + 1 : foot + 1, left : left + wide] = BIN
            # A round bin: its middle is nearest.
            across = np.abs(np.arange(wide) - (wide - 1) / 2) / wide
            depth[foot - high + 1 : foot + 1, left : left + wide] = metres * (0.97 + 0.04 * across)
        image = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
        every = dict(
            semantic_segmentation=classes,
            depth=depth,
            normal=np.array([NORMALS[i] for i in range(4)], np.float32)[classes],
        )
        return LabelledSample(name, f'room {name[:-4]}', image, {task: every[task] for task in self.tasks}, classes)
