"""Component configurations of the published Stable Diffusion models, which diffusers would fetch.

For random weights at the real shapes: benchmarks, memory estimates, tests. Source: the v1 and v2 inference
configurations of CompVis/stable-diffusion and Stability-AI/stablediffusion.
"""

VAE = dict(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=('DownEncoderBlock2D',) * 4,
    up_block_types=('UpDecoderBlock2D',) * 4,
    layers_per_block=2,
    latent_channels=4,
    scaling_factor=0.18215,
)
BETAS = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')


def _unet(**version) -> dict:
    return dict(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=('CrossAttnDownBlock2D',) * 3 + ('DownBlock2D',),
        up_block_types=('UpBlock2D',) + ('CrossAttnUpBlock2D',) * 3,
        **version,
    )


ARCHITECTURES = {
    'stable-diffusion-1.5': dict(
        vae=VAE,
        unet=_unet(cross_attention_dim=768, attention_head_dim=8),
        text_encoder=dict(
            intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act='quick_gelu'
        ),
        scheduler=BETAS | dict(prediction_type='epsilon'),
        words='clip',
        max_length=77,
    ),
    'stable-diffusion-2.1-base': dict(
        vae=VAE,
        unet=_unet(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
        text_encoder=dict(intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act='gelu'),
        scheduler=BETAS | dict(prediction_type='epsilon'),
        words='open_clip',
        max_length=77,
    ),
}
"""Name → argument of :meth:`.LatentDiffusion.from_config`."""
