"""CamVid's layout with a few street scenes that are drawn here: sky, buildings, road, and a car on it."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 36, 48  # height and width, a tenth of CamVid's
SKY, BUILDING, ROAD, CAR, UNLABELLED = 0, 1, 3, 8, 11


def write_camvid(root: Path, **parts: int) -> Path:
    """As many images of each part, by name; every image has one car, and a row without a label at the bottom."""
    rng = np.random.default_rng(0)
    for part, count in parts.items():
        for kind in ('images', 'annotations'):
            (root / kind / part).mkdir(parents=True)
        for i in range(count):
            label = np.full(SIZE, SKY, np.uint8)
            label[8:20], label[20:] = BUILDING, ROAD
            left = rng.integers(2, 34)
            label[22:30, left : left + 12] = CAR
            label[-1] = UNLABELLED
            image = 20 * label[..., None] + rng.integers(0, 20, (*SIZE, 3))
            Image.fromarray(image.astype(np.uint8)).save(root / 'images' / part / f'{i:03}.png')
            Image.fromarray(label).save(root / 'annotations' / part / f'{i:03}.png')
    return root
