"""One file of weights under the names of the original latent-diffusion code, whoever has written it.

Exporters and trainers write other names for the same tensors; which, is in the tables below. Sources: the scripts of
diffusers that write such files, and its attention before and after July 2023; the wrappers of PyTorch and DeepSpeed.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from mmdiff2in1.core.names import listed

from .weight_files import WRAPPERS, WeightFile

VAE_ATTENTION = {
    'to_q': 'q', 'to_k': 'k', 'to_v': 'v', 'to_out.0': 'proj_out',
    'query': 'q', 'key': 'k', 'value': 'v', 'proj_attn': 'proj_out',
    'group_norm': 'norm',
}  # fmt: skip
_WRAPPED = re.compile(rf'(?<![^.])(?:module|{"|".join(WRAPPERS)})\.')
_ATTENTION = re.compile(
    rf'(first_stage_model\.(?:encoder|decoder)\.mid\.attn_1\.)({"|".join(map(re.escape, VAE_ATTENTION))})(?=\.\w+$)'
)
_NO_WEIGHTS = re.compile(
    r'(?:cond_stage_model|conditioner\.embedders\.\d+)\..*position_ids|first_stage_model\.(?:loss|model_ema)\..*'
)
"""Counted positions, which older versions of transformers stored; what the autoencoder was trained with."""


class LdmFile(WeightFile):
    """A file of weights whose tensors have the names of the original code, see :class:`.WeightFile`.

    Raises:
        FileNotFoundError, ValueError: As :class:`.WeightFile`; or two tensors of the file have one place.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self._stored = original_names(self.shapes, self.path)
        self.shapes = {name: self.shapes[stored] for name, stored in self._stored.items()}

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        stored = super()._tensors([self._stored[name] for name in names])
        return {name: stored[self._stored[name]] for name in names}


def original_names(names: Iterable[str], place: Path) -> dict[str, str]:
    """{name in the original code: name in the file}, without what is no weight; ``place`` is for the error.

    Raises:
        ValueError: Several names stand for one; they are listed.
    """
    found: dict[str, str] = {}
    twice = []
    for stored in names:
        name = _WRAPPED.sub('', stored)
        name = _ATTENTION.sub(lambda match: match[1] + VAE_ATTENTION[match[2]], name)
        name = re.sub(r'(?:text_model\.){2,}', 'text_model.', name)
        if _NO_WEIGHTS.fullmatch(name):
            continue
        if name in found:
            twice.append(f'{found[name]} and {stored}')
        found[name] = stored
    if twice:
        raise ValueError(f'{place} holds two tensors for one place: {listed({"pairs": twice})}; which one counts?')
    return found
