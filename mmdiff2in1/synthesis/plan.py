"""From sources (an image and its caption) to the list of recipes that are to be made.

H, W image size. A plan depends on its arguments only: not on the order of the sources, the rank, or what is finished.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .recipe import Condition, SampleRecipe, stable_hash
from .resampling import weighted_order

ConditionOf = Callable[[str, tuple[int, int]], Condition]
"""(source, size of creation) → what its layout follows."""

MOST = 20_000_000
"""Samples of a plan, which is held in memory."""
PLAIN: dict[str, Any] = dict(grid='', num_calls=0, solver='', guidance_scale=1.0, weights_hash='')
"""Of a sample that no generator redraws."""

NOISE = 'noise'


@dataclass(frozen=True)
class Source:
    """A real image to create from: its name relative to the data root, its caption, its own (H, W) in pixels.

    `image=None` asks for a sample from pure noise: T must then be T_max and `native_size` is the size to create.
    """

    image: str | None
    caption: str
    native_size: tuple[int, int]


def make_plan(
    sources: Sequence[Source],
    *,
    weights_hash: str,
    multiple: int,
    num_samples: int | None = None,
    samples_per_image: int | None = None,
    seed: int = 0,
    T: int | Sequence[int] | Mapping[str, int] = 600,
    num_calls: int = 20,
    grid: str = 'even',
    solver: str = 'ddim',
    guidance_scale: float = 1.0,
    size: int | Sequence[int] | None = None,
    layout: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    condition_of: ConditionOf | None = None,
) -> list[SampleRecipe]:
    """List the samples to make: `num_samples` in all, or `samples_per_image` for each source.

    A round is a seeded draw of the sources without replacement, so 500 of 795 (Diff-2-in-1 on NYUv2) is the first part
    of a round; when all are drawn the next round starts under the next seed. A smaller `num_samples` is the beginning
    of a larger one: a store can be enlarged. T is one timestep, a list (one of them is drawn per sample), or a `range`
    or dict(low=…, high=…) with both ends included in the latter. `size` and `multiple`: see `creation_size`. With a
    `layout`, T = 0 is what it composes, of the source's size, whatever would redraw it.

    With `weights`, by the image of a source, there are no rounds: sources come in proportion to their weights, see
    `weighted_order`; a smaller plan is the beginning of a larger one as well. `condition_of` gives each recipe what its
    layout follows.

    Raises ValueError for no sources, zero samples, both or neither of the two counts, a source listed twice, and
    whatever `SampleRecipe` refuses.
    """
    rounds = _rounds(sources, num_samples, samples_per_image, seed, weights)
    choices = timestep_choices(T)
    walk = dict(
        grid=grid, num_calls=num_calls, solver=solver, guidance_scale=guidance_scale, weights_hash=weights_hash
    )  # fmt: skip
    plan = []
    for sample_seed, drawn in rounds:
        for source in drawn:
            level = choices[stable_hash('T', _name(source), sample_seed) % len(choices)]
            plain = layout is not None and level == 0
            native = source.native_size
            created = native if plain else creation_size(native, size, multiple)
            shown = condition_of and not plain
            plan.append(
                SampleRecipe(
                    source=source.image,
                    caption=source.caption,
                    seed=sample_seed,
                    T=level,
                    size=created,
                    layout=layout,
                    condition=condition_of(source.image, created) if shown and source.image else None,
                    **(PLAIN if plain else walk),
                )
            )
    return plan


def timestep_choices(T: int | str | Sequence[int] | Mapping[str, int], T_max: int | None = None) -> Sequence[int]:
    """The timesteps that `T` of `make_plan` allows; ValueError if there are none or they are not integers.

    With the `T_max` of a model, 'noise' stands for it.
    """
    if T == NOISE and T_max is not None:
        return [T_max]
    if isinstance(T, Mapping):
        if set(T) != {'low', 'high'}:
            raise ValueError(f'T is {dict(T)}, expected an integer, a list of integers or dict(low=…, high=…)')
        T = range(T['low'], T['high'] + 1)
    choices: Sequence[Any] = T if isinstance(T, Sequence) and not isinstance(T, str) else [T]
    if not choices or any(isinstance(t, bool) or not isinstance(t, int) for t in choices):
        raise ValueError(f'T is {T!r}, expected an integer, a list of integers or dict(low=…, high=…), low <= high')
    return choices


def creation_size(native_size: tuple[int, int], size: int | Sequence[int] | None, multiple: int) -> tuple[int, int]:
    """The (H, W) at which a source of (H, W) `native_size` is created.

    `size=None` keeps the source's size; an integer is the length of the shorter side, aspect kept; [H, W] is taken as
    it is. Every side is then rounded to the nearest `multiple` that the diffusion model can encode, at least one.

    Raises ValueError for a size that is neither.
    """
    wanted: Sequence[float]
    if size is None:
        wanted = native_size
    elif isinstance(size, int):
        wanted = [side * size / min(native_size) for side in native_size]
    elif len(size) == 2:
        wanted = size
    else:
        raise ValueError(f'size is {size!r}, expected the shorter side as an integer, [height, width], or None')
    if min(wanted) <= 0:
        raise ValueError(f'size is {size!r} for a source of {list(native_size)}, expected positive sides')
    height, width = (max(1, int(side / multiple + 0.5)) * multiple for side in wanted)  # half-way goes up
    return height, width


def _rounds(
    sources: Sequence[Source],
    num_samples: int | None,
    samples_per_image: int | None,
    seed: int,
    weights: Mapping[str, float] | None,
) -> list[tuple[int, Sequence[Source]]]:
    """[(seed of the round, its sources)]."""
    if not sources:
        raise ValueError('no source images to create from; check the dataset of the config')
    if (num_samples is None) == (samples_per_image is None):
        raise ValueError(
            f'num_samples is {num_samples} and samples_per_image is {samples_per_image}; set exactly one of them'
        )
    asked = num_samples if num_samples is not None else samples_per_image * len(sources)
    if asked > MOST:
        setting = 'num_samples' if num_samples is not None else f'samples_per_image on {len(sources)} images'
        raise ValueError(f'{asked:,} samples are asked for by {setting}, expected {MOST:,} or fewer')
    if asked < 1:
        raise ValueError(f'{asked} samples are asked for, expected 1 or more; without synthetic samples skip this step')
    names = set()
    for name in map(_name, sources):
        if name in names:
            raise ValueError(f'source {name} is listed twice; ask for more samples_per_image instead')
        names.add(name)

    if weights is not None:
        by_name = {_name(source): source for source in sources}
        order = islice(weighted_order(list(by_name), weights, seed), asked)
        return [(sample_seed, [by_name[name]]) for name, sample_seed in order]
    rounds: list[tuple[int, Sequence[Source]]] = []
    for start in range(0, asked, len(sources)):
        round_seed = seed + start // len(sources)
        drawn = sorted(sources, key=lambda source: stable_hash('draw', _name(source), round_seed))
        rounds.append((round_seed, drawn[: asked - start]))
    return rounds


def _name(source: Source) -> str:
    """Name that tells two sources apart: the image, or without one the caption."""
    return source.image if source.image else source.caption
