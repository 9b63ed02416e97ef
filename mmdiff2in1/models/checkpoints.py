"""Checkpoints into models: read without executing what is in them, loaded with every key accounted for.

θ_C is `creator`, θ_E `exploiter`.
"""

from pathlib import Path

import torch
from mmengine.logging import print_log
from safetensors.torch import save_file
from torch import Tensor, nn

from mmdiff2in1.core.atomic_files import replacing
from mmdiff2in1.core.names import some
from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file

from .self_improving.whole_loading import MAY_DIFFER, frozen_names, refuse_misfits


def read_checkpoint(path: str | Path) -> dict[str, dict]:
    """`state_dict` and `meta` of a checkpoint of mmengine, of a bare state dict, or of a safetensors file, on the CPU.

    Nothing of the file is run, see `read_checkpoint_file`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, one that holds other objects than weights, or one without weights.
    """
    found = read_checkpoint_file(path, mmap=True)  # moments of the optimizer stay on the disk
    state = found.get('state_dict', found) if isinstance(found, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        names = some([*map(str, state)]) if state else type(found).__name__
        raise ValueError(f'checkpoint {path} holds {names}; expected a state dict, or one under the key state_dict')
    state = {name.removeprefix('module.'): tensor for name, tensor in state.items()}
    return dict(state_dict=state, meta=found.get('meta', {}) if 'state_dict' in found else {})


def still_to_learn(place: str | None) -> list[str]:
    """Names of the modules of which a checkpoint says itself that it holds nothing, as one of ``mmdiff2in1 denoise``
    does; none of an address, or of a file that is not there or cannot be read, which whoever loads it will tell.
    """
    if not place or not Path(place).is_file():
        return []
    try:
        meta = read_checkpoint(place)['meta']
    except (ValueError, OSError):
        return []
    return list(meta.get(MAY_DIFFER) or ()) if isinstance(meta, dict) else []


def write_state(path: Path, state: dict[str, Tensor], meta: dict | None = None, key: str = 'state_dict') -> None:
    """Writes ``.safetensors``, or ``.pth`` as mmengine does, with ``meta``; whole or not at all.

    Another ``key`` is for those who look for the weights there, and for nothing beside them; '' is the bare state dict.
    """
    with replacing(path) as part:
        if path.suffix == '.safetensors':
            save_file(state, part, metadata={'format': 'pt'})
        else:
            beside = dict(meta=meta or {}) if key == 'state_dict' else {}
            torch.save({key: state, **beside} if key else state, part)


def load_weights(model: nn.Module, path: str | Path, which: str = 'creator') -> dict:
    """Fill `model` from a checkpoint, whatever of the two is self-improving.

    Args:
        model: A `SelfImprovingSegmentor`, which a plain checkpoint fills twice, or any other segmentor.
        path: See `read_checkpoint`.
        which: The model that a plain segmentor takes from a self-improving checkpoint.

    Returns:
        The checkpoint's `meta`.

    Raises:
        RuntimeError: Tensors are missing, unexpected or of another shape; they are listed. Frozen tensors that a
            backbone names in `frozen_modules()` may be missing: they stay as the config built them.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint['state_dict']
    if not hasattr(model, 'exploiter'):
        state = of_one_model(state, which)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
        refuse_misfits(model, missing, unexpected, ())
    except RuntimeError as error:
        if lacks := still_to_learn(str(path)):
            raise RuntimeError(
                f'{path} is no trained model: it says itself that it lacks {", ".join(lacks)}, as one of mmdiff2in1 '
                f'denoise does; train from it first: mmdiff2in1 train CONFIG --cfg-options load_from={path}'
            ) from error
        raise RuntimeError(f'{path}: {error}') from error
    frozen = frozen_names(model)
    kept = [name for name in missing if name in frozen]
    if kept and getattr(getattr(model, 'backbone', None), 'diffusion_sha256', None) is None:
        print_log(f'{path} holds no frozen weights: {len(kept)} tensors stay as the config built them', 'current')
    return checkpoint['meta']


def of_one_model(state: dict[str, Tensor], which: str) -> dict[str, Tensor]:
    """θ_C's or θ_E's tensors of a self-improving checkpoint under plain names; what both share lies below exploiter."""
    if not any(name.startswith('exploiter.') for name in state):
        return state
    plain = {name: tensor for name, tensor in state.items() if not name.startswith(('exploiter.', 'creator.'))}
    for owner in ('exploiter', which):
        plain |= {k.removeprefix(f'{owner}.'): v for k, v in state.items() if k.startswith(f'{owner}.')}
    return plain
