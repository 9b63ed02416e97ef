"""Writes Scenes to disk: `<out>/{unlabelled,train,val,test}/images/000000.png`, captions, labels and one `meta.json`.

A part is written into `<part>.partial` and renamed when complete, so a folder without that ending is never half-made.
"""

import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal

from .render import VERSION, render_scene
from .vocabulary import CLASSES, PALETTE

# Where a part starts in the endless collection of a seed: parts never share a scene, whatever their counts.
PART_STARTS = {'unlabelled': 0, 'train': 10_000_000, 'val': 20_000_000, 'test': 30_000_000}
MAX_COUNT = 1_000_000  # six digits in a file name
DEFAULT_COUNTS = {'unlabelled': 10_000, 'train': 600, 'val': 200, 'test': 400}
LABELS = {'semantic': SemanticSegmentation(len(CLASSES)), 'depth': Depth(), 'normal': SurfaceNormal()}


def make_scenes(
    out: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: int = 64,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Render and write the parts in `counts`; parts that are there already are left alone.

    The files are the same whatever the number of workers. `unlabelled` gets images and captions, the other parts also
    `semantic/` (class index), `depth/` (uint16 millimetres) and `normal/` (uint16 RGB), all PNG.

    Args:
        out: Folder of the set, e.g. `data/scenes`.
        counts: Scenes per part; a subset of `DEFAULT_COUNTS`' keys. None: `DEFAULT_COUNTS`.
        size: Side of the images in pixels, at least 16.
        seed: Seed of the set.
        workers: Processes; None: one per CPU core, 1: this process.
        progress: Show a progress bar with the time left.

    Returns:
        The folder.

    Raises:
        ValueError: Unknown part, a count that is not in [1, 1000000], or `out` holds a set of another seed, size,
            version or count.
    """
    out = Path(out)
    counts = dict(DEFAULT_COUNTS if counts is None else counts)
    meta = check_plan(out, counts, size, seed)
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / 'meta.json', meta)
    for part, count in counts.items():
        if not (out / part).is_dir():
            _make_part(out, part, count, size, seed, workers or os.cpu_count() or 1, progress)
        meta['counts'][part] = count
        _write_json(out / 'meta.json', meta)
    return out


def check_plan(out: Path, counts: Mapping[str, int], size: int, seed: int) -> dict:
    """The content of `meta.json` so far, after the checks that `make_scenes` promises."""
    for part, count in counts.items():
        if part not in PART_STARTS:
            raise ValueError(f"unknown part '{part}'; known parts: {', '.join(PART_STARTS)}")
        if not 1 <= count <= MAX_COUNT:
            raise ValueError(f"part '{part}': {count} scenes asked for, expected 1 to {MAX_COUNT}")
    if size < 16:
        raise ValueError(f'size={size}: expected at least 16 pixels')
    if seed < 0:
        raise ValueError(f'seed={seed}: expected a number >= 0')
    meta = dict(version=VERSION, seed=seed, size=size, counts={}, classes=list(CLASSES), palette=PALETTE)
    path = out / 'meta.json'
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f'{path} is not readable JSON ({error}); delete {out} and make the set anew') from error
        for key in ('version', 'seed', 'size'):
            if found.get(key) != meta[key]:
                raise ValueError(
                    f'{path} has {key}={found.get(key)}, but {key}={meta[key]} is asked for; '
                    'write to another folder with --out, or delete this one'
                )
        meta['counts'] = dict(found.get('counts', {}))
    for part, count in counts.items():
        if (out / part).is_dir():
            there = sum(1 for _ in (out / part / 'images').glob('*.png'))
            if there != count:
                raise ValueError(
                    f'{out / part} holds {there} scenes, but {count} are asked for; '
                    f'ask for {there}, write to another folder with --out, or delete that folder'
                )
    return meta


def _make_part(out: Path, part: str, count: int, size: int, seed: int, workers: int, progress: bool) -> None:
    folder = out / f'{part}.partial'
    shutil.rmtree(folder, ignore_errors=True)
    for name in ('images',) if part == 'unlabelled' else ('images', *LABELS):
        (folder / name).mkdir(parents=True)
    job = partial(_write_scene, folder, part, size, seed)
    with (
        open(folder / 'captions.jsonl', 'w', encoding='utf-8') as captions,
        tqdm(total=count, desc=part, unit='scene', disable=not progress) as bar,
    ):
        for number, caption in enumerate(_map(job, count, min(workers, count))):
            captions.write(json.dumps({'image': f'{number:06d}.png', 'caption': caption}) + '\n')
            bar.update()
    os.replace(folder, out / part)


def _map(job, count: int, workers: int):
    """Results of job(0) ... job(count - 1), in order."""
    if workers <= 1:
        yield from map(job, range(count))
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn'
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield from pool.imap(job, range(count), chunksize=max(1, min(32, count // (4 * workers))))


def _write_scene(folder: Path, part: str, size: int, seed: int, number: int) -> str:
    scene = render_scene(seed, PART_STARTS[part] + number, size)
    name = f'{number:06d}.png'
    _write_png(folder / 'images' / name, scene.image)
    if part != 'unlabelled':
        for label, task in LABELS.items():
            _write_png(folder / label / name, task.encode(getattr(scene, label)))
    return scene.caption


def _write_png(path: Path, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) in RGB order; OpenCV wants BGR."""
    if array.ndim == 3:
        array = array[..., ::-1]
    if not cv2.imwrite(str(path), array):
        raise OSError(f'could not write {path}; is the disk full?')


def _write_json(path: Path, value: dict) -> None:
    temporary = path.with_suffix('.json.partial')
    temporary.write_text(json.dumps(value, indent=1) + '\n')
    os.replace(temporary, path)
