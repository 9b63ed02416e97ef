"""A model in diffusers' layout: ``vae/ unet/ text_encoder/ tokenizer/ scheduler/``, perhaps ``controlnet/``."""

import json
import stat
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel

from mmdiff2in1.core.names import listed

from .finite import check_finite
from .model_config import check_config
from .model_files import variant_in
from .parts import Parts
from .reading import loading, read_json
from .scheduler_config import read_scheduler
from .tokenizer_folder import read_tokenizer


def read_folder(folder: Path, dtype: torch.dtype = torch.float32) -> Parts:
    """Loads the parts as ``dtype``.

    Raises:
        FileNotFoundError: A part has no weights, or the tokenizer no vocabulary.
        ValueError: A file is damaged; keys are missing from a part, or do not belong to it; the tokenizer is not the
            text encoder's; the scheduler has no betas.
    """
    parts = {}
    for name, model in (('vae', AutoencoderKL), ('unet', UNet2DConditionModel), ('text_encoder', CLIPTextModel)):
        parts[name] = read_model(model, folder / name, dtype)
    tokenizer = read_tokenizer(folder / 'tokenizer', parts['text_encoder'])
    scheduler = read_scheduler(folder / 'scheduler' / 'scheduler_config.json')
    return Parts(parts['vae'], parts['unet'], parts['text_encoder'], tokenizer, scheduler)


def read_model(kind: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Loads one part, a model class of diffusers or transformers, of the variant that lies there, see
    :func:`.variant_in`; raises FileNotFoundError and ValueError as :func:`read_folder`, and for values that are not
    finite."""
    # Models that keep some parameters in float32 are left to their library; so are all of transformers.
    plain = issubclass(kind, ModelMixin) and not kind._keep_in_fp32_modules
    extra = {'low_cpu_mem_usage': False} if plain else {}
    if not issubclass(kind, ModelMixin):  # diffusers' models know no code beside their weights
        extra['trust_remote_code'] = False
    check_config(kind, folder)
    variant = variant_in(folder)
    with loading(folder):
        model, info = kind.from_pretrained(
            folder, variant=variant, torch_dtype=dtype, local_files_only=True, output_loading_info=True, **extra
        )
    bad = {fault: sorted(map(str, info[f'{fault}_keys'])) for fault in ('missing', 'unexpected')}
    if any(bad.values()):
        raise ValueError(f'{folder}: the weights do not fit the configuration beside them: {listed(bad)}')
    check_finite(model.state_dict(), folder)
    for parameter in model.parameters():
        # Memory of its own, aligned: mapped from a file, its offset there would decide the last bit of results.
        # diffusers passes over the type where the first tensor of the file is a float32 buffer (SD3).
        parameter.data = parameter.data.to(dtype if plain else parameter.dtype, copy=True)
    return model


def write_folder(parts: Parts, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes the parts, their parameters as ``dtype`` (default: their own)."""
    models = dict(vae=parts.vae, unet=parts.unet, text_encoder=parts.text_encoder, controlnet=parts.controlnet)
    for name, model in models.items():
        if model is None:
            continue
        state = {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.save_pretrained(folder / name, state_dict=state) if name == 'text_encoder' else _save(
            model, folder / name, state
        )
    parts.tokenizer.save_pretrained(folder / 'tokenizer')
    (folder / 'scheduler').mkdir(parents=True, exist_ok=True)
    scheduler = {'_class_name': 'DDIMScheduler', **parts.scheduler}
    (folder / 'scheduler' / 'scheduler_config.json').write_text(json.dumps(scheduler, indent=2) + '\n')
    index = {
        '_class_name': 'StableDiffusionPipeline' if parts.controlnet is None else 'StableDiffusionControlNetPipeline',
        'vae': ['diffusers', 'AutoencoderKL'],
        'unet': ['diffusers', 'UNet2DConditionModel'],
        'text_encoder': ['transformers', 'CLIPTextModel'],
        'tokenizer': ['transformers', type(parts.tokenizer).__name__],
        'scheduler': ['diffusers', 'DDIMScheduler'],
        'safety_checker': [None, None],
        'feature_extractor': [None, None],
        'image_encoder': [None, None],
        'requires_safety_checker': False,
    }
    if parts.controlnet is not None:
        index['controlnet'] = ['diffusers', 'ControlNetModel']
    (folder / 'model_index.json').write_text(json.dumps(index, indent=2) + '\n')
    for weights in folder.glob('*/*.safetensors'):  # which its library lets the owner alone read
        weights.chmod(stat.S_IMODE((folder / 'model_index.json').stat().st_mode))


def _save(model, folder: Path, state: dict[str, Tensor]) -> None:
    """Saves a diffusers model with ``state`` in place of its own tensors (save_pretrained takes none)."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_config(folder)
    # diffusers notes where the weights were loaded from: a path of this machine, which concerns nobody else.
    config = read_json(folder / 'config.json')
    config.pop('_name_or_path', None)
    (folder / 'config.json').write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')
    save_file(
        {k: v.contiguous() for k, v in state.items()},
        folder / 'diffusion_pytorch_model.safetensors',
        metadata={'format': 'pt'},
    )
