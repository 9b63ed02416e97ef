"""Before anything is created: can the model make this plan, what does it cost, may the store hold the samples?"""

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mmengine.logging import print_log

from mmdiff2in1.core.differences import differences

from .filters import Thresholds, rejection
from .recipe import SampleRecipe
from .store import UNLABELLED, SampleStore

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator

_told: set[str] = set()


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


def describe(plan: Sequence[SampleRecipe], timesteps: dict[tuple[int, int, str], list[int]]) -> list[str]:
    """Costs of a plan, one line per noise level and one in all; `timesteps` is what `check_plan` returns."""
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


def check_made_alike(store: SampleStore, finished: Mapping[str, dict], settings: Mapping[str, set]) -> None:
    """A store holds samples of one model and one way of sizing: what trains on it cannot tell them apart.

    What no model has redrawn (its hash is empty) goes with every model.
    """
    for record in finished.values():
        if record.get('kind') == UNLABELLED:  # was not made
            continue
        for name, values in settings.items():
            if name not in record:
                raise ValueError(
                    f'{store.folder} holds {record["sample_id"]}, whose record does not say its {name}, so it is not '
                    'known whether it was made alike; choose another folder (--out), or take it out'
                )
            if record[name] not in values and '' not in {record[name], *values}:
                now = ' or '.join(sorted(map(str, values)))
                raise ValueError(
                    f'{store.folder} holds {len(finished)} samples made with {name} {record[name]}, now it is {now}; '
                    f'go back to the old {name}, choose another folder (--out), or delete this one'
                )


def unlike(plan: Sequence[SampleRecipe], record: Mapping) -> str:
    """In what a sample differs from the recipe of the plan that is most like it, as 'T: 600 → 300'; '' if unknown."""
    alike, best = '', 0
    for recipe in plan if record.get('kind') != UNLABELLED else ():
        fields = {name: value for name, value in recipe.fields.items() if name in record}
        plain = json.loads(json.dumps(fields))
        same = sum(record[name] == value for name, value in plain.items())
        if same > best:
            alike, best = differences({name: record[name] for name in plain}, plain), same
    return alike


def check_others(store: SampleStore, others: list[str], plan: Sequence[SampleRecipe] = ()) -> None:
    """ValueError if the store holds samples that nobody asks for."""
    if others:
        told = unlike(plan, store.finished()[others[0]])
        what = told or 'other T, seed, size, captions, sources or unlabelled images'
        raise ValueError(
            f'{store.folder} holds {len(others)} samples that are not in this plan ({others[0]} …): {what}. Choose '
            'another folder (--out), remove them (--prune), or set keep_others=True'
        )


def warn_of_changed_thresholds(records: Iterable[dict], thresholds: Thresholds | None) -> None:
    """Say which finished samples other thresholds would have kept, or refused."""
    changed = [
        record['sample_id']
        for record in records
        if 'scores' in record and bool(rejection(record['scores'], thresholds)) != bool(record.get('rejected'))
    ]
    if changed:
        print_log(
            f'{len(changed)} finished samples were filtered with other thresholds ({changed[0]} …) and stay as they '
            'are; SampleStore.remove(ids) has them made again',
            logger='current',
            level=logging.WARNING,
        )
