"""Before and after a creation: what it is going to cost, and the removal of samples that are damaged or unwanted."""

import time
from collections.abc import Iterable, Iterator, Sequence

from .checks import check_plan, describe, others_of
from .from_config import Job
from .run import batches_of, create_batch
from .store import MANIFEST, Damage, SampleStore


def dry_run(job: Job, store: SampleStore, timed: bool = False) -> Iterator[str]:
    """Lines that say what the job would make in the store, and what it costs; nothing is written.

    With `timed` one batch is created, to estimate how long the rest would take. Raises what `check_plan` raises.
    """
    finished, pool = store.finished(), job.unlabelled(store)
    if pool:
        known = sum(sample_id in finished for sample_id in pool)
        places = 'copied' if job.pool is not None and job.pool.copied else 'used where they lie'
        yield f'{len(pool)} unlabelled images, {places}, of which {known} are known to {store.folder}'
        yield f'unlabelled at {_sizes(record["size"] for record in pool.values())} (HxW)'
    plan = job.plan()
    others = others_of(plan, finished, pool)
    if others:
        yield f'{store.folder} also holds {len(others)} samples that are not in this plan, e.g. {others[0]}'
    if not job.creates:
        yield 'nothing is created: there is no diffusion'
        return
    todo = [recipe for recipe in plan if recipe.sample_id not in finished]
    made = len(plan) - len(todo)
    yield f'{len(job.sources)} source images, {len(plan)} samples, of which {made} are in {store.folder}'
    yield f'created at {_sizes(recipe.size for recipe in plan)} (HxW)'
    if job.scenes is not None:
        captions = list(dict.fromkeys(recipe.caption for recipe in plan))
        origin = 'from noise' if plan[0].source is None else 'from noised images'
        kind = job.settings.scenes['type']
        yield f'new scenes {origin} under {len(captions)} captions ({kind}), e.g. {captions[0]!r}'
    yield from describe(plan, check_plan(job.diffusion, plan, job.weights_hash))
    if timed and todo:
        batch = max(batches_of(todo, job.settings.batch_size), key=len)
        started = time.perf_counter()
        composed = job.composing.compose(batch) if job.composing is not None else None
        create_batch(job.diffusion, batch, job.data_root, composed, job.pictures)
        seconds = (time.perf_counter() - started) / len(batch)
        yield f'{seconds:.2f} s per sample on one process: about {seconds * len(todo) / 60:.1f} min for {len(todo)}'


def remove_damaged(store: SampleStore) -> list[Damage]:
    """Removes what `SampleStore.verify` finds, so that the next run makes it again; returns it.

    Raises FileNotFoundError if there is no store, OSError for what cannot be read: then nothing is removed.
    """
    if not store.exists and not (store.folder / MANIFEST).is_dir():
        raise FileNotFoundError(
            f'{store.folder} holds no manifest.jsonl: there is nothing to verify; name the store with --out'
        )
    with store.writing('removing damaged samples'):
        problems = store.verify()
        if problems:
            # Without any id this still drops the lines of the manifest that are no records.
            store.remove({problem.sample_id for problem in problems if problem.sample_id})
    return problems


def remove_others(job: Job, store: SampleStore) -> list[str]:
    """Removes samples of another plan: other T, seed, size, captions, sources or unlabelled images; their ids."""
    with store.writing('removing samples of another plan'):
        others = job.others(store)
        store.remove(others)
    return others


def _sizes(sizes: Iterable[Sequence[int]]) -> str:
    """'64x64, 64x96 …'."""
    different = sorted({tuple(size) for size in sizes})
    return ', '.join(f'{height}x{width}' for height, width in different[:5]) + (' …' if different[5:] else '')
