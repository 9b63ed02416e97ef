"""Weights of plain vision transformers from a file that is there: timm's names, or the npz files of AugReg.

AugReg: "How to train your ViT?", 2021; its files are those of Google's vision_transformer. C: width.
"""

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmdiff2in1.core.names import listed
from mmdiff2in1.generators.weight_files import WeightFile

from .vit_parts import resized_positions

_BLOCK, _ATTENTION = 'Transformer/encoderblock_{}', 'MultiHeadDotProductAttention_1'
_NORMS = {'LayerNorm_0': 'norm1', 'LayerNorm_2': 'norm2'}
_DENSE = {'MlpBlock_3/Dense_0': 'mlp.fc1', 'MlpBlock_3/Dense_1': 'mlp.fc2'}


def read_vit(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a plain ViT in timm's names, without its classifier.

    Args:
        path: `.npz` of AugReg; `.pth`, `.bin` or `.safetensors` with timm's names, as they are.

    Raises:
        FileNotFoundError: No such file; nothing is downloaded.
        ValueError: Another layout.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist; expected the .npz of AugReg (L_16-i21k-…-res_384.npz) or a file with the names of '
            'timm. Nothing is downloaded: fetch it and name it, or set pretrained=None for random weights'
        )
    if not _is_npz(path):
        state = WeightFile(path).read('')
    else:
        with np.load(path, allow_pickle=False) as file:
            state = _of_npz({name.removeprefix('opt/target/'): file[name] for name in file.files}, path)
    missing = {'missing': [name for name in ('patch_embed.proj.weight', 'pos_embed') if name not in state]}
    if any(missing.values()):
        raise ValueError(
            f'{path} is no plain vision transformer in the names of timm: {listed(missing)}, found {len(state)} '
            'tensors; a checkpoint of InvPT or TaskPrompter goes through mmdiff2in1 convert first'
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith(('head', 'fc_norm', 'pre_logits'))}


def _is_npz(path: Path) -> bool:
    """By what lies in it: a checkpoint is an archive as well."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('.npy') for name in archive.namelist())


def load_vit(
    module: nn.Module, path: str | Path, grid: tuple[int, int], positions: str = 'pos_embed', beside: str = ''
) -> None:
    """Fills a module that has timm's names; positions are resized to its `grid`.

    Args:
        module: Which.
        path: See `read_vit`; positions of another number are those of a square grid.
        grid: (h, w) of the module.
        positions: Name of the module's positions: (1, 1 + h·w, C), the class token's first, or (h·w, C) without it.
        beside: Pattern of the names, from their begin on, of what the module has beside a ViT; it stays.

    Raises:
        ValueError: Tensors are missing, unexpected or of another shape; they are listed.
    """
    state = read_vit(path)
    own = {name: tensor for name, tensor in module.state_dict().items() if not beside or not re.match(beside, name)}
    count = state['pos_embed'].shape[1] - 1
    side = math.isqrt(count)
    if count != math.prod(grid) and side * side == count:
        state['pos_embed'] = resized_positions(state['pos_embed'].float(), (side, side), grid)
    found = state.pop('pos_embed')
    state[positions] = found if own[positions].ndim == found.ndim else found[0, 1:]
    wrong = {
        'missing': sorted(own.keys() - state.keys()),
        'unexpected': [name for name in state if name not in own and name != 'cls_token'],
        'of another shape': [
            f'{name} {list(state[name].shape)}, expected {list(own[name].shape)}'
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if any(wrong.values()):
        raise ValueError(f'{path} does not fit {type(module).__name__}: tensors {listed(wrong)}; are width, depth and '
                         'patch those of the file?')  # fmt: skip
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def _of_npz(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Tensor]:
    """JAX keeps kernels as (in, out), convolutions as (h, w, in, out), and attention by heads, which follow each other
    in ours."""

    def tensor(name: str) -> Tensor:
        if name not in arrays:
            raise ValueError(f'{path} is no .npz of AugReg: it lacks {name}')
        return torch.from_numpy(np.asarray(arrays[name], np.float32))

    depth = len({name.split('/')[1] for name in arrays if name.startswith('Transformer/encoderblock_')})
    state = {
        'cls_token': tensor('cls'),
        'pos_embed': tensor('Transformer/posembed_input/pos_embedding'),
        'patch_embed.proj.weight': tensor('embedding/kernel').permute(3, 2, 0, 1),
        'patch_embed.proj.bias': tensor('embedding/bias'),
        'norm.weight': tensor('Transformer/encoder_norm/scale'),
        'norm.bias': tensor('Transformer/encoder_norm/bias'),
    }
    for i in range(depth):
        theirs, ours = _BLOCK.format(i), f'blocks.{i}'
        for old, new in _NORMS.items():
            state[f'{ours}.{new}.weight'] = tensor(f'{theirs}/{old}/scale')
            state[f'{ours}.{new}.bias'] = tensor(f'{theirs}/{old}/bias')
        for old, new in _DENSE.items():
            state[f'{ours}.{new}.weight'] = tensor(f'{theirs}/{old}/kernel').mT
            state[f'{ours}.{new}.bias'] = tensor(f'{theirs}/{old}/bias')
        parts = [f'{theirs}/{_ATTENTION}/{part}' for part in ('query', 'key', 'value')]
        state[f'{ours}.attn.qkv.weight'] = torch.cat([tensor(f'{part}/kernel').flatten(1).mT for part in parts])
        state[f'{ours}.attn.qkv.bias'] = torch.cat([tensor(f'{part}/bias').flatten() for part in parts])
        output = f'{theirs}/{_ATTENTION}/out'
        state[f'{ours}.attn.proj.weight'] = tensor(f'{output}/kernel').flatten(0, 1).mT
        state[f'{ours}.attn.proj.bias'] = tensor(f'{output}/bias')
    return {name: value.contiguous() for name, value in state.items()}
