"""The VAE's encoder, layer by layer, against diffusers' own run with hooks before its downsamplings."""

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_pipelines import stable_diffusion_3

from mmdiff2in1.generators.encoder_levels import encode_with_levels
from mmdiff2in1.generators.stable_diffusion_3 import StableDiffusion3


def pictures(height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def by_hooks(vae: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Parameters of the posterior, and what goes into each downsampling."""
    seen, hooks = [], []
    for name, module in vae.encoder.named_modules():
        if name.endswith('downsamplers.0'):
            hooks.append(module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())))
    parameters = vae.encode(images).latent_dist.parameters
    for hook in hooks:
        hook.remove()
    return parameters, seen


def autoencoder(**changes) -> AutoencoderKL:
    torch.manual_seed(0)
    config = dict(
        block_out_channels=(8, 12, 16),
        down_block_types=('DownEncoderBlock2D',) * 3,
        up_block_types=('UpDecoderBlock2D',) * 3,
        latent_channels=4,
        layers_per_block=2,
        norm_num_groups=4,
    )
    return AutoencoderKL(**(config | changes)).eval()


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(use_quant_conv=False),
        dict(mid_block_add_attention=False),
        dict(down_block_types=('DownEncoderBlock2D', 'AttnDownEncoderBlock2D', 'AttnDownEncoderBlock2D')),
        dict(block_out_channels=(8,), down_block_types=('DownEncoderBlock2D',), up_block_types=('UpDecoderBlock2D',)),
    ],
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_levels_and_posterior_are_diffusers_own(changes, dtype):
    vae, images = autoencoder(**changes).to(dtype), pictures().to(dtype)
    parameters, expected = by_hooks(vae, images)
    posterior, levels = encode_with_levels(vae, images)
    assert torch.equal(posterior.parameters, parameters)
    assert len(levels) == len(expected) == len(vae.config.block_out_channels) - 1
    assert all(torch.equal(a, b) and a.dtype == dtype for a, b in zip(levels, expected, strict=True))
    shapes = [(2, 8, 16, 24), (2, 12, 8, 12)]
    assert [tuple(level.shape) for level in levels] == shapes[: len(levels)]


@pytest.mark.parametrize('kind', ['stable-diffusion', 'stable-diffusion-3'])
@torch.no_grad()
def test_a_perceiver_encodes_the_same_latents(kind, tiny_diffusion, tmp_path):
    model = tiny_diffusion
    if kind == 'stable-diffusion-3':
        stable_diffusion_3().save_pretrained(tmp_path)
        model = StableDiffusion3.from_pretrained(tmp_path)
    images = pictures()
    _, expected = by_hooks(model.vae, images)
    for posterior in ('mode', 'sample'):
        for scale in (False, True):
            given = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
            latents, levels = model.encode_with_levels(images, posterior, scale, given)
            again = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
            assert torch.equal(latents, model.encode(images, posterior, scale, again))
            assert all(torch.equal(a, b) for a, b in zip(levels, expected, strict=True))
    assert model.encoder_channels == tuple(level.shape[1] for level in levels) and len(levels) == 1
    assert model.encoder_channels == ((8,) if kind == 'stable-diffusion' else (32,))


@pytest.mark.parametrize(
    ('images', 'options', 'message'),
    [
        (pictures(12, 24), {}, 'image of 12×24: height and width must be multiples of 8'),
        (pictures(), dict(posterior='mean'), "unknown posterior 'mean'; known: mode, sample"),
        (pictures()[:, :2], {}, r'must be \(B, 3, H, W\), floating point'),
    ],
)
def test_what_is_refused_is_what_encode_refuses(tiny_diffusion, images, options, message):
    for method in (tiny_diffusion.encode, tiny_diffusion.encode_with_levels):
        with pytest.raises(ValueError, match=message):
            method(images, **options)
