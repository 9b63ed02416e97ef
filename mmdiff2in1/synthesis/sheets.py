"""Contact sheets of creation: what each T or a layout makes of some images, and what a store holds, with its labels.

H, W size of a sheet; sheets are uint8 RGB (H, W, 3).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mmdiff2in1.core.images import load_image
from mmdiff2in1.core.label_files import read_map
from mmdiff2in1.tasks import DenseTask
from mmdiff2in1.visualization import contact_sheet
from mmdiff2in1.visualization.overlays import Overlaid, blend

from .from_config import Job
from .plan import timestep_choices
from .run import batches_of, check_plan, create_batch
from .store import SampleStore

MAX_COLUMNS = 12


def preview_sheet(job: Job, count: int) -> np.ndarray:
    """`count` source images, a row each, and what each T of the job makes of them from the same noise; nothing is kept.

    Of a layout, the labels that it composes stand beside.

    Raises ValueError for more than `MAX_COLUMNS` values of T, and what `check_plan` raises.
    """
    levels = timestep_choices(job.settings.T)
    if len(levels) > MAX_COLUMNS:
        raise ValueError(f'T has {len(levels)} values, one column each; choose a few with --T 200,400,600')
    plans = [job.plan(T=T, num_samples=min(count, len(job.sources)), samples_per_image=None) for T in levels]
    check_plan(job.diffusion, [recipe for plan in plans for recipe in plan], job.weights_hash)
    columns: list[dict[str | None, np.ndarray]] = []
    labels: dict[str | None, list[np.ndarray]] = {recipe.source: [] for recipe in plans[0]}
    captions = {recipe.source: recipe.caption for recipe in plans[0]}
    for plan in plans:
        created: dict[str | None, np.ndarray] = {}
        for batch in batches_of(plan, job.settings.batch_size):
            composed = job.composing.compose(batch) if job.composing is not None else None
            images, _, _ = create_batch(job.diffusion, batch, job.data_root, composed, job.pictures)
            created |= {recipe.source: image for recipe, image in zip(batch, images, strict=True)}
            for recipe, each in zip(batch, composed or [], strict=composed is not None):
                captions[recipe.source] = each.caption
                labels[recipe.source] = _over(each.image, each.labels, job.composing.samples.tasks)
        columns.append(created)
    kinds = [] if job.composing is None else list(job.composing.samples.tasks)
    first = plans[-1][0]
    return contact_sheet(
        [
            [
                load_image(Path(job.data_root or '.') / str(recipe.source), recipe.size),
                *(made[recipe.source] for made in columns),
                *labels[recipe.source],
            ]
            for recipe in plans[0]
        ],
        row_captions=[captions[recipe.source] or '(no caption)' for recipe in plans[0]],
        column_captions=['source', *(f'T={T}' for T in levels), *kinds],
        title=f'{first.num_calls} U-Net calls, {first.solver}, guidance {first.guidance_scale:g}'
        if first.T
        else 'composed, not redrawn',
    )


def store_sheet(
    store: SampleStore, data_root: str | Path | None, count: int, tasks: Mapping[str, DenseTask] | None = None
) -> np.ndarray:
    """`count` sources, spread over the store, a row each, with the samples that were created from them.

    Beside each sample stand its own labels, if it has some, of those `tasks` in which they are encoded. A source that
    is not below `data_root` any more leaves its place empty. Raises ValueError for an empty store.
    """
    samples: dict[str, list[dict]] = {}
    for record in store.finished().values():
        if record.get('image'):
            samples.setdefault(record['source'], []).append(record)
    if not samples:
        raise ValueError(f'{store.folder} holds no samples; name the store with --out, or create them first')
    chosen = sorted(samples, key=str)[:: max(1, len(samples) // max(1, count))][: max(1, count)]
    known = tasks or {}
    pictured = max(len(_labels(store, record, known)) for source in chosen for record in samples[source])
    columns = min(MAX_COLUMNS // (1 + pictured), max(len(samples[source]) for source in chosen))
    rows: list[list[np.ndarray | None]] = []
    for source in chosen:
        made = sorted(samples[source], key=lambda record: (record['T'], record['seed']))[:columns]
        file = Path(data_root or '.') / source if source else None
        first = load_image(file, tuple(made[0]['size'])) if file and file.is_file() else None
        pictures: list[np.ndarray | None] = []
        for record in made:
            image, labels = np.asarray(Image.open(store.image(record)).convert('RGB')), _labels(store, record, known)
            over = _over(image, {name: known[name].decode(read_map(str(file))) for name, file in labels.items()}, known)
            pictures += [image, *over, *[None] * (pictured - len(over))]
        rows.append([first, *pictures, *[None] * ((1 + pictured) * columns - len(pictures))])
    return contact_sheet(
        rows,
        row_captions=[
            ' | '.join(dict.fromkeys(record['caption'] or '(no caption)' for record in samples[source]))
            for source in chosen
        ],
        column_captions=[
            'source',
            *[text for n in range(columns) for text in (f'sample {n + 1}', *['label'] * pictured)],
        ],
        title=f'{sum(map(len, samples.values()))} samples of {len(samples)} sources',
    )


def _labels(store: SampleStore, record: dict, tasks: Mapping[str, DenseTask]) -> dict[str, Path]:
    """Files of the labels of a sample that can be shown, by task."""
    return {name: file for name, file in store.labels(record).items() if name in tasks}


def _over(
    image: np.ndarray, labels: Mapping[str, np.ndarray], tasks: Mapping[str, DenseTask]
) -> list[np.ndarray | None]:
    """The labels over their image, one picture each."""
    return [
        blend(Overlaid(image, tasks[name].colours(array), tasks[name].known(array), ()))
        for name, array in labels.items()
    ]
