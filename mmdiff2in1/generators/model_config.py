"""The ``config.json`` of a model of diffusers, checked before the model is built.

diffusers takes any value: most faults surface in the first forward pass, and a field that is left out gets a default.
"""

import inspect
import math
import types
import typing
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, SD3Transformer2DModel, UNet2DConditionModel

from mmdiff2in1.core.names import some

from .reading import read_json

CHECKED = (AutoencoderKL, ControlNetModel, SD3Transformer2DModel, UNet2DConditionModel)
NEEDED = {UNet2DConditionModel: ('attention_head_dim',), ControlNetModel: ('attention_head_dim',)}
"""Fields that no shape of a tensor says, without a default that fits most models."""
SIGNED = ('shift_factor',)
EPSILONS = ('norm_eps', 'layer_norm_eps')
"""Terms that normalisations add before they divide; at 0 a flat patch gives values that are no numbers."""


def check_config(kind: Any, folder: Path) -> None:
    """Raises ValueError for fields of a ``kind`` in :data:`CHECKED` that are missing or of another type, and for an
    epsilon of any model that is not above 0; with names."""
    path = folder / 'config.json'
    if not path.is_file():
        return
    config = read_json(path)
    wrong = [f'{name}={config[name]!r}' for name in EPSILONS if name in config and not _is_above_0(config[name])]
    if kind in CHECKED:
        wrong = _unlike(kind, config, path)
    if wrong:
        raise ValueError(f'{path}: found {some(wrong)}, which a {kind.__name__} cannot have; is the file damaged?')


def _unlike(kind: Any, config: dict, path: Path) -> list[str]:
    """The fields of another type; raises ValueError for missing ones."""
    missing = [name for name in NEEDED.get(kind, ()) if config.get(name) is None]
    if missing:
        raise ValueError(f'{path} has no {some(missing)}; fetch it from the model that the weights come from')
    hints = typing.get_type_hints(kind.__init__)
    defaults = inspect.signature(kind.__init__).parameters
    return [
        f'{name}={config[name]!r}'
        for name, expected in hints.items()
        if name in config and not _fits(name, config[name], expected, defaults[name].default)
    ]


def _fits(name: str, value: Any, expected: Any, default: Any) -> bool:
    """Of plain types; ``null`` stands for a default that is nothing (SDXL: ``upcast_attention``)."""
    union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    kinds = typing.get_args(expected) if union else (expected,)
    if value is None:
        return not default or type(None) in kinds
    if isinstance(value, int | float) and value < 0 and name not in SIGNED:
        return False
    if name in EPSILONS and not _is_above_0(value):
        return False
    if not set(kinds) <= {bool, int, float, str, type(None)}:
        return True
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int | float):
        number = float in kinds or int in kinds and float(value).is_integer()
        return number and math.isfinite(value)
    return isinstance(value, str) and str in kinds


def _is_above_0(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
