"""Before and after a creation: what it is going to cost, and the removal of samples that are damaged or unwanted."""

import time
from collections.abc import Iterator

from .from_config import Job
from .run import batches_of, check_plan, create_batch, describe, others_of
from .store import Damage, SampleStore


def dry_run(job: Job, store: SampleStore, timed: bool = False) -> Iterator[str]:
    """Lines that say what the job would make in the store, and what it costs; nothing is written.

    With `timed` one batch is created, to estimate how long the rest would take. Raises what `check_plan` raises.
    """
    plan = job.plan()
    finished = store.finished()
    todo = [recipe for recipe in plan if recipe.sample_id not in finished]
    sizes = sorted({recipe.size for recipe in plan})
    made = len(plan) - len(todo)
    yield f'{len(job.sources)} source images, {len(plan)} samples, of which {made} are in {store.folder}'
    yield f'created at {", ".join(f"{height}x{width}" for height, width in sizes[:5])}{" …" if sizes[5:] else ""} (HxW)'
    yield from describe(plan, check_plan(job.diffusion, plan, job.weights_hash))
    others = others_of(plan, finished)
    if others:
        yield f'{store.folder} also holds {len(others)} samples that are not in this plan, e.g. {others[0]}'
    if timed and todo:
        batch = max(batches_of(todo, job.settings.batch_size), key=len)
        started = time.perf_counter()
        composed = job.composing.compose(batch) if job.composing is not None else None
        create_batch(job.diffusion, batch, job.data_root, composed, job.pictures)
        seconds = (time.perf_counter() - started) / len(batch)
        yield f'{seconds:.2f} s per sample on one process: about {seconds * len(todo) / 60:.1f} min for {len(todo)}'


def remove_damaged(store: SampleStore) -> list[Damage]:
    """Removes what `SampleStore.verify` finds, so that the next run makes it again; returns it.

    Raises FileNotFoundError if there is no store.
    """
    if not store.exists:
        raise FileNotFoundError(
            f'{store.folder} holds no manifest.jsonl: there is nothing to verify; name the store with --out'
        )
    problems = store.verify()
    if problems:
        # Without any id this still drops the lines of the manifest that are no records.
        store.remove({problem.sample_id for problem in problems if problem.sample_id})
    return problems


def remove_others(job: Job, store: SampleStore) -> list[str]:
    """Removes samples of another plan: other T, seed, size, captions or sources; returns their ids."""
    others = others_of(job.plan(), store.finished())
    store.remove(others)
    return others
