"""Which weights a folder of one model holds: the plain ones, or those of the only variant that lies there.

As the libraries name them: ``model.safetensors``, ``diffusion_pytorch_model.fp16.safetensors``, and indices of shards,
``model.safetensors.index.json`` and ``model.safetensors.index.fp16.json``.
"""

import re
from pathlib import Path

from mmdiff2in1.core.names import some

from .reading import read_json

_STEM, _KIND = r'(?:diffusion_pytorch_model|pytorch_model|model)', r'(?:safetensors|bin)'
_WEIGHTS = re.compile(rf'{_STEM}(?:\.(\w+))?\.{_KIND}')
_INDEX = re.compile(rf'{_STEM}\.{_KIND}(?:\.(\w+))?\.index(?:\.(\w+))?\.json')
SHOWN = 10


def variant_in(folder: Path, safetensors_only: bool = False) -> str | None:
    """The ``variant`` with which the libraries find the weights in ``folder``: None for plain ones, which go first.

    Args:
        folder: Of one model.
        safetensors_only: Weights in other files do not count.

    Raises:
        FileNotFoundError: No weights, or shards that an index names are missing; what lies there is listed.
        ValueError: Several variants and no plain weights, or a damaged index.
    """
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    kinds: dict[str | None, list[str]] = {}
    for name in names:
        found = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
        if found and ('safetensors' in name or not safetensors_only):
            kinds.setdefault(next((group for group in found.groups() if group), None), []).append(name)
    shown = ', '.join(names[:SHOWN]) + (', …' if len(names) > SHOWN else '') if names else 'nothing'
    if not kinds:
        raise FileNotFoundError(
            f'{folder}: found no weights ({shown}), expected diffusion_pytorch_model.safetensors or model.safetensors, '
            'their .fp16 or another variant, or an index with its shards. Fetch the folder again (`hf download '
            'REPOSITORY --local-dir FOLDER`)' + (', or save it as safetensors' if safetensors_only else '')
        )
    if None not in kinds and len(kinds) > 1:
        raise ValueError(
            f'{folder} holds the variants {", ".join(map(str, kinds))} and no plain weights ({shown}); keep one of them'
        )
    variant = None if None in kinds else next(iter(kinds))
    # The libraries take a whole file before an index, and safetensors before others.
    preferred = sorted(kinds[variant], key=lambda name: ('safetensors' not in name, name.endswith('.json')))[0]
    if not (folder / preferred).is_file():
        raise FileNotFoundError(
            f'{folder / preferred}: found a folder or a link that leads nowhere, expected a file of weights; fetch it '
            'again'
        )
    if preferred.endswith('.json'):
        _check_shards(folder / preferred)
    return variant


def _check_shards(index: Path) -> None:
    shards = read_json(index).get('weight_map')
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f'{index} names no shards, expected weight_map: the file of every tensor; fetch it again')
    outside = sorted({name for name in shards.values() if Path(name).name != name})
    if outside:
        raise ValueError(f'{index} names {some(outside)}, expected files beside it')
    missing = sorted({name for name in shards.values() if not (index.parent / name).is_file()})
    if missing:
        raise FileNotFoundError(f'{index.parent}: missing {some(missing)}, of which {index.name} tells; fetch them too')
