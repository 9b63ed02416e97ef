"""The U-Net inside a trained checkpoint takes the place of the pretrained one."""

from pathlib import Path

import torch

from .latent_diffusion import LatentDiffusion
from .weight_files import WeightFile

UNET = 'backbone.diffusion.unet.'
PREFIXES = tuple(f'{wrapper}{model}{UNET}' for wrapper in ('', 'module.') for model in ('creator.', '', 'exploiter.'))
"""Where it stands: in a self-improving segmentor (θ_C, or θ_E where both share a frozen one) and in a plain one."""


@torch.no_grad()
def load_trained_unet(diffusion: LatentDiffusion, path: str | Path) -> None:
    """Fills the U-Net of ``diffusion``, in its own type and place, from a checkpoint of a segmentor.

    Args:
        diffusion: The model that the training of the checkpoint began with.
        path: ``.pth`` or ``.safetensors``; of a self-improving one θ_C counts.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, holds no U-Net, or that of another model.
    """
    file = WeightFile(path)
    prefix = next((each for each in PREFIXES if any(name.startswith(each) for name in file.shapes)), None)
    if prefix is None:
        raise ValueError(
            f'{path} holds no U-Net (expected tensors under …{UNET}): it was trained with another '
            "backbone, or stored without its frozen parts. Set unet='pretrained' to create with the weights on disk"
        )
    own = diffusion.unet.state_dict()
    found = {name.removeprefix(prefix): tensor for name, tensor in file.read(prefix).items()}
    strange = sorted(own.keys() ^ found.keys())
    strange += [name for name in own.keys() & found.keys() if own[name].shape != found[name].shape]
    if strange:
        raise ValueError(
            f'{path}: its U-Net is not of the model that creates; {len(strange)} tensors are missing, unexpected or of '
            f'another shape, first {strange[0]}. Name the weights that its training began with as diffusion=…'
        )
    for name, tensor in found.items():
        own[name].copy_(tensor)
