"""How the cost of a store grows with its records: each function prepares, measures one operation, says what it cost."""

import gc
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdiff2in1.synthesis import SampleRecipe, SampleStore
from mmdiff2in1.synthesis.store import IMAGES, MANIFEST

from .memory import high_water_mark, reset_peak, resident

SOURCES = 20_000
STEPS = list(range(589, 0, -30))
SIDE = 64
"""Pixels of the images that are checked: noise, which PNG makes no smaller."""


def opening(records: int, folder: Path) -> dict[str, Any]:
    """All lines read and checked, as before every use."""
    write_store(folder, records)
    return measured(lambda: SampleStore(folder).finished())


def listing(records: int, folder: Path) -> dict[str, Any]:
    """Opening, and every record parsed once, one after another."""
    write_store(folder, records)
    return measured(lambda: sum(len(record) for record in SampleStore(folder).records()))


def merging(records: int, folder: Path) -> dict[str, Any]:
    """The manifests of two processes, half of the records each, into one."""
    write_store(folder, records)
    lines = (folder / MANIFEST).read_bytes().splitlines(keepends=True)
    for rank in (0, 1):
        (folder / f'manifest.rank{rank}.jsonl').write_bytes(b''.join(lines[rank::2]))
    (folder / MANIFEST).unlink()
    del lines
    return measured(lambda: SampleStore(folder).merge())


def checking(records: int, folder: Path) -> dict[str, Any]:
    """`--verify`: the hash of every image."""
    size = write_store(folder, records, with_images=True)
    return measured(lambda: SampleStore(folder).verify()) | dict(bytes_of_files=size)


def measured(run: Callable[[], Any]) -> dict[str, Any]:
    """Seconds by the clock and of the processor; bytes that the process took at most, beside what it held before."""
    gc.collect()
    before = resident()
    reset_peak('cpu')
    start, worked = time.perf_counter(), time.process_time()
    result = run()
    found = dict(seconds=time.perf_counter() - start, core_seconds=time.process_time() - worked)
    taken = high_water_mark() - before
    del result
    return found | dict(bytes=taken)


def write_store(folder: Path, records: int, with_images: bool = False) -> int:
    """A store of samples as they are created; without images its manifest alone. Returns the bytes of the images."""
    folder.mkdir(parents=True)
    rng, size = np.random.default_rng(0), 0
    (folder / IMAGES).mkdir()
    with open(folder / MANIFEST, 'w') as stream:
        for number in range(records):
            record = _record(number)
            record['image'] = f'{IMAGES}/{record["sample_id"]}.png'
            record['image_sha256'] = f'{number:064x}'
            if with_images:
                noise = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                data = cv2.imencode('.png', noise)[1].tobytes()
                (folder / record['image']).write_bytes(data)
                record['image_sha256'] = hashlib.sha256(data).hexdigest()
                size += len(data)
            stream.write(json.dumps(record, sort_keys=True) + '\n')
    return size


def _record(number: int) -> dict[str, Any]:
    """As `synthesize` writes it for ADE20K: 20 calls at T = 600."""
    name = f'ADE_train_{number % SOURCES:08d}'
    recipe = SampleRecipe(
        source=f'images/training/{name}.jpg',
        caption='a kitchen with a wooden table and two white chairs near a window',
        seed=number // SOURCES,
        T=600,
        grid='even',
        num_calls=len(STEPS),
        solver='dpm++',
        guidance_scale=1.0,
        size=(512, 512),
        weights_hash='ab' * 32,
    )
    made = dict(sample_id=recipe.sample_id, noise_seed=recipe.noise_seed, size=[512, 512], timesteps=STEPS)
    labels = dict(seg_map_path=f'annotations/training/{name}.png')
    scores = dict(contrast=41.25, source_distance=27.125)
    return recipe.fields | made | dict(source_labels=labels, scores=scores, restore_size=True)
