"""Steps that both demonstrations share: the scenes, the pictures, the summary."""

import argparse
import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.datasets.scenes import DEFAULT_COUNTS, make_scenes
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.visualization import Perceived, prediction_panel, side_by_side

ROWS = 4


class Clock:
    """Seconds of each part of a demonstration, and of all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last one belongs to this part."""
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 1), now
        self.seconds['total'] = round(now - self._begun, 1)


def render(args: argparse.Namespace) -> None:
    """The labelled parts of the scenes, where they are not there yet."""
    make_scenes(args.data, {part: count for part, count in DEFAULT_COUNTS.items() if part != 'unlabelled'})


def predictions(models: Mapping[str, Diff2in1Inferencer], data: Path) -> np.ndarray:
    """Some test images, their labels, and what each model sees in them, side by side."""
    tests = sorted((data / 'test' / 'images').glob('*.png'))[:ROWS]
    truths = [read_png(data / 'test' / 'semantic' / path.name) for path in tests]
    seen = [model(tests) for model in models.values()]
    rows = [
        Perceived(images[0].image, truth, [image.map for image in images])
        for truth, *images in zip(truths, *seen, strict=True)
    ]
    return prediction_panel(rows, next(iter(models.values())).tasks.only, tuple(models))


def write(args: argparse.Namespace, summary: dict[str, Any], drawn: dict[str, np.ndarray], clock: Clock) -> None:
    """summary.json and the pictures, with an overview of all of them; says where they are."""
    drawn = drawn | {'overview': side_by_side(list(drawn.values()))}
    files = [args.work_dir / f'{name}.png' for name in drawn]
    for file, picture in zip(files, drawn.values(), strict=True):
        Image.fromarray(picture).save(file)
    clock.lap('pictures')
    summary |= dict(
        short=args.short, seed=args.seed, seconds=clock.seconds, machine=platform.platform(), command=args.command
    )
    write_atomically(args.work_dir / 'summary.json', (json.dumps(summary, indent=2) + '\n').encode())
    print(f'in {clock.seconds["total"]:.0f} s; {args.work_dir / "summary.json"}, ' + ', '.join(map(str, files)))
