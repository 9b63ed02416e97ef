"""SDXL, Stable Diffusion 3 and FLUX, narrow: the kinds of layers and names of the published models, random weights."""

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_clip import text_config, tokenizer
from tiny_stable_diffusion import SCHEDULE
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from mmdiff2in1.generators.tokenizer import caption_tokenizer

WORDS = ['a', 'ball', 'chair', 'red', 'table']


def sdxl(whole: bool = False) -> StableDiffusionXLPipeline:
    """Three levels of two layers, the first without attention; the latent has half the side of the image.

    ``whole``: with all of CLIP's vocabulary.
    """
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=64 + 128,
        attention_head_dim=(1, 1, 1),
        use_linear_projection=True,
        addition_embed_type='text_time',
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=96 + 6 * 8,
        sample_size=8,
    )
    return StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(clip(64, 'quick_gelu', whole=whole)),
        text_encoder_2=CLIPTextModelWithProjection(clip(128, 'gelu', whole=whole, projection_dim=96)),
        tokenizer=tokenizer('<|endoftext|>', whole),
        tokenizer_2=tokenizer('!', whole),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing='leading', steps_offset=1),
        add_watermarker=False,
    )


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    """Two joint transformer blocks over patches of 2×2; two CLIPs and a T5."""
    torch.manual_seed(4)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=96,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(clip(32, 'quick_gelu', projection_dim=32, heads=2)),
        text_encoder_2=CLIPTextModelWithProjection(clip(32, 'gelu', projection_dim=32, heads=2)),
        text_encoder_3=t5(96),
        tokenizer=tokenizer('<|endoftext|>'),
        tokenizer_2=tokenizer('!'),
        tokenizer_3=caption_tokenizer(WORDS, 16),
    )


def flux() -> FluxPipeline:
    """One double and one single block; latents are packed 2×2, and timesteps shift with the image's size."""
    torch.manual_seed(5)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae(4, shift_factor=0.06),
        text_encoder=CLIPTextModel(clip(32, 'quick_gelu', heads=2)),
        tokenizer=tokenizer('<|endoftext|>'),
        text_encoder_2=t5(32),
        tokenizer_2=caption_tokenizer(WORDS, 16),
        transformer=transformer,
    )


def vae(channels: int, **scale) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        layers_per_block=2,
        latent_channels=channels,
        **scale,
    )


def clip(width: int, activation: str, heads: int | None = None, whole: bool = False, **kwargs) -> CLIPTextConfig:
    return text_config(
        whole,
        hidden_size=width,
        num_attention_heads=heads or width // 64,
        num_hidden_layers=2,
        intermediate_size=2 * width,
        hidden_act=activation,
        **kwargs,
    )


def t5(width: int) -> T5EncoderModel:
    config = T5Config(vocab_size=16, d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.1)
    return T5EncoderModel(config)
