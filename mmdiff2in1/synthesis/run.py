"""Make the samples of a plan: skip what is finished, create in batches, filter, store.

B, 3, H, W images. Several processes share the work by index and never wait for each other.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.logging import print_log
from tqdm import tqdm

from mmdiff2in1.core.images import check_sources, from_model, image_size, load_image, resize_image, to_model

from .composing import Composing, facts_of, redrawn
from .filters import Thresholds, check_thresholds, rejection, score
from .layouts import Composed
from .recipe import SampleRecipe
from .store import UNLABELLED, SampleStore

if TYPE_CHECKING:
    # Only when something is created: reading a store in a data loader worker needs no diffusers.
    from torch import Tensor

    from mmdiff2in1.generators import Generator

    from .conditions import ConditionPictures


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
    pictures: 'ConditionPictures | None' = None,
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

    Raises, before anything is created, ValueError for an empty plan, impossible timesteps, unreadable sources or a
    store made with other weights or settings; FileNotFoundError for missing sources. OSError for a full disk.
    """
    if world_size > 1:
        store = SampleStore(store.folder, rank)
    check_thresholds(thresholds)
    timesteps = check_plan(diffusion, plan, weights_hash)
    finished = store.finished()
    settings = dict(weights_hash={recipe.weights_hash for recipe in plan}, restore_size={restore_size})
    _check_store(store, finished, settings)
    if not keep_others:
        check_others(store, others_of(plan, finished, beside))
    finished = {name: record for name, record in finished.items() if store.is_whole(record)}
    _warn_of_changed_thresholds([finished[r.sample_id] for r in plan if r.sample_id in finished], thresholds)

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

    started, calls, made = time.perf_counter(), 0, Counter()
    bar = tqdm(total=len(share), initial=len(share) - len(missing), desc='creating', unit='img', disable=not progress)
    with bar:
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
                if reason:
                    store.reject(record, reason)
                else:
                    if restore_size and recipe.source:
                        image = resize_image(image, image_size(_source_path(recipe, data_root)))
                    store.add(record, image, labels)
                made['rejected' if reason else 'kept'] += 1
                bar.update()
    seconds = time.perf_counter() - started
    print_log(
        f'{made["kept"]} samples stored, {made["rejected"]} rejected, {calls} U-Net calls in {seconds:.1f} s',
        logger='current',
    )
    asked = {*beside, *(recipe.sample_id for recipe in plan)}
    if store.whole(asked) == asked:
        store.merge(asked)
    return SampleStore(store.folder)


def check_plan(
    diffusion: 'Generator', plan: Sequence[SampleRecipe], weights_hash: str | None = None
) -> dict[tuple[int, int, str], list[int]]:
    """Ask the model whether it can make all of `plan`; returns {(T, num_calls, grid): timesteps}.

    `weights_hash` is that of the model where it is known: reading gigabytes of weights takes seconds.

    Raises ValueError for an empty plan, a sample listed twice, other weights than the plan was made for, timesteps or
    a solver that do not exist, a size that cannot be encoded, a sample without source below T_max. A sample of a layout
    at T = 0 asks nothing of the model.
    """
    if not plan:
        raise ValueError('the plan holds no samples; without synthetic samples skip this step')
    twice = [name for name, count in Counter(recipe.sample_id for recipe in plan).items() if count > 1]
    if twice:
        raise ValueError(f'sample {twice[0]} stands in the plan twice')
    weights = diffusion.weights_hash() if weights_hash is None else weights_hash
    T_max = diffusion.T_max
    asked = [recipe for recipe in plan if recipe.T > 0]
    for recipe in asked:
        if recipe.weights_hash != weights:
            raise ValueError(f'the plan is for weights {recipe.weights_hash[:12]}…, the model has {weights[:12]}…')
        if any(side % diffusion.multiple for side in recipe.size):
            raise ValueError(f'{recipe.sample_id}: size {recipe.size} is no multiple of {diffusion.multiple}')
        if recipe.condition is not None and not diffusion.takes_conditions:
            raise ValueError(
                f'{recipe.sample_id} is to follow its {recipe.condition.task} label, but this model has no ControlNet; '
                'name one with stages.synthesis.controlnet, or use a pipeline that has one in controlnet/'
            )
        if recipe.source is None and recipe.T < T_max:
            raise ValueError(f'{recipe.sample_id}: without a source image T must be {T_max}, found {recipe.T}')
    if asked:
        warn_of_captions(diffusion, [recipe.caption for recipe in asked])
    kinds = {(recipe.T, recipe.num_calls, recipe.grid, recipe.solver) for recipe in asked}
    return {kind[:3]: diffusion.planned_timesteps(*kind) for kind in sorted(kinds)}


def warn_of_captions(diffusion: 'Generator', captions: Iterable[str]) -> None:
    """Say, once for each set of captions, which words the text encoder does not know and how many captions are cut."""
    texts = tuple(sorted(set(captions)))
    flaws = diffusion.caption_flaws(texts)
    lines = []
    if flaws.unknown:
        shown = ', '.join(flaws.unknown[:20]) + (' …' if flaws.unknown[20:] else '')
        lines.append(f'{len(flaws.unknown)} words of the captions are unknown to the text encoder: {shown}')
    if flaws.cut:
        lines.append(f'{len(flaws.cut)} of {len(texts)} captions are too long and are cut, e.g. {flaws.cut[0]!r}')
    for line in lines:
        if line not in _told:
            _told.add(line)
            print_log(line, 'current', logging.WARNING)


_told: set[str] = set()


def describe(plan: Sequence[SampleRecipe], timesteps: dict[tuple[int, int, str], list[int]]) -> list[str]:
    """What a plan costs, one line per noise level and one in all; `timesteps` is what `check_plan` returns."""
    lines, total = [], 0
    counts = Counter((recipe.T, recipe.num_calls, recipe.grid) for recipe in plan)
    for kind in sorted(counts):
        if kind[0] == 0:
            lines.append(f'T=0: {counts[kind]} samples, composed and not redrawn')
            continue
        steps = timesteps[kind]
        total += counts[kind] * len(steps)
        shown = ', '.join(map(str, steps if len(steps) <= 6 else [*steps[:3], '…', *steps[-2:]]))
        lines.append(f'T={kind[0]}: {counts[kind]} samples, {len(steps)} U-Net calls each ({kind[2]} grid: {shown})')
    return [*lines, f'{len(plan)} samples, {total} U-Net calls in all']


def others_of(plan: Sequence[SampleRecipe], finished: Iterable[str], beside: Collection[str] = ()) -> list[str]:
    """The sample ids in `finished` that `plan` does not ask for and that are not `beside` it."""
    wanted = {*beside, *(recipe.sample_id for recipe in plan)}
    return [sample_id for sample_id in finished if sample_id not in wanted]


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
    pictures: 'ConditionPictures | None' = None,
) -> tuple[Sequence[np.ndarray], list[np.ndarray | None], list[int]]:
    """Create the samples of one batch (equal `batch_key`), of layouts if they are `composed`, see `redrawn`.

    Returns the created images, B of uint8 (H, W, 3), the sources at the same size (None without one), and the timesteps
    that were walked, one U-Net call per sample each.
    """
    first = batch[0]
    if composed is not None:
        images, walked = redrawn(diffusion, batch, composed)
        return images, [each.source for each in composed], walked
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
    return from_model(creation.images), sources, creation.timesteps


def _shown(batch: Sequence[SampleRecipe], pictures: 'ConditionPictures | None') -> 'Tensor':
    """The conditions of a batch, (B, 3, H, W) in [0, 1]."""
    if pictures is None:
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


def _check_store(store: SampleStore, finished: dict[str, dict], settings: Mapping[str, set]) -> None:
    """A store holds samples of one model and one way of sizing: what trains on it cannot tell them apart.

    What no model has redrawn (its hash is empty) goes with every model.
    """
    for record in finished.values():
        if record.get('kind') == UNLABELLED:  # was not made
            continue
        for name, values in settings.items():
            if record[name] not in values and '' not in {record[name], *values}:
                now = ' or '.join(sorted(map(str, values)))
                raise ValueError(
                    f'{store.folder} holds {len(finished)} samples made with {name} {record[name]}, now it is {now}; '
                    f'go back to the old {name}, choose another folder (--out), or delete this one'
                )


def check_others(store: SampleStore, others: list[str]) -> None:
    """ValueError if the store holds samples that nobody asks for."""
    if others:
        raise ValueError(
            f'{store.folder} holds {len(others)} samples that are not in this plan ({others[0]} …): other T, seed, '
            'size, captions, sources or unlabelled images. Choose another folder (--out), remove them (--prune), or '
            'set keep_others=True'
        )


def _warn_of_changed_thresholds(records: Sequence[dict], thresholds: Thresholds | None) -> None:
    changed = [r['sample_id'] for r in records if bool(rejection(r['scores'], thresholds)) != bool(r.get('rejected'))]
    if changed:
        print_log(
            f'{len(changed)} finished samples were filtered with other thresholds ({changed[0]} …) and stay as they '
            'are; SampleStore.remove(ids) has them made again',
            logger='current',
            level=logging.WARNING,
        )
