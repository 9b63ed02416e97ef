"""The diffusion model inside a trained segmentor → a folder that any diffusers pipeline loads.

θ_C is `creator`, θ_E `exploiter`.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.trained_weights import load_stored, stored_tensors
from mmdiff2in1.generators.weight_files import WeightFile

MODELS_INSIDE = ('creator', 'exploiter')


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


def export_diffusers(
    config: str | Path | Config,
    checkpoint: str | Path,
    out: str | Path,
    model: str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Change]:
    """Writes the folder; it is there whole or not at all.

    Args:
        config: Config of the checkpoint, of a plain or a self-improving segmentor with a diffusion backbone.
        checkpoint: ``.pth`` or ``.safetensors``. A part of the diffusion model that it does not hold, as a frozen one,
            stays as the config names it.
        out: Folder to make.
        model: Of a self-improving checkpoint: ``creator`` (θ_C; the default) or ``exploiter`` (θ_E).
        dtype: What parameters are stored as; None: float32.

    Returns:
        What differs from the weights that the config names, for ``unet``, ``vae`` and ``text``; nothing does in a
        frozen model.

    Raises:
        FileExistsError: ``out`` is there and not an empty folder.
        FileNotFoundError: No such checkpoint, or the weights that the config names are not there.
        ValueError: A damaged checkpoint, one without a diffusion backbone or of other shapes, a config without one, or
            ``model`` is asked of a checkpoint with one model.
    """
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} is there already; name another folder, or remove it')
    stored = _stored(checkpoint, model)
    diffusion = _pretrained(config)
    before = {name: tensor.clone() for name, tensor in diffusion.state_dict().items() if name in stored}
    load_stored(diffusion, stored, checkpoint)
    changes = _changes(before, diffusion.state_dict())
    part = out.with_name(f'.{out.name}.part')
    shutil.rmtree(part, ignore_errors=True)  # what a killed run left behind
    try:
        diffusion.save_folder(part, dtype)
        if out.is_dir():
            out.rmdir()
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return changes


def _stored(checkpoint: str | Path, model: str | None) -> dict[str, Tensor]:
    """The diffusion model's tensors in the checkpoint."""
    if model is not None and model not in MODELS_INSIDE:
        raise ValueError(f'there is no model {model!r}; known: {", ".join(MODELS_INSIDE)}')
    file = WeightFile(checkpoint)
    start = 'module.' if all(name.startswith('module.') for name in file.shapes) else ''
    if model is not None and not any(name.startswith(f'{start}exploiter.') for name in file.shapes):
        raise ValueError(f'{model} was asked for, but {checkpoint} holds one model, not θ_C and θ_E; leave it out')
    if not any('backbone.tokens' in name for name in file.shapes):
        raise ValueError(f'{checkpoint} holds no DiffusionBackbone, only that has a diffusion model')
    return stored_tensors(file, model or 'creator')


def _pretrained(config: str | Path | Config) -> LatentDiffusion:
    """The diffusion model that the config names."""
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    segmentor = cfg.model.segmentor if cfg.model.type == 'SelfImprovingSegmentor' else cfg.model
    found = segmentor.get('backbone', {})
    if found.get('type') != 'DiffusionBackbone':
        raise ValueError(f'the backbone of the config is a {found.get("type")}; expected a DiffusionBackbone')
    if isinstance(found.diffusion, dict):
        return LatentDiffusion.from_config(found.diffusion)
    return LatentDiffusion.from_pretrained(found.diffusion)


def _changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Change]:
    """By part; what was not stored has not changed."""
    changes = {part: Change(sum(name.startswith(f'{part}.') for name in after)) for part in ('unet', 'vae', 'text')}
    for name, tensor in before.items():
        part, _, rest = name.partition('.')
        changes[part].note(rest, tensor, after[name])
    return changes
