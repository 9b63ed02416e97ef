"""Stable Diffusion 1.x and 2.x, narrow: the kinds of layers and names of the published models, random weights."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tiny_clip import text_config, tokenizer
from transformers import CLIPTextModel

from mmdiff2in1.generators import LatentDiffusion, NoiseSchedule
from mmdiff2in1.generators.text import CaptionEncoder

SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')


def stable_diffusion(version: int, whole: bool = False) -> LatentDiffusion:
    """Three levels of two layers; the latent has half the side of the image.

    ``whole``: with all of CLIP's vocabulary.
    """
    torch.manual_seed(version)
    channels = (32, 64, 128) if version == 1 else (64, 128, 128)
    unet = UNet2DConditionModel(
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=('CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'),
        cross_attention_dim=64 * version,
        attention_head_dim=8 if version == 1 else [1, 2, 2],
        use_linear_projection=version == 2,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        layers_per_block=2,
        latent_channels=4,
    )
    text = text_config(
        whole,
        hidden_size=64 * version,
        num_attention_heads=version,
        num_hidden_layers=2,
        intermediate_size=128,
        hidden_act='quick_gelu' if version == 1 else 'gelu',
    )
    words = tokenizer('<|endoftext|>' if version == 1 else '!', whole)
    schedule = SCHEDULE | dict(prediction_type='epsilon' if version == 1 else 'v_prediction')
    return LatentDiffusion(vae, unet, CaptionEncoder(CLIPTextModel(text), words), NoiseSchedule(schedule))
