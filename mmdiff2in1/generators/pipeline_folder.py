"""A diffusers pipeline in its folder → the image-to-image pipeline of the same parts."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from torch import nn

from .diffusers_folder import read_model
from .reading import read_json, reason_of
from .scheduler_config import check_pipeline_scheduler
from .tokenizer_folder import read_tokenizer

LIBRARIES = {'diffusers': diffusers, 'transformers': transformers}
LEFT_OUT = 'safety_checker'
"""It would put black images where it suspects something, and they would be trained on."""


def read_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Loads the parts that ``model_index.json`` names; no code that lies in the folder is run.

    Raises:
        FileNotFoundError: A part is missing, or its weights or vocabulary.
        ValueError: A file is damaged; keys are missing from a part, or do not belong to it; a part is of a class that
            the installed libraries do not have; a tokenizer is not its text encoder's; a scheduler's timesteps are not
            understood; diffusers has no image-to-image form of this pipeline.
    """
    index = read_json(folder / 'model_index.json')
    pipeline, parts = index.get('_class_name'), _parts(index)
    missing = [name for name in parts if name != LEFT_OUT and not (folder / name).is_dir()]
    if missing:
        found = ', '.join(sorted(p.name for p in folder.iterdir()))
        raise FileNotFoundError(f'{folder} is not a complete {pipeline}: missing {", ".join(missing)}; found {found}')
    kinds = {name: getattr(LIBRARIES.get(library), kind, None) for name, (library, kind) in parts.items()}
    unknown = [f'{name} is a {kind} of {library}' for name, (library, kind) in parts.items() if kinds[name] is None]
    if unknown:
        versions = ' and '.join(f'{name} {library.__version__}' for name, library in LIBRARIES.items())
        raise ValueError(f'{folder}: {", ".join(unknown)}, which the installed {versions} do not have')
    if 'scheduler' in parts:
        path = folder / 'scheduler' / 'scheduler_config.json'
        check_pipeline_scheduler(path, parts['scheduler'][1], with_betas='unet' in parts)
    models: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name == LEFT_OUT:
            models[name] = None
        elif isinstance(kind, type) and issubclass(kind, nn.Module):
            models[name] = read_model(kind, folder / name, dtype)
    for name, kind in kinds.items():
        encoder = models.get(name.replace('tokenizer', 'text_encoder'))
        if name.startswith('tokenizer') and encoder is not None:
            models[name] = read_tokenizer(folder / name, encoder, kind)
    try:
        return AutoPipelineForImage2Image.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, low_cpu_mem_usage=False, **models
        )
    except MemoryError:
        raise
    except Exception as error:  # as in `loading`
        raise ValueError(
            f'{folder}: no image-to-image pipeline could be made of this {pipeline}: {reason_of(error)}'
        ) from error


def _parts(index: dict) -> dict[str, tuple[str, str]]:
    """{name: (library, class)} of an index; optional parts that are not there have neither."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {name: (library, kind) for name, (library, kind) in pairs.items() if isinstance(library, str) and kind}
