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

from tqdm import tqdm

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.core.lock import locked
from mmdiff2in1.core.processes import usable_cores
from mmdiff2in1.tasks import Depth, Edges, Saliency, SemanticSegmentation, SurfaceNormal

from .render import VERSION, render_scene
from .vocabulary import CLASSES, PALETTE

# Where a part starts in the endless collection of a seed: parts never share a scene, whatever their counts.
PART_STARTS = {'unlabelled': 0, 'train': 10_000_000, 'val': 20_000_000, 'test': 30_000_000}
MAX_COUNT = 1_000_000  # six digits in a file name
DEFAULT_COUNTS = {'unlabelled': 10_000, 'train': 600, 'val': 200, 'test': 400}
LABELS = {
    'semantic': SemanticSegmentation(len(CLASSES)),
    'depth': Depth(),
    'normal': SurfaceNormal(),
    'saliency': Saliency(),
    'edge': Edges(),
}


def make_scenes(
    out: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: int = 64,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Render and write the parts in `counts`; parts that are there already are left alone, but get labels they lack.

    The files are the same whatever the number of workers. `unlabelled` gets images and captions, the other parts also
    `semantic/` (class index), `depth/` (uint16 millimetres), `normal/` (uint16 RGB), `saliency/` (0 or 1) and `edge/`
    (0 or 255), all PNG.

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
    with locked(out, 'making scenes'):
        _write_json(out / 'meta.json', meta)
        for part, count in counts.items():
            if missing := missing_folders(out / part, part):
                _make_part(out, part, missing, count, size, seed, workers or usable_cores(), progress)
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


def missing_folders(folder: Path, part: str) -> list[str]:
    """Folders that a part does not hold yet: all of them, or those of labels that an earlier version did not write."""
    wanted = ('images',) if part == 'unlabelled' else ('images', *LABELS)
    return [name for name in wanted if not (folder / name).is_dir()]


def _make_part(
    out: Path, part: str, folders: list[str], count: int, size: int, seed: int, workers: int, progress: bool
) -> None:
    """Writes these folders of a part; with that of the images its captions, and the part appears as a whole."""
    partial_folder = out / f'{part}.partial'
    shutil.rmtree(partial_folder, ignore_errors=True)
    for name in folders:
        (partial_folder / name).mkdir(parents=True)
    job = partial(_write_scene, partial_folder, folders, PART_STARTS[part], size, seed)
    with tqdm(total=count, desc=part, unit='scene', disable=not progress) as bar:
        captions = []
        for caption in _map(job, count, min(workers, count)):
            captions.append(caption)
            bar.update()
    if 'images' in folders:
        lines = (json.dumps({'image': f'{i:06d}.png', 'caption': caption}) for i, caption in enumerate(captions))
        (partial_folder / 'captions.jsonl').write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
        os.replace(partial_folder, out / part)
        return
    for name in folders:
        os.replace(partial_folder / name, out / part / name)
    partial_folder.rmdir()


def _map(job, count: int, workers: int):
    """Results of job(0) ... job(count - 1), in order."""
    if workers <= 1:
        yield from map(job, range(count))
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn'
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield from pool.imap(job, range(count), chunksize=max(1, min(32, count // (4 * workers))))


def _write_scene(folder: Path, folders: list[str], start: int, size: int, seed: int, number: int) -> str:
    scene = render_scene(seed, start + number, size)
    name = f'{number:06d}.png'
    for kind in folders:
        array = scene.image if kind == 'images' else LABELS[kind].encode(getattr(scene, kind))
        write_png(folder / kind / name, array)
    return scene.caption


def _write_json(path: Path, value: dict) -> None:
    write_atomically(path, (json.dumps(value, indent=1) + '\n').encode())
