"""Contact sheets of creation: what each T makes of some images, and what a store holds.

H, W size of a sheet; sheets are uint8 RGB (H, W, 3).
"""

from pathlib import Path

import numpy as np
from PIL import Image

from mmdiff2in1.core.images import load_image
from mmdiff2in1.visualization import contact_sheet

from .from_config import Job
from .plan import timestep_choices
from .run import batches_of, check_plan, create_batch
from .store import SampleStore

MAX_COLUMNS = 12


def preview_sheet(job: Job, count: int) -> np.ndarray:
    """`count` source images, a row each, and what each T of the job makes of them from the same noise; nothing is kept.

    Raises ValueError for more than `MAX_COLUMNS` values of T, and what `check_plan` raises.
    """
    levels = timestep_choices(job.settings.T)
    if len(levels) > MAX_COLUMNS:
        raise ValueError(f'T has {len(levels)} values, one column each; choose a few with --T 200,400,600')
    plans = [job.plan(T=T, num_samples=min(count, len(job.sources)), samples_per_image=None) for T in levels]
    check_plan(job.diffusion, [recipe for plan in plans for recipe in plan], job.weights_hash)
    columns = []
    for plan in plans:
        created: dict[str | None, np.ndarray] = {}
        for batch in batches_of(plan, job.settings.batch_size):
            images, _, _ = create_batch(job.diffusion, batch, job.data_root, job.pictures)
            created |= {recipe.source: image for recipe, image in zip(batch, images, strict=True)}
        columns.append(created)
    first = plans[0][0]
    return contact_sheet(
        [
            [
                load_image(Path(job.data_root or '.') / str(recipe.source), recipe.size),
                *(made[recipe.source] for made in columns),
            ]
            for recipe in plans[0]
        ],
        row_captions=[recipe.caption or '(no caption)' for recipe in plans[0]],
        column_captions=['source', *(f'T={T}' for T in levels)],
        title=f'{first.num_calls} U-Net calls, {first.solver}, guidance {first.guidance_scale:g}',
    )


def store_sheet(store: SampleStore, data_root: str | Path | None, count: int) -> np.ndarray:
    """`count` sources, spread over the store, a row each, with the samples that were created from them.

    A source that is not below `data_root` any more leaves its place empty. Raises ValueError for an empty store.
    """
    samples: dict[str, list[dict]] = {}
    for record in store.finished().values():
        if record.get('image'):
            samples.setdefault(record['source'], []).append(record)
    if not samples:
        raise ValueError(f'{store.folder} holds no samples; name the store with --out, or create them first')
    chosen = sorted(samples, key=str)[:: max(1, len(samples) // max(1, count))][: max(1, count)]
    columns = min(MAX_COLUMNS, max(len(samples[source]) for source in chosen))
    rows: list[list[np.ndarray | None]] = []
    for source in chosen:
        made = sorted(samples[source], key=lambda record: (record['T'], record['seed']))[:columns]
        file = Path(data_root or '.') / source if source else None
        first = load_image(file, tuple(made[0]['size'])) if file and file.is_file() else None
        pictures = [np.asarray(Image.open(store.image(record)).convert('RGB')) for record in made]
        rows.append([first, *pictures, *[None] * (columns - len(pictures))])
    return contact_sheet(
        rows,
        row_captions=[samples[source][0]['caption'] or '(no caption)' for source in chosen],
        column_captions=['source', *(f'sample {number + 1}' for number in range(columns))],
        title=f'{sum(map(len, samples.values()))} samples of {len(samples)} sources',
    )
