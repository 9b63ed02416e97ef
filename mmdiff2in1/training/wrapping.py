"""A recipe applied from outside: a plain config, whose file stays as it is, becomes a self-improving one."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.config_options import change
from mmdiff2in1.core.names import did_you_mean
from mmdiff2in1.models.checkpoints import still_to_learn

from .config_values import check_values
from .recipes import PRESETS, make_self_improving

LABELLED_BY_CREATOR = ('careful', 'paper', 'released')
"""Presets in which θ_C labels, and so must have learned first."""

EXTENDED = ('custom_hooks', 'custom_imports', 'custom_imports.imports', 'optim_wrapper.constructor')
"""Entries of a plain config to which the recipe adds its own: where one is not there yet, a value for it is plain."""


def wrap_config(base: Config, recipe: str = 'careful', load_from: str | None = None, **settings: Any) -> Config:
    """The whole self-improving config of a plain one; `base` stays as it is.

    Where θ_C labels and `load_from` does not say what it has learned, the base's own training comes first, as its
    warm-up. One image is created for each labelled one, if nothing else is asked for.

    Args:
        base: Config of a plain segmentor, any of mmseg's or one's own.
        recipe: A name of `PRESETS`, or a file of settings, see `read_recipe`.
        load_from: A checkpoint of the base, which becomes θ_E and θ_C; one of ``mmdiff2in1 denoise`` is where their
            training starts.
        **settings: Of `make_self_improving`; they go before those of a file.

    Raises:
        FileNotFoundError: No such file of settings.
        ValueError: See `make_self_improving`.
    """
    asked = {**read_recipe(recipe), **settings}
    preset = asked.pop('preset')
    if preset in LABELLED_BY_CREATOR and (load_from is None or still_to_learn(load_from)):
        asked.setdefault('warmup', True)
    creates = [asked.get('diffusion'), asked.get('layout', PRESETS.get(preset, {}).get('layout'))]
    if any(each is not None for each in creates) and asked.get('num_samples') is None:
        asked.setdefault('samples_per_image', 1)
    cfg = copy.deepcopy(base)
    cfg.pop('work_dir', None)  # of the plain training
    make_self_improving(cfg, preset, **asked)
    if load_from is not None:
        cfg.load_from = load_from
    return cfg


def changed_and_wrapped(plain: Config, changes: Mapping[str, Any], wrap: Callable[[Config], Config]) -> Config:
    """A plain config under a recipe, with changes that are told in the terms of the plain one.

    The recipe copies and wraps, so that a change to the training set or its schedule is made before it. What
    only the recipe makes, and what is new within that, is changed after it.

    Args:
        plain: Stays as it is.
        changes: By dotted keys, as ``Config.merge_from_dict`` takes them.
        wrap: The recipe: gives another config.

    Raises:
        ValueError: See `make_self_improving` and `check_values`; or a change that leads nowhere.
    """
    plain = copy.deepcopy(plain)
    first = {key: value for key, value in changes.items() if _steps(plain, key) > key.count('.') or key in EXTENDED}
    change(plain, first)
    rest = {key: value for key, value in changes.items() if key not in first}
    wrapped = wrap(copy.deepcopy(plain)) if rest else plain
    of_recipe = {
        key: value
        for key, value in rest.items()
        if key.startswith('stages.') or _steps(wrapped, key) > _steps(plain, key)
    }
    change(plain, {key: value for key, value in rest.items() if key not in of_recipe})
    wrapped = wrap(plain)
    change(wrapped, of_recipe)
    check_values(wrapped)
    return wrapped


def _steps(cfg: Any, key: str) -> int:
    """How many parts of a dotted key lead to an entry, from its beginning; lists are counted from 0."""
    for count, step in enumerate(key.split('.')):
        if isinstance(cfg, list | tuple) and step.isdigit() and int(step) < len(cfg):
            cfg = cfg[int(step)]
        elif isinstance(cfg, Mapping | Config) and step in cfg:
            cfg = cfg[step]
        else:
            return count
    return key.count('.') + 1


def read_recipe(recipe: str) -> dict[str, Any]:
    """``preset`` and further settings: of a preset's name, or of a file in the syntax of configs.

    Such a file names arguments of `make_self_improving`, one a line: ``preset = 'paper'``, ``T = [200, 400]``.

    Raises:
        FileNotFoundError: Neither a preset nor a file.
    """
    if recipe in PRESETS:
        return dict(preset=recipe)
    if not Path(recipe).is_file():
        raise FileNotFoundError(
            f'{recipe!r} is neither a preset ({", ".join(PRESETS)}) nor a file of settings'
            f'{did_you_mean(recipe, PRESETS)}; such a file names arguments of make_self_improving, one a line: '
            "preset = 'careful', T = [200, 400], … (docs/recipes.md)"
        )
    return {'preset': 'careful', **read_config(recipe).to_dict()}
