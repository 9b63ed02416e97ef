"""Contact sheets of creation: what each T or a layout makes of some images, and what a store holds, with its labels.

H, W size of a sheet; sheets are uint8 RGB (H, W, 3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmdiff2in1.core.images import image_size, load_image, resize_image
from mmdiff2in1.core.label_files import read_map
from mmdiff2in1.tasks import DenseTask
from mmdiff2in1.visualization import contact_sheet
from mmdiff2in1.visualization.contact_sheet import Legend, shortened
from mmdiff2in1.visualization.overlays import Overlaid, blend

from .checks import check_plan
from .from_config import Job
from .plan import timestep_choices
from .recipe import SampleRecipe
from .run import batches_of, create_batch
from .store import UNLABELLED, SampleStore

MAX_COLUMNS = 12
LARGEST = 1024
CREATED, FROM_NOISE = 'created', 'from noise'

Maps = Sequence[tuple[DenseTask, np.ndarray]]
Sees = Callable[[Sequence[np.ndarray]], Sequence[Maps]]
"""Images → the maps that a model sees in each."""


def preview_sheet(job: Job, count: int, sees: Sees | None = None) -> np.ndarray:
    """`count` source images, a row each, and what each T of the job makes of them from the same noise; nothing is kept.

    Of a layout, the labels that it composes stand beside; beside each created image what θ_C `sees` in it. New scenes
    from noise have no source, and a row each as well.

    Raises ValueError for more than `MAX_COLUMNS` values of T, a job that creates nothing, and what `check_plan` raises.
    """
    if not job.creates:
        raise ValueError('there is no diffusion in stages.synthesis: nothing is created, there is nothing to preview')
    levels = timestep_choices(job.settings.T, job.diffusion.T_max)
    if len(levels) > MAX_COLUMNS:
        raise ValueError(f'T has {len(levels)} values, one column each; choose a few with --T 200,400,600')
    plans = _plans(job, levels, min(count, len(job.sources)))
    check_plan(job.diffusion, [recipe for plan in plans for recipe in plan], job.weights_hash)
    rows = plans[0]
    captions = [recipe.caption for recipe in rows]
    labels: list[list[np.ndarray]] = [[] for _ in rows]
    maps: list[list[tuple[DenseTask, np.ndarray]]] = [[] for _ in rows]
    columns: list[dict[int, list[np.ndarray]]] = []
    tasks_seen: list[str] = []
    for plan in plans:
        created: dict[int, list[np.ndarray]] = {}
        for batch in batches_of(plan, job.settings.batch_size):
            composed = job.composing.compose(batch) if job.composing is not None else None
            images, _, _ = create_batch(job.diffusion, batch, job.data_root, composed, job.pictures)
            places = [plan.index(recipe) for recipe in batch]
            seen = [()] * len(images) if sees is None else sees(list(images))
            for place, image, found in zip(places, images, seen, strict=True):
                created[place] = [image, *_over(image, found)]
                maps[place] += found
                tasks_seen = [task.name for task, _ in found]
            for place, each in zip(places, composed or [], strict=composed is not None):
                captions[place] = each.caption
                own = _maps(each.labels, job.composing.samples.tasks)
                labels[place] = _over(each.image, own)
                maps[place] += own
        columns.append(created)
    sources = [
        [load_image(Path(job.data_root or '.') / each.source, each.size)] if each.source else [] for each in rows
    ]
    kinds = [] if job.composing is None else [name.replace('_', ' ') for name in job.composing.samples.tasks]
    seen_kinds = ['θ_C' if len(tasks_seen) == 1 else f'θ_C: {name.replace("_", " ")}' for name in tasks_seen]
    made = [text for T in levels for text in (f'T={T}', *seen_kinds)]
    last = plans[-1][0]
    return contact_sheet(
        [
            [*source, *(picture for created in columns for picture in created[row]), *labels[row]]
            for row, source in enumerate(sources)
        ],
        row_captions=[_title(each.source, caption) for each, caption in zip(rows, captions, strict=True)],
        row_legends=[_legend(found) for found in maps] if any(maps) else None,
        column_captions=[*['source'] * bool(rows[0].source), *made, *kinds],
        title=f'{last.num_calls} U-Net calls, {last.solver}, guidance {last.guidance_scale:g}'
        if last.T
        else 'composed, not redrawn',
    )


def _plans(job: Job, levels: Sequence[int], count: int) -> list[list[SampleRecipe]]:
    """The same rows at each T."""
    if job.scenes is None:
        return [job.plan(T=T, num_samples=count, samples_per_image=None) for T in levels]
    # At the lowest T, because at T_max alone new scenes have no source.
    rows = job.plan(T=min(levels), num_samples=count, samples_per_image=None)
    return [[replace(recipe, T=T) for recipe in rows] for T in levels]


def store_sheet(
    store: SampleStore, data_root: str | Path | None, count: int, tasks: Mapping[str, DenseTask] | None = None
) -> np.ndarray:
    """`count` sources, spread over the store, a row each, with the samples that were created from them.

    Beside each sample stand its own labels, if it has some, of those `tasks` in which they are encoded. A sample
    without a source, created from noise or unlabelled, has a row of its own; of these kinds, as far as the store has
    them, each gets its share of the rows. A source that is not below `data_root` any more leaves its place empty.
    Raises ValueError for an empty store, and for damaged samples.
    """
    groups = _groups(store)
    if not groups:
        raise ValueError(f'{store.folder} holds no samples; name the store with --out, or create them first')
    chosen = _chosen([list(kind.values()) for kind in groups.values()], max(1, count))
    store.check_whole([record for group in chosen for record in group])
    known = tasks or {}
    pictured = max(len(_labels(store, record, known)) for group in chosen for record in group)
    columns = min(MAX_COLUMNS // (1 + pictured), max(map(len, chosen)))
    rows: list[list[np.ndarray | None]] = []
    legends: list[Legend] = []
    for group in chosen:
        made = sorted(group, key=lambda record: (record.get('T', 0), record.get('seed', 0)))[:columns]
        source = made[0]['source']
        file = Path(data_root or '.') / source if source else None
        size = made[0].get('size') or image_size(store.image(made[0]))
        first = load_image(file, tuple(size)) if file and file.is_file() else None
        pictures: list[np.ndarray | None] = []
        maps: list[tuple[DenseTask, np.ndarray]] = []
        for record in made:
            image, over, found = _shown(store, record, known)
            pictures += [image, *over, *[None] * (pictured - len(over))]
            maps += found
        legends.append(_legend(maps))
        rows.append([first, *pictures, *[None] * ((1 + pictured) * columns - len(pictures))])
    with_source = any(group[0]['source'] for group in chosen)
    numbered = [text for n in range(columns) for text in (f'sample {n + 1}', *['label'] * pictured)]
    return contact_sheet(
        rows if with_source else [row[1:] for row in rows],
        row_captions=[_name(group) for group in chosen],
        row_legends=legends if any(legends) else None,
        column_captions=[*['source'] * with_source, *numbered],
        title=', '.join(_count(kind, found) for kind, found in groups.items()),
    )


def _groups(store: SampleStore) -> dict[str, dict[str, list[dict]]]:
    """The samples by kind and source; one without a source stands for itself."""
    groups: dict[str, dict[str, list[dict]]] = {}
    for record in store.finished().values():
        if record.get('image'):
            kind = record.get('kind') or (CREATED if record['source'] else FROM_NOISE)
            groups.setdefault(kind, {}).setdefault(record['source'] or record['sample_id'], []).append(record)
    return dict(sorted(groups.items()))


def _chosen(kinds: list[list[list[dict]]], count: int) -> list[list[dict]]:
    """`count` groups of records, of each kind its share, spread over them; at least one of each kind."""
    chosen = []
    for number, groups in enumerate(kinds):
        share = max(1, count // len(kinds) + (number < count % len(kinds)))
        chosen += groups[:: max(1, len(groups) // share)][:share]
    return chosen


def _count(kind: str, found: dict[str, list[dict]]) -> str:
    number = sum(map(len, found.values()))
    return f'{number} samples of {len(found)} sources' if kind == CREATED else f'{number} {kind}'


def _name(group: list[dict]) -> str:
    """Text beside a row: the file, and the captions of its samples, each once."""
    if group[0].get('kind') == UNLABELLED:
        return f'unlabelled: {Path(group[0]["path"]).name}'
    captions = dict.fromkeys(record.get('caption') or '(no caption)' for record in group)
    return _title(group[0]['source'], ' | '.join(captions))


def _title(source: str | None, caption: str) -> str:
    return (f'{Path(source).name}: ' if source else '') + (caption or '(no caption)')


def _labels(store: SampleStore, record: dict, tasks: Mapping[str, DenseTask]) -> dict[str, Path]:
    """Files of the labels of its own of a sample that can be shown, by task."""
    own = {task for task, label in record.get('labels', {}).items() if 'by' not in label and task in tasks}
    return {task: file for task, file in store.labels(record).items() if task in own}


def _shown(
    store: SampleStore, record: dict, tasks: Mapping[str, DenseTask]
) -> tuple[np.ndarray, list[np.ndarray], Maps]:
    """An image, at most `LARGEST` pixels long, its labels over it, and the labels."""
    file = store.image(record)
    height, width = image_size(file)
    image = load_image(file, (height, width))
    labels = {name: tasks[name].decode(read_map(str(path))) for name, path in _labels(store, record, tasks).items()}
    maps = _maps(labels, tasks)
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return resize_image(image, size), [resize_image(each, size) for each in _over(image, maps)], maps


def _maps(labels: Mapping[str, np.ndarray], tasks: Mapping[str, DenseTask]) -> list[tuple[DenseTask, np.ndarray]]:
    return [(tasks[name], array) for name, array in labels.items()]


def _over(image: np.ndarray, maps: Maps) -> list[np.ndarray]:
    """Maps over their image, one picture each."""
    return [blend(Overlaid(image, task.colours(array), task.known(array), ())) for task, array in maps]


def _legend(maps: Maps) -> Legend:
    """Of all maps of a row together, task by task."""
    arrays: dict[str, list[np.ndarray]] = {}
    for task, array in maps:
        arrays.setdefault(task.name, []).append(array)
    tasks = {task.name: task for task, _ in maps}
    together = {
        name: np.concatenate([each.reshape(1, -1, *each.shape[2:]) for each in found], 1)
        for name, found in arrays.items()
    }
    return shortened([entry for name, array in together.items() for entry in tasks[name].legend(array)])
