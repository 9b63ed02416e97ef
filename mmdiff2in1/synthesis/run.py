"""Make the samples of a plan: skip what is finished, create in batches, filter, store.

B, 3, H, W images. Several processes share the work by index and never wait for each other.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.logging import print_log
from tqdm import tqdm

from mmdiff2in1.core.images import check_sources, from_model, image_size, load_image, resize_image, to_model

from .behind import Behind
from .checks import check_made_alike, check_others, check_plan, describe, others_of, warn_of_changed_thresholds
from .composing import Composing, facts_of, redrawn
from .conditions import ComposedPictures, ConditionPictures, Pictures
from .filters import Thresholds, check_thresholds, rejection, score
from .layouts import Composed
from .recipe import SampleRecipe
from .store import SampleStore

if TYPE_CHECKING:
    # Only when something is created: reading a store in a data loader worker needs no diffusers.
    from torch import Tensor

    from mmdiff2in1.generators import Generator

TRIED = 32
"""Created samples of which filters must let one pass before the others are made."""


def synthesize(
    diffusion: 'Generator',
    plan: Sequence[SampleRecipe],
    store: SampleStore,
    *,
    data_root: str | Path | None = None,
    source_labels: Mapping[str, Mapping[str, str]] | None = None,
    batch_size: int = 4,
    thresholds: Thresholds | None = None,
    restore_size: bool = False,
    keep_others: bool = False,
    beside: Collection[str] = (),
    weights_hash: str | None = None,
    composing: Composing | None = None,
    pictures: Pictures | None = None,
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> SampleStore:
    """Create the samples of `plan` that `store` does not hold yet (Diff-2-in-1, Sec. 3.2: data creation).

    Process `rank` of `world_size` takes every world_size-th recipe. Batches are fixed by the plan: if one of a batch is
    missing the whole batch is computed again and only the missing is written, so a run that was killed and resumed
    gives the same bytes as one that was not. `data_root` is where `SampleRecipe.source` starts; `source_labels` says by
    source where its labels are, below `data_root` too, and goes into the records. With `restore_size` the created image
    is resized back to the size of its source, else it stays at the size of creation. Samples outside `thresholds` are
    recorded as rejected and not stored. Samples of the store that are not in the plan (another T, other captions) would
    be trained on as well, so they are an error unless `keep_others` or listed in `beside`. `weights_hash`: of
    `diffusion`, if known. `composing`: where the recipes ask for a layout, what composes it; image and labels then have
    the source's size. `pictures` draws what recipes with a condition follow.

    Raises, before anything is stored, ValueError for an empty plan, impossible timesteps, unreadable sources, a store
    made with other weights or settings, or thresholds that let nothing pass (`try_filters`); FileNotFoundError for
    missing sources. OSError for a full disk.
    """
    if world_size > 1:
        store = SampleStore(store.folder, rank)
    check_thresholds(thresholds)
    timesteps = check_plan(diffusion, plan, weights_hash)
    finished = store.finished()
    settings: dict[str, set] = dict(weights_hash={recipe.weights_hash for recipe in plan}, restore_size={restore_size})
    check_made_alike(store, finished, settings)
    if not keep_others:
        check_others(store, others_of(plan, finished, beside), plan)
    finished = finished.without({name for name, record in finished.items() if not store.is_whole(record)})
    warn_of_changed_thresholds((finished[r.sample_id] for r in plan if r.sample_id in finished), thresholds)

    share = plan[rank::world_size]
    batches = [b for b in batches_of(share, batch_size) if any(r.sample_id not in finished for r in b)]
    paths = sorted({_source_path(recipe, data_root) for batch in batches for recipe in batch if recipe.source})
    print_log(f'checking {len(paths)} source images', logger='current')
    check_sources(paths)
    missing = [recipe for recipe in share if recipe.sample_id not in finished]
    of_rank = f' of process {rank} of {world_size}' if world_size > 1 else ''
    print_log(f'{store.folder}: {len(missing)} of {len(share)} samples{of_rank} are to be made', logger='current')
    for line in describe(missing, timesteps):
        print_log(line, logger='current')

    if missing and not any(record.get('rejected') is None for record in finished.values()):
        try_filters(
            diffusion,
            missing,
            thresholds,
            data_root=data_root,
            batch_size=batch_size,
            composing=composing,
            pictures=pictures,
        )
    started, calls, made = time.perf_counter(), 0, Counter()
    bar = tqdm(total=len(share), initial=len(share) - len(missing), desc='creating', unit='img', disable=not progress)

    def put(
        record: dict, reason: str | None, image: np.ndarray, labels: dict[str, np.ndarray] | None, like: Path | None
    ) -> None:
        if reason:
            store.reject(record, reason)
        else:
            store.add(record, image if like is None else resize_image(image, image_size(like)), labels)
        bar.update()

    # Files are written, and the disk waited for, while the next batch is made.
    with store.writing('creating samples'), bar, Behind(2 * batch_size) as behind:
        for batch in batches:
            composed = composing.compose(batch) if composing is not None else None
            images, sources, walked = create_batch(diffusion, batch, data_root, composed, pictures)
            calls += len(walked) * len(batch)
            for number, (recipe, image, source) in enumerate(zip(batch, images, sources, strict=True)):
                if recipe.sample_id in finished:
                    continue
                record = _record(recipe, walked, source_labels or {})
                labels = None
                if composing is not None and composed is not None:
                    record |= facts_of(composed[number], recipe)
                    labels = composing.encoded(composed[number])
                record |= dict(scores=score(image, source), restore_size=restore_size)
                reason = rejection(record['scores'], thresholds)
                like = _source_path(recipe, data_root) if restore_size and recipe.source else None
                behind.do(put, record, reason, image, labels, like)
                made['rejected' if reason else 'kept'] += 1
    seconds = time.perf_counter() - started
    print_log(
        f'{made["kept"]} samples stored, {made["rejected"]} rejected, {calls} U-Net calls in {seconds:.1f} s',
        logger='current',
    )
    asked = {*beside, *(recipe.sample_id for recipe in plan)}
    if store.whole(asked) == asked:
        store.merge(asked)
    return SampleStore(store.folder)


def try_filters(
    diffusion: 'Generator',
    plan: Sequence[SampleRecipe],
    thresholds: Thresholds | None,
    *,
    data_root: str | Path | None = None,
    batch_size: int = 4,
    composing: Composing | None = None,
    pictures: Pictures | None = None,
) -> None:
    """Creates the first samples until the thresholds let one pass, and keeps none: most often a single batch.

    Raises ValueError if all of the first `TRIED` are refused, with the filter, what was found and its limits.
    """
    seen: list[dict[str, float]] = []
    for batch in batches_of(plan, batch_size) if thresholds else ():
        composed = composing.compose(batch) if composing is not None else None
        images, sources, _ = create_batch(diffusion, batch, data_root, composed, pictures)
        seen += [score(image, source) for image, source in zip(images, sources, strict=True)]
        if any(rejection(scores, thresholds) is None for scores in seen):
            return
        if len(seen) >= TRIED:
            break
    if not seen:
        return
    refusals = Counter(str(rejection(scores, thresholds)).split()[0] for scores in seen)
    name, _ = refusals.most_common(1)[0]
    values = [scores[name] for scores in seen if name in scores]
    raise ValueError(
        f'stages.synthesis.filters refuse all of the first {len(seen)} created samples: their {name} is '
        f'{min(values):g} to {max(values):g}, and (lowest, highest) of {name} is {tuple((thresholds or {})[name])}; '
        'widen it, or leave it out and look at the samples with tools/synthesize.py --show 8'
    )


def batches_of(plan: Sequence[SampleRecipe], batch_size: int) -> list[list[SampleRecipe]]:
    """Split a plan into batches of equal noise level, size and the like, at most `batch_size` each."""
    if batch_size < 1:
        raise ValueError(f'batch_size is {batch_size}, expected 1 or more')
    groups: dict[tuple, list[SampleRecipe]] = {}
    for recipe in plan:
        groups.setdefault(recipe.batch_key, []).append(recipe)
    return [group[at : at + batch_size] for group in groups.values() for at in range(0, len(group), batch_size)]


def create_batch(
    diffusion: 'Generator',
    batch: Sequence[SampleRecipe],
    data_root: str | Path | None,
    composed: Sequence[Composed] | None = None,
    pictures: Pictures | None = None,
) -> tuple[Sequence[np.ndarray], list[np.ndarray | None], list[int]]:
    """Create the samples of one batch (equal `batch_key`), of layouts if they are `composed`, see `redrawn`.

    Returns the created images, B of uint8 (H, W, 3), the sources at the same size (None without one), and the timesteps
    that were walked, one U-Net call per sample each.
    """
    first = batch[0]
    if composed is not None:
        follows = pictures if isinstance(pictures, ComposedPictures) else None
        images, walked = redrawn(diffusion, batch, composed, follows)
        originals: list[np.ndarray | None] = [each.source for each in composed]
        return images, originals, walked
    sources = [load_image(_source_path(r, data_root), r.size) if r.source else None for r in batch]
    shown = None if first.condition is None else _shown(batch, pictures)
    creation = diffusion.create(
        to_model(sources) if first.source else None,
        captions=[recipe.caption for recipe in batch],
        seeds=[recipe.noise_seed for recipe in batch],
        T=first.T,
        num_calls=first.num_calls,
        grid=first.grid,
        solver=first.solver,
        guidance_scale=first.guidance_scale,
        size=first.size,
        conditions=shown,
    )
    return list(from_model(creation.images)), sources, creation.timesteps


def _shown(batch: Sequence[SampleRecipe], pictures: Pictures | None) -> 'Tensor':
    """The conditions of a batch, (B, 3, H, W) in [0, 1]."""
    if not isinstance(pictures, ConditionPictures):
        raise ValueError(f'{batch[0].sample_id} follows a label map; expected `pictures` that draw it')
    drawn = [pictures.checked(str(r.source), r.size, r.condition) for r in batch if r.condition is not None]
    return (to_model(drawn) + 1) / 2


def _record(recipe: SampleRecipe, timesteps: list[int], source_labels: Mapping[str, Mapping[str, str]]) -> dict:
    return recipe.fields | dict(
        sample_id=recipe.sample_id,
        noise_seed=recipe.noise_seed,
        size=list(recipe.size),
        timesteps=timesteps,
        source_labels=dict(source_labels.get(recipe.source or '', {})),
    )


def _source_path(recipe: SampleRecipe, data_root: str | Path | None) -> Path:
    return Path(data_root or '.') / recipe.source
