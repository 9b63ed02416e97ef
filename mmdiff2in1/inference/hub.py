"""Folders of models from and to the Hugging Face hub, by its own library."""

from pathlib import Path
from typing import Any

from mmdiff2in1.core.names import did_you_mean

from .folder_config import CONFIG
from .model_card import CARD
from .model_folder import BUILT_IN, EMBEDDINGS, WEIGHTS, needed_diffusion, read_model_folder

FILES = (CONFIG, WEIGHTS, CARD, EMBEDDINGS)


def find_model_folder(place: str | Path) -> Path:
    """The folder of a model.

    Args:
        place: A folder; `builtin:NAME`, which comes with the package; or `OWNER/NAME` of the hub, of which the
            files of a model are fetched, or taken from the cache of the hub's library.

    Raises:
        FileNotFoundError: No such folder or built-in model, or the hub cannot be reached or has none.
    """
    text, folder = str(place), Path(place).expanduser()
    if text.startswith('builtin:'):
        known = sorted(path.parent.name for path in BUILT_IN.glob(f'*/{CONFIG}'))
        name = text.removeprefix('builtin:')
        if name not in known:
            raise FileNotFoundError(
                f'no built-in model {name!r}{did_you_mean(name, known)}; known: '
                f'{", ".join(f"builtin:{each}" for each in known)}'
            )
        return BUILT_IN / name
    if folder.is_dir():
        return folder
    if not isinstance(place, str) or folder.exists() or text.startswith(('.', '/', '~')) or text.count('/') != 1:
        raise FileNotFoundError(
            f'{place}: found no folder of a model; expected one, builtin:NAME, or OWNER/NAME of the Hugging Face hub'
        )
    return _fetched(text)


def teacher_from(place: str | Path) -> dict[str, Any]:
    """A model's folder as a teacher: ``config`` and ``checkpoint``, as `Teacher.load` and recipes take them.

    Args:
        place: See `find_model_folder`.

    Raises:
        FileNotFoundError, ValueError: See `find_model_folder` and `read_model_folder`; a model that perceives with a
            diffusion model that is not in its folder is none: name its own config and checkpoint.
    """
    cfg, weights = read_model_folder(find_model_folder(place), diffusion='')
    if needed_diffusion(cfg) is not None:
        raise ValueError(
            f'{place}: this model perceives with a diffusion model that is not in the folder; as a teacher name its '
            'own config, which says where that lies, and its checkpoint: two files'
        )
    return dict(config=cfg.to_dict(), checkpoint=str(weights))


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:  # whatever the hub's library raises is one of the two
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f'{name}: there is no such folder here, and it cannot be had from the Hugging Face hub ({reason}). Fetch '
            f'it where there is a network (`hf download {name} --local-dir FOLDER`) and name that folder'
        ) from error


def push_to_hub(folder: str | Path, name: str, private: bool = False) -> str:
    """Sends a model's folder to the Hugging Face hub, with the hub's own library and the token it knows.

    Args:
        folder: See `write_model_folder`; it is read first, and only its three files are sent.
        name: `OWNER/NAME`; made where it is not there.
        private: Of a new one.

    Returns:
        The address of what was sent.

    Raises:
        FileNotFoundError, ValueError: See `read_model_folder`.
    """
    from huggingface_hub import HfApi

    folder = Path(folder).expanduser()
    read_model_folder(folder, diffusion='')
    api = HfApi()
    api.create_repo(name, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES)))
