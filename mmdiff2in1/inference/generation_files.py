"""Generated images as files: the images, their label maps and pictures of these, a sheet, and how they were made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.inside import remove_inside
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.tasks import TaskSet
from mmdiff2in1.visualization import contact_sheet
from mmdiff2in1.visualization.contact_sheet import shortened

from .generation import Generation

RECIPES = 'recipes.json'


def repeated(items: Sequence | None, times: int) -> list | None:
    """Each item so many times in a row; None stays None."""
    return [item for item in items for _ in range(times)] if items else None


def write_generations(out: Path, made: Sequence[Generation], tasks: TaskSet, origin: Mapping[str, Any]) -> None:
    """Writes `images/NNNN.png`, `labels/` and `colours/` (of several tasks a folder each), `sheet.png`, `recipes.json`.

    What an earlier `recipes.json` lists goes first, so that no folder holds the samples of two runs.

    Args:
        out: The folder.
        made: What was generated.
        tasks: What the model sees.
        origin: What all samples have in common, JSON values.
    """
    _remove_earlier(out)
    samples = []
    for index, one in enumerate(made):
        name = f'{index:04d}.png'
        arrays = {'images': one.image}
        for task, seen in one.maps.items():
            below = f'/{task}' if len(tasks) > 1 else ''
            arrays[f'labels{below}'], arrays[f'colours{below}'] = seen.encode(), seen.colours
        for folder, array in arrays.items():
            write_png(out / folder / name, array)
        samples.append(one.recipe() | {folder: f'{folder}/{name}' for folder in arrays})
    write_png(out / 'sheet.png', generation_sheet(made))
    text = json.dumps({**origin, 'samples': samples}, indent=2) + '\n'
    write_atomically(out / RECIPES, text.encode())


def generation_sheet(made: Sequence[Generation]) -> np.ndarray:
    """Rows of (source |) image | a map of each task, each with its caption and a legend."""
    varied, several = made[0].source is not None, len(made[0].maps) > 1
    rows = [
        [*([one.source] if varied else []), one.image, *(seen.colours for seen in one.maps.values())] for one in made
    ]
    captions = [f'{one.caption or "no caption"} (seed {one.seed}, T={one.T})' for one in made]
    columns = [
        *(['source'] if varied else []),
        'created',
        *([name.replace('_', ' ') for name in made[0].maps] if several else ['map']),
    ]
    legends = [shortened([entry for seen in one.maps.values() for entry in seen.task.legend(seen.map)]) for one in made]
    return contact_sheet(rows, row_captions=captions, row_legends=legends, column_captions=columns)


def _remove_earlier(out: Path) -> None:
    recipes = out / RECIPES
    if not recipes.is_file():
        return
    try:
        listed = [entry for sample in json.loads(recipes.read_bytes())['samples'] for entry in sample.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{recipes} is damaged ({error!r}), so what an earlier run has written is not known; delete it, or name '
            'another folder'
        ) from error
    for key, file in listed:
        if key.split('/')[0] in ('images', 'labels', 'colours'):
            remove_inside(out, file)
