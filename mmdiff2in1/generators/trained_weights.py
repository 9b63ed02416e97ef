"""The diffusion model inside a checkpoint of a segmentor takes the place of the pretrained one, or its U-Net does."""

from pathlib import Path

import torch
from torch import Tensor

from mmdiff2in1.core.names import listed

from .latent_diffusion import LatentDiffusion
from .weight_files import WeightFile

DIFFUSION = 'backbone.diffusion.'


def stored_tensors(file: WeightFile, model: str = 'creator') -> dict[str, Tensor]:
    """The diffusion model's tensors in a checkpoint, by their names in ``LatentDiffusion``; empty if it holds none.

    Args:
        file: Of a plain segmentor, or of a self-improving one, where what θ_C and θ_E share stands once, in θ_E.
        model: Of a self-improving one: ``creator`` (θ_C) or ``exploiter`` (θ_E).
    """
    start = 'module.' if all(name.startswith('module.') for name in file.shapes) else ''
    stored: dict[str, Tensor] = {}
    for owner in ('', 'exploiter.', f'{model}.'):
        prefix = f'{start}{owner}{DIFFUSION}'
        stored |= {name.removeprefix(prefix): tensor for name, tensor in file.read(prefix).items()}
    return stored


def load_stored(diffusion: LatentDiffusion, stored: dict[str, Tensor], place: str | Path) -> None:
    """Copies the tensors of whole parts into the model, which keeps its types; ``place`` is for the error.

    Raises:
        ValueError: Other shapes, unknown tensors, or some of a part and not all of it; with the names.
    """
    own = diffusion.state_dict()
    begun = {_part(name) for name in stored}
    wrong = {
        'missing': [name for name in own if name not in stored and _part(name) in begun],
        'unexpected': [name for name in stored if name not in own],
        'of another shape': [n for n, tensor in stored.items() if n in own and own[n].shape != tensor.shape],
    }
    if any(wrong.values()):
        raise ValueError(
            f'{place} does not fit the diffusion model of the config: {listed(wrong)}. Use the config and the '
            'weights that its training began with'
        )
    for name, tensor in stored.items():
        own[name].copy_(tensor)


def _part(name: str) -> str:
    """Of the VAE its way to latents, and its way back, which a model that only perceives does not store."""
    part, inner, *_ = f'{name}.'.split('.')
    return f'{part} to pixels' if part == 'vae' and inner in ('decoder', 'post_quant_conv') else part


@torch.no_grad()
def load_trained_unet(diffusion: LatentDiffusion, path: str | Path) -> None:
    """Fills the U-Net of ``diffusion`` from a checkpoint of a segmentor; of a self-improving one θ_C counts.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, holds no U-Net, or that of another model.
    """
    stored = stored_tensors(WeightFile(path))
    unet = {name: tensor for name, tensor in stored.items() if name.startswith('unet.')}
    if not unet:
        raise ValueError(
            f'{path} holds no U-Net (expected tensors under …{DIFFUSION}unet.): it was trained with another backbone, '
            "or stored without its frozen parts. Set unet='pretrained' to create with the weights on disk"
        )
    load_stored(diffusion, unet, path)
