"""Contact sheets of creation: what each T makes of some images, and what a store holds.

H, W size of a sheet; sheets are uint8 RGB (H, W, 3).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mmdiff2in1.core.images import image_size, load_image
from mmdiff2in1.visualization import contact_sheet

from .from_config import Job
from .plan import timestep_choices
from .run import batches_of, check_plan, create_batch
from .store import UNLABELLED, SampleStore

MAX_COLUMNS = 12
LARGEST = 1024
CREATED, FROM_NOISE = 'created', 'from noise'


def preview_sheet(job: Job, count: int) -> np.ndarray:
    """`count` source images, a row each, and what each T of the job makes of them from the same noise; nothing is kept.

    New scenes from noise have no source, and a row each as well.

    Raises ValueError for more than `MAX_COLUMNS` values of T, a job that creates nothing, and what `check_plan` raises.
    """
    if not job.creates:
        raise ValueError('there is no diffusion in stages.synthesis: nothing is created, there is nothing to preview')
    levels = timestep_choices(job.settings.T, job.diffusion.T_max)
    if len(levels) > MAX_COLUMNS:
        raise ValueError(f'T has {len(levels)} values, one column each; choose a few with --T 200,400,600')
    # At the lowest T, because at T_max alone new scenes have no source.
    rows = job.plan(T=min(levels), num_samples=min(count, len(job.sources)), samples_per_image=None)
    plans = [[replace(recipe, T=T) for recipe in rows] for T in levels]
    check_plan(job.diffusion, [recipe for plan in plans for recipe in plan], job.weights_hash)
    columns = []
    for plan in plans:
        created: dict[int, np.ndarray] = {}
        for batch in batches_of(plan, job.settings.batch_size):
            images, _, _ = create_batch(job.diffusion, batch, job.data_root)
            created |= {plan.index(recipe): image for recipe, image in zip(batch, images, strict=True)}
        columns.append([created[row] for row in range(len(rows))])
    sources = [
        [load_image(Path(job.data_root or '.') / each.source, each.size)] if each.source else [] for each in rows
    ]
    first = rows[0]
    return contact_sheet(
        [[*source, *made] for source, *made in zip(sources, *columns, strict=True)],
        row_captions=[recipe.caption or '(no caption)' for recipe in rows],
        column_captions=[*['source'] * bool(first.source), *(f'T={T}' for T in levels)],
        title=f'{first.num_calls} U-Net calls, {first.solver}, guidance {first.guidance_scale:g}',
    )


def store_sheet(store: SampleStore, data_root: str | Path | None, count: int) -> np.ndarray:
    """`count` sources, spread over the store, a row each, with the samples that were created from them.

    A sample without a source, created from noise or unlabelled, has a row of its own; of these kinds, as far as the
    store has them, each gets its share of the rows. A source that is not below `data_root` any more leaves its place
    empty. Raises ValueError for an empty store.
    """
    groups = _groups(store)
    if not groups:
        raise ValueError(f'{store.folder} holds no samples; name the store with --out, or create them first')
    chosen = _chosen([list(kind.values()) for kind in groups.values()], max(1, count))
    columns = min(MAX_COLUMNS, max(map(len, chosen)))
    rows: list[list[np.ndarray | None]] = []
    for group in chosen:
        made = sorted(group, key=lambda record: (record.get('T', 0), record.get('seed', 0)))[:columns]
        source = made[0]['source']
        file = Path(data_root or '.') / source if source else None
        first = load_image(file, tuple(made[0]['size'])) if file and file.is_file() else None
        pictures = [_shown(store.image(record)) for record in made]
        rows.append([first, *pictures, *[None] * (columns - len(pictures))])
    with_source = any(group[0]['source'] for group in chosen)
    return contact_sheet(
        rows if with_source else [row[1:] for row in rows],
        row_captions=[_name(group[0]) for group in chosen],
        column_captions=[*['source'] * with_source, *(f'sample {number + 1}' for number in range(columns))],
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


def _name(record: dict) -> str:
    if record.get('kind') == UNLABELLED:
        return f'unlabelled: {Path(record["path"]).name}'
    return record['caption'] or '(no caption)'


def _shown(file: Path) -> np.ndarray:
    """An image, at most `LARGEST` pixels long."""
    height, width = image_size(file)
    scale = min(1.0, LARGEST / max(height, width))
    return load_image(file, (max(1, round(height * scale)), max(1, round(width * scale))))
