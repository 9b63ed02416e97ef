"""The diffusion model inside a trained segmentor → a folder that any diffusers pipeline loads.

θ_C is `creator`, θ_E `exploiter`.
"""

import os
import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.trained_weights import DIFFUSION, load_stored
from mmdiff2in1.models.checkpoints import of_one_model
from mmdiff2in1.synthesis.settings import DTYPES

from .base import OURS, THEIRS, Converted, Converter, register
from .to_mmseg import MODELS_INSIDE, places_of_one_model

BACKBONES = ('DiffusionBackbone', 'MetaPromptBackbone')
PROMPTS = ('backbone.tokens', 'backbone.prompts.')
"""Tensors that a checkpoint of theirs holds, and no other."""
PARTS = {'unet': 'U-Net', 'vae': 'VAE', 'text': 'text encoder'}


@dataclass
class Change:
    """How far a part is from the weights that its training began with.

    Attributes:
        tensors: How many it has.
        changed: How many differ.
        largest: Largest difference of an entry, relative to the largest entry of its tensor before or after.
        where: The tensor with that difference, or ''.
    """

    tensors: int
    changed: int = 0
    largest: float = 0.0
    where: str = ''

    def note(self, name: str, before: Tensor, after: Tensor) -> None:
        """Counts a tensor that differs."""
        if torch.equal(before, after):
            return
        self.changed += 1
        # The larger of the two: a tensor that began at zero has no scale of its own.
        scale = torch.maximum(before.abs().max(), after.abs().max())
        relative = ((after - before).abs().max() / scale).item()
        if not relative <= self.largest:
            self.largest, self.where = relative, name


@dataclass(frozen=True)
class ConvertedDiffusion(Converted):
    """With the whole model, which writes its own folder.

    Attributes:
        diffusion: The model.
        changes: What differs from the weights that the config names, for ``unet``, ``vae`` and ``text``; nothing does
            in a frozen model.
    """

    diffusion: LatentDiffusion | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)


@register('to_diffusers')
class ToDiffusers(Converter):
    """There is no way back: what takes a diffusion model reads such a folder as it is.

    Args:
        config: Config of the checkpoint, of a plain or a self-improving segmentor with a diffusion backbone. A part of
            the diffusion model that the checkpoint does not hold, as a frozen one, stays as the config names it.
        model: Of a self-improving checkpoint: ``creator`` (θ_C; the default) or ``exploiter`` (θ_E).
        dtype: What parameters are stored as: float32, float16 …
    """

    whose = 'a training with a diffusion backbone'
    marks = dict.fromkeys(PROMPTS, OURS)
    directions = (THEIRS,)
    suffixes = ()
    arguments = {
        'config': dict(help='config that the checkpoint was trained with'),
        '--model': dict(choices=MODELS_INSIDE, help='of a self-improving checkpoint (default: creator, i.e. θ_C)'),
        '--dtype': dict(choices=DTYPES, default='float32', help='of the stored weights (default: float32)'),
    }

    def __init__(self, config: str | Path | Config, model: str | None = None, dtype: str = 'float32'):
        self.config = config
        self.model = model
        self.dtype = dtype

    def kind_of(self, names: Collection[str]) -> str:
        found = any(prompt in name for name in names for prompt in PROMPTS)
        return OURS if found else 'one that holds no DiffusionBackbone, only that has a diffusion model'

    def to_ours(self, state: Mapping[str, Tensor]) -> Converted:
        raise ValueError('a diffusers folder needs no conversion: name it in the config, or as --diffusion')

    def to_theirs(self, state: Mapping[str, Tensor]) -> ConvertedDiffusion:
        """Raises besides: ValueError, a config without a diffusion backbone, or ``model`` of a checkpoint with one."""
        if self.model is not None and not any(name.startswith('exploiter.') for name in state):
            raise ValueError(f'{self.model} was asked for, but it holds one model, not θ_C and θ_E; leave it out')
        plain = of_one_model(dict(state), self.model or MODELS_INSIDE[0])
        stored = {name: tensor for name, tensor in plain.items() if name.startswith(DIFFUSION)}
        places, beside = places_of_one_model(state, stored)
        stored = {name.removeprefix(DIFFUSION): tensor for name, tensor in stored.items()}
        diffusion = _pretrained(self.config)
        before = {name: tensor.clone() for name, tensor in diffusion.state_dict().items() if name in stored}
        load_stored(diffusion, stored, 'it')
        after = diffusion.state_dict()
        return ConvertedDiffusion(
            after,
            {name: (place.removeprefix(DIFFUSION),) for name, (place,) in places.items()},
            {'of the rest of the segmentor': beside},
            {'as the config names them': [name for name in after if name not in stored]},
            diffusion=diffusion,
            changes=_changes(before, after),
        )

    def report(self, converted: Converted, to: str) -> str:
        assert isinstance(converted, ConvertedDiffusion)
        lines = [converted.line()]
        for part, change in converted.changes.items():
            where = f', at most by {change.largest:.1%} of the largest entry ({change.where})' if change.changed else ''
            lines += [
                f'{PARTS[part]:<13} {change.changed} of {change.tensors} tensors differ from the pretrained ones{where}'
            ]
        if not converted.changes['unet'].changed:
            lines += ['NOTICE: the U-Net was frozen; the folder holds the model that the training began with']
        return '\n'.join(lines)

    def write(self, converted: Converted, out: Path, meta: dict) -> None:
        """The folder is there whole or not at all."""
        assert isinstance(converted, ConvertedDiffusion)
        part = out.with_name(f'.{out.name}.{secrets.token_hex(4)}.part')
        try:
            converted.diffusion.save_folder(part, DTYPES[self.dtype])
            if out.is_dir():
                out.rmdir()
            os.replace(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _pretrained(config: str | Path | Config) -> LatentDiffusion:
    """The diffusion model that the config names."""
    cfg = config if isinstance(config, Config) else read_config(config)
    segmentor = cfg.model.segmentor if cfg.model.type == 'SelfImprovingSegmentor' else cfg.model
    found = segmentor.get('backbone', {})
    if found.get('type') not in BACKBONES:
        raise ValueError(f'the backbone of the config is a {found.get("type")}; expected a {" or ".join(BACKBONES)}')
    if isinstance(found.diffusion, dict):
        return LatentDiffusion.from_config(found.diffusion)
    return LatentDiffusion.from_pretrained(found.diffusion)


def _changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Change]:
    """By part; what was not stored has not changed."""
    changes = {part: Change(sum(name.startswith(f'{part}.') for name in after)) for part in PARTS}
    for name, tensor in before.items():
        part, _, rest = name.partition('.')
        changes[part].note(rest, tensor, after[name])
    return changes
