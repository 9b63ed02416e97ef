"""The tensors of θ_C beside those of θ_E: which are shared, which are averaged, which are copied."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from ..necks.spectral_convolution import SpectralConv2d


class EMATensors(NamedTuple):
    """Tensors that θ_C does not share with θ_E, in one stable order; the two lists of a pair are aligned.

    Averaged: parameters and running averages. Copied: counters, constants that no checkpoint stores (an average of two
    -inf masks is nan) and the singular vectors of spectral normalisation (the mean of two unit vectors is none).
    """

    averaged_creator: list[Tensor]
    averaged_exploiter: list[Tensor]
    copied_creator: list[Tensor]
    copied_exploiter: list[Tensor]


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, tied ones under each of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def shared_names(creator: nn.Module, exploiter: nn.Module) -> set[str]:
    """Names of the tensors that are one object in both models."""
    of_creator = dict(named_tensors(creator))
    return {name for name, tensor in named_tensors(exploiter) if of_creator.get(name) is tensor}


def own_pairs(creator: nn.Module, exploiter: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    """(name, tensor of θ_C, tensor of θ_E) of all that is not shared, each tensor once."""
    of_creator, pairs, seen = dict(named_tensors(creator)), [], set()
    for name, tensor in named_tensors(exploiter):
        if of_creator[name] is not tensor and id(tensor) not in seen:
            seen.add(id(tensor))
            pairs.append((name, of_creator[name], tensor))
    return pairs


def copy_exploiter(creator: nn.Module, exploiter: nn.Module) -> None:
    """θ_C ← θ_E."""
    with torch.no_grad():
        for _, of_creator, of_exploiter in own_pairs(creator, exploiter):
            of_creator.copy_(of_exploiter)


def ema_tensors(creator: nn.Module, exploiter: nn.Module) -> EMATensors:
    """Sort the tensors of both models by what the moving average does with them."""
    copied_names = _names_to_copy(exploiter)
    tensors = EMATensors([], [], [], [])
    for name, of_creator, of_exploiter in own_pairs(creator, exploiter):
        if name in copied_names:
            tensors.copied_creator.append(of_creator)
            tensors.copied_exploiter.append(of_exploiter)
        else:
            tensors.averaged_creator.append(of_creator)
            tensors.averaged_exploiter.append(of_exploiter)
    return tensors


def _names_to_copy(model: nn.Module) -> set[str]:
    names = set()
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, tensor in module.named_buffers(recurse=False):
            stored = name not in module._non_persistent_buffers_set
            if not (tensor.is_floating_point() and stored) or _is_singular_vector(module, name):
                names.add(f'{prefix}.{name}' if prefix else name)
        for name, parameter in module.named_parameters(recurse=False):
            if not (parameter.is_floating_point() or parameter.is_complex()):
                names.add(f'{prefix}.{name}' if prefix else name)
    return names


def _is_singular_vector(module: nn.Module, name: str) -> bool:
    """Power-iteration vectors of torch's two spectral normalisations, parametrization and older hook, and of ours."""
    if isinstance(module, SpectralConv2d):
        return name == 'u'
    if isinstance(module, _SpectralNorm):
        return name in ('_u', '_v')
    return name[-2:] in ('_u', '_v') and f'{name[:-2]}_orig' in module._parameters
