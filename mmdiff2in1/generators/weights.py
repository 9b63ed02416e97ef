"""Where weights come from: a diffusers folder, one file, or a folder that is part of the package (``builtin:NAME``)."""

from pathlib import Path

from mmdiff2in1.core.names import did_you_mean

from .ldm_file import check_ldm_file
from .model_files import variant_in
from .reading import read_json
from .scheduler_config import read_scheduler
from .tokenizer_folder import check_tokenizer_files

BUILTIN = Path(__file__).parent / 'builtin'
PARTS = {
    'vae': 'config.json',
    'unet': 'config.json',
    'text_encoder': 'config.json',
    'tokenizer': 'tokenizer_config.json',
    'scheduler': 'scheduler_config.json',
}
OPTIONAL = {'controlnet': 'config.json'}

PERCEIVES = {'unet': 'UNet2DConditionModel', 'text_encoder': 'CLIPTextModel', 'text_encoder_2': None}
"""Classes of the parts of Stable Diffusion 1.x and 2.x; SDXL has a second text encoder."""


def resolve_weights(path: str | Path) -> Path:
    """The diffusers folder or the file that ``path`` names, checked before anything is loaded.

    Args:
        path: A folder, a ``.safetensors`` or ``.ckpt`` file of Stable Diffusion, or ``builtin:NAME`` for weights that
            come with the package.

    Raises:
        FileNotFoundError: No such folder or file, or a part of the pipeline is missing in the folder, or its weights or
            vocabulary.
        ValueError: The file is damaged, or holds something else; the folder holds a pipeline that does not perceive, or
            a scheduler without betas.
    """
    place = find_weights(path)
    if place.is_file():
        return check_ldm_file(place).path
    other = creates_only(place)
    if other:
        raise ValueError(
            f'{place} holds a {other}: it creates images (stages.synthesis.diffusion) but does not perceive here; '
            'expected a diffusers folder of Stable Diffusion 1.x or 2.x, or for a DiffusionBackbone also 3'
        )
    needed = PARTS | (OPTIONAL if pipeline_parts(place).get('controlnet') else {})
    missing = [f'{part}/{name}' for part, name in needed.items() if not (place / part / name).is_file()]
    if missing:
        found = ', '.join(sorted(p.name for p in place.iterdir())) or 'nothing'
        raise FileNotFoundError(
            f'{place} is not a complete diffusers folder: missing {", ".join(missing)}; found {found}'
        )
    for part in [part for part, name in needed.items() if name == 'config.json']:
        variant_in(place / part)
    check_tokenizer_files(place / 'tokenizer')
    read_scheduler(place / 'scheduler' / 'scheduler_config.json')
    return place


def find_weights(path: str | Path) -> Path:
    """The folder or the file that ``path`` names, whatever it holds; FileNotFoundError if there is none."""
    text = str(path)
    if text.startswith('builtin:'):
        name = text.removeprefix('builtin:')
        known = sorted(p.parent.name for p in BUILTIN.glob('*/model_index.json'))
        if name not in known:
            meant = did_you_mean(name, known)
            raise FileNotFoundError(f'no built-in weights named {name!r}{meant}; known: {", ".join(known)}')
        return BUILTIN / name
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(
            f'{place}: found nothing, expected a diffusers folder with {", ".join(PARTS)}, or one .safetensors or '
            '.ckpt file of Stable Diffusion 1.x or 2.x. Nothing is downloaded here: fetch the weights once (`hf '
            'download REPOSITORY --local-dir FOLDER`, or pipeline.save_pretrained(folder)) and name the place as '
            "diffusion=… (the configs of Stable Diffusion read it from $SD_WEIGHTS), or use 'builtin:scenes'"
        )
    return place


def creates_only(folder: Path) -> str | None:
    """The class of the pipeline in ``folder`` if it is no Stable Diffusion 1.x or 2.x, which does both; else None."""
    if not (folder / 'model_index.json').is_file():
        return None
    parts = pipeline_parts(folder)
    if all(parts.get(part) == kind for part, kind in PERCEIVES.items()):
        return None
    return str(read_json(folder / 'model_index.json').get('_class_name', 'pipeline of another kind'))


def pipeline_parts(place: Path) -> dict[str, str | None]:
    """{part: class} of a diffusers folder, as its ``model_index.json`` says; empty for a file, or without one."""
    index = place / 'model_index.json'
    if not index.is_file():
        return {}
    return {name: value[1] for name, value in read_json(index).items() if isinstance(value, list) and len(value) == 2}
