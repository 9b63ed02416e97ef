"""Fields of a model's config.json that only the first forward pass would miss, or nobody."""

import json

import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.model_config import check_config

SDXL = dict(upcast_attention=None, num_attention_heads=None, attention_head_dim=[5, 10, 20], sample_size=128)


@pytest.mark.parametrize(
    ('kind', 'config', 'message'),
    [
        (UNet2DConditionModel, SDXL, None),  # as published
        (UNet2DConditionModel, dict(attention_head_dim=8, mid_block_scale_factor=1, norm_eps=1e-05), None),
        (AutoencoderKL, dict(scaling_factor=0.13025, shift_factor=-0.1, force_upcast=True), None),
        (AutoencoderKL, {}, None),
        (UNet2DConditionModel, {}, 'has no attention_head_dim; fetch it from the model'),
        (
            UNet2DConditionModel,
            SDXL | dict(flip_sin_to_cos=None),
            'found flip_sin_to_cos=None, which a UNet2',
        ),
        (UNet2DConditionModel, SDXL | dict(norm_eps=-1, freq_shift='x'), r"found freq_shift='x', norm_eps=-1, which"),
        (UNet2DConditionModel, SDXL | dict(norm_eps=float('nan')), 'found norm_eps=nan'),
        (UNet2DConditionModel, SDXL | dict(norm_eps=0.0), 'found norm_eps=0.0, which a UNet2'),
        (CLIPTextModel, dict(layer_norm_eps=0), 'found layer_norm_eps=0, which a CLIPTextModel cannot have'),
        (CLIPTextModel, dict(layer_norm_eps=1e-05, hidden_size='any'), None),
        (UNet2DConditionModel, SDXL | dict(downsample_padding=True), 'found downsample_padding=True'),
        (UNet2DConditionModel, SDXL | dict(downsample_padding=0.5), 'found downsample_padding=0.5'),
        (UNet2DConditionModel, SDXL | dict(attention_head_dim=-1), 'found attention_head_dim=-1'),
        (AutoencoderKL, dict(scaling_factor=None), 'found scaling_factor=None'),
        (AutoencoderKL, dict(shift_factor='x', norm_num_groups=-1), "found norm_num_groups=-1, shift_factor='x'"),
    ],
)
def test_fields(tmp_path, kind, config, message):
    (tmp_path / 'config.json').write_text(json.dumps(config))
    if message is None:
        check_config(kind, tmp_path)
    else:
        with pytest.raises(ValueError, match=rf'config\.json:? .*{message}|config\.json {message}'):
            check_config(kind, tmp_path)


@pytest.mark.parametrize(
    ('part', 'changes', 'message'),
    [
        (
            'unet',
            dict(freq_shift=1, downsample_padding=0),
            'tiny: this U-Net uses downsample_padding=0, freq_shift=1',
        ),
        ('unet', dict(flip_sin_to_cos=False), 'tiny: this U-Net uses flip_sin_to_cos=False'),
        ('unet', dict(norm_num_groups=-4), 'unet/config.json: found norm_num_groups=-4'),
        ('vae', dict(scaling_factor='x'), "vae/config.json: found scaling_factor='x'"),
    ],
)
def test_a_folder_with_other_fields(_tiny_diffusion, tmp_path, part, changes, message):
    _tiny_diffusion.save_folder(tmp_path / 'tiny')
    path = tmp_path / 'tiny' / part / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(tmp_path / 'tiny')


def test_the_shift_of_the_latent_counts(tiny_diffusion):
    before = tiny_diffusion.weights_hash()
    tiny_diffusion.vae.register_to_config(shift_factor=0.1)
    assert tiny_diffusion.weights_hash() != before
