"""A latent diffusion model of theirs with random weights, and ours with the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.architectures import ARCHITECTURES
from mmdiff2in1.generators.ldm_file import UNET, VAE, converted, fill

from ..model import TINY

FULL: dict[str, Any] = ARCHITECTURES['stable-diffusion-1.5']
WIDTHS = {'full': (320, 128, 768, 8), 'small': (32, 32, 64, 2)}
"""Base channels of the U-Net and of the VAE, width of a token, heads; groups of 32 channels are normalised together."""
LEVELS = (1, 2, 4, 4)


def our_config(width: str) -> dict[str, Any]:
    """Components of Stable Diffusion 1.5, or of a narrow model of its plan."""
    if width == 'full':
        return FULL
    unet, vae, token, heads = WIDTHS[width]
    return FULL | dict(
        unet=FULL['unet']
        | dict(
            block_out_channels=tuple(unet * level for level in LEVELS),
            cross_attention_dim=token,
            attention_head_dim=heads,
        ),
        vae=FULL['vae'] | dict(block_out_channels=tuple(vae * level for level in LEVELS)),
        **{name: TINY[name] for name in ('text_encoder', 'words', 'max_length')},
    )


def their_model(ddpm: Any, width: str, checkpointing: bool) -> Any:
    """Their ``LatentDiffusion`` without a text encoder, as v1-inference.yaml of Stable Diffusion describes it.

    Args:
        ddpm: Their module ``ldm.models.diffusion.ddpm``.
        width: A name of `WIDTHS`.
        checkpointing: Their ``use_checkpoint``; without it their transformers, which recompute whatever it says, do
            not either.
    """
    channels, vae, token, heads = WIDTHS[width]
    latent = dict(
        double_z=True, z_channels=4, resolution=512, in_channels=3, out_ch=3, ch=vae, ch_mult=LEVELS, num_res_blocks=2,
        attn_resolutions=[], dropout=0.0,
    )  # fmt: skip
    unet = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=channels, attention_resolutions=[4, 2, 1],
        num_res_blocks=2, channel_mult=LEVELS, num_heads=heads, use_spatial_transformer=True, transformer_depth=1,
        context_dim=token, use_checkpoint=checkpointing, legacy=False,
    )  # fmt: skip
    nothing = dict(target='torch.nn.Identity')
    model = ddpm.LatentDiffusion(
        unet_config=dict(target='ldm.modules.diffusionmodules.openaimodel.UNetModel', params=unet),
        first_stage_config=dict(
            target='ldm.models.autoencoder.AutoencoderKL',
            params=dict(embed_dim=4, ddconfig=latent, lossconfig=nothing),
        ),
        cond_stage_config=nothing,
        linear_start=0.00085, linear_end=0.012, timesteps=1000, num_timesteps_cond=1, cond_stage_key='txt',
        image_size=64, channels=4, conditioning_key='crossattn', scale_factor=0.18215, use_ema=False,
    )  # fmt: skip
    if not checkpointing:
        for module in model.modules():
            if getattr(module, 'checkpoint', None) is True:
                module.checkpoint = False
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # layers that begin as zeros would hide all that is before them
                parameter.normal_(std=0.02)
    return model.eval()


def give(theirs: nn.Module, ours: LatentDiffusion) -> None:
    """Copies U-Net and VAE of theirs into ours, by the way that files of Stable Diffusion are read."""
    state = theirs.state_dict()
    for prefix, module, convert in (
        (UNET, ours.unet, convert_ldm_unet_checkpoint),
        (VAE, ours.vae, convert_ldm_vae_checkpoint),
    ):
        tensors = {name: value for name, value in state.items() if name.startswith(prefix)}
        fill(module, converted(convert, tensors, dict(module.config)), torch.float32)


@contextmanager
def without_noise() -> Iterator[None]:
    """Normal draws are zeros: sampled latents are their means, and no noise is added."""
    names = 'randn', 'randn_like'
    before = {name: getattr(torch, name) for name in names}

    def silent(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: torch.zeros_like(draw(*args, **kwargs))

    for name, draw in before.items():
        setattr(torch, name, silent(draw))
    try:
        yield
    finally:
        for name, draw in before.items():
            setattr(torch, name, draw)


def precision(device: str, dtype: str) -> torch.autocast:
    """``bf16``: autocast on both sides; ``fp32``, ``tf32``: none."""
    return torch.autocast(device, torch.bfloat16, enabled=dtype == 'bf16')


def tensors_of(*modules: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> list[Tensor]:
    """Weights, buffers and gradients of modules, and what an optimizer keeps."""
    found: list[Tensor] = []
    for module in modules:
        found += [*module.parameters(), *module.buffers()]
        found += [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if optimizer is not None:
        found += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return found
