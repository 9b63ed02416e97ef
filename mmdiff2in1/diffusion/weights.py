"""Where weights come from: a diffusers folder, one file, or a folder that is part of the package (``builtin:NAME``)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .ldm_file import check_ldm_file

BUILTIN = Path(__file__).parent / 'builtin'
PARTS = {
    'vae': 'config.json',
    'unet': 'config.json',
    'text_encoder': 'config.json',
    'tokenizer': 'tokenizer_config.json',
    'scheduler': 'scheduler_config.json',
}


def resolve_weights(path: str | Path) -> Path:
    """The diffusers folder or the file that ``path`` names, checked before anything is loaded.

    Args:
        path: A folder, a ``.safetensors`` or ``.ckpt`` file of Stable Diffusion, or ``builtin:NAME`` for weights that
            come with the package.

    Raises:
        FileNotFoundError: No such folder or file, or a part of the pipeline is missing in the folder.
        ValueError: The file is damaged, or holds something else.
    """
    text = str(path)
    if text.startswith('builtin:'):
        name = text.removeprefix('builtin:')
        known = sorted(p.parent.name for p in BUILTIN.glob('*/model_index.json'))
        if name not in known:
            raise FileNotFoundError(f'no built-in weights named {name!r}; known: {", ".join(known) or "none"}')
        return BUILTIN / name
    folder = Path(path).expanduser()
    if folder.is_file():
        return check_ldm_file(folder).path
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder}: found nothing, expected a diffusers folder with {", ".join(PARTS)}, or one .safetensors or '
            '.ckpt file of Stable Diffusion 1.x or 2.x. Nothing is downloaded here: fetch the weights once (`hf '
            "download REPOSITORY --local-dir FOLDER`, or pipeline.save_pretrained(folder)), or use 'builtin:scenes'"
        )
    missing = [f'{part}/{name}' for part, name in PARTS.items() if not (folder / part / name).is_file()]
    if missing:
        found = ', '.join(sorted(p.name for p in folder.iterdir())) or 'nothing'
        raise FileNotFoundError(
            f'{folder} is not a complete diffusers folder: missing {", ".join(missing)}; found {found}'
        )
    return folder


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turns what a library says about damaged files in ``folder`` into a ValueError that names the folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f'{folder} cannot be loaded, its files are damaged or do not fit: {error}') from error


def read_json(path: Path) -> dict:
    """The JSON file at ``path``; a damaged one is named."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
