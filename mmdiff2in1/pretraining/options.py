"""Settings of a training from scratch, and the architecture that they describe."""

from dataclasses import dataclass

PLACES = ('images', 'captions', 'labels', 'out', 'work_dir', 'resume')
"""Options that say where things are; the others decide the result, and so does what lies in these places."""
ARCHITECTURE = ('widths', 'layers', 'vae_widths', 'latent_channels', 'text_width')
"""Options that count where the weights start at random: `init` brings its own."""
OF_BRANCH = ('condition', 'label_set')
"""Options of a training of the ControlNet; they came later, and decide nothing without it."""


@dataclass
class PretrainingOptions:
    """Settings of a training from scratch; every field is a flag of ``mmdiff2in1 pretrain``.

    Attributes:
        images: Folder of images.
        captions: JSONL with a caption per image, or None.
        out: Where the finished diffusers folder goes.
        work_dir: Logs, checkpoints, sample grids; None: ``work_dirs/pretraining/<name of out>``.
        size: Image height and width in pixels.
        widths: Channels of the U-Net's levels, fine to coarse; all but the finest attend to the tokens.
        layers: Residual layers per level of the U-Net.
        vae_widths: Channels of the autoencoder's levels; each but the last halves the resolution.
        latent_channels: Channels of the latent.
        text_width: Width of the text encoder and of the cross-attention.
        vae_iters, iters: Iterations of the two stages; ``vae_iters=0`` keeps the autoencoder of ``init`` as it is.
        batch_size: Per process.
        lr, vae_lr: Peak learning rates.
        lr_decay: Last share of a stage over which its learning rate falls, by a cosine; before it the rate stays at
            its peak, so that a run that stops early is of use.
        validation: Images held out for validation.
        val_interval: Iterations between validations, each with a sample grid.
        condition: Task whose label maps a ControlNet learns to follow; then it alone is trained, for ``iters``, and
            the rest of ``init`` stays as it is.
        labels: Folder of these label maps, a PNG of the same name for each image.
        label_set: Data set that gives classes their colours, see ``stages.synthesis.condition``.
        decoder_only: Train the decoder of the autoencoder of ``init``, for ``vae_iters``, and nothing else: latents and
            denoiser stay what they are.
        init: Diffusers folder, or ``builtin:scenes``, to start from; its architecture and vocabulary then count.
        seed: Of weights, order and noise.
        bf16: bfloat16 autocast, where the device computes in it.
        resume: Continue an unfinished stage from its last checkpoint in ``work_dir``.
    """

    images: str
    out: str
    captions: str | None = None
    work_dir: str | None = None
    size: tuple[int, int] = (64, 64)
    widths: tuple[int, ...] = (64, 96, 128)
    layers: int = 1
    vae_widths: tuple[int, ...] = (16, 32, 96)
    latent_channels: int = 16
    text_width: int = 96
    vae_iters: int = 2000
    iters: int = 20000
    batch_size: int = 32
    lr: float = 1e-3
    vae_lr: float = 2e-3
    lr_decay: float = 1.0
    validation: int = 256
    val_interval: int = 1000
    init: str | None = None
    decoder_only: bool = False
    condition: str | None = None
    labels: str | None = None
    label_set: str = 'ScenesDataset'
    seed: int = 0
    bf16: bool = True
    resume: bool = False


def diffusion_config(options: PretrainingOptions, words: list[str], max_length: int) -> dict:
    """Configuration for :meth:`LatentDiffusion.from_config` of the architecture that the options describe."""
    levels = len(options.widths)
    attending = levels - 1
    return dict(
        vae=dict(
            block_out_channels=options.vae_widths,
            latent_channels=options.latent_channels,
            layers_per_block=1,
            down_block_types=('DownEncoderBlock2D',) * len(options.vae_widths),
            up_block_types=('UpDecoderBlock2D',) * len(options.vae_widths),
            norm_num_groups=8,
            mid_block_add_attention=False,
            sample_size=options.size[0],
            scaling_factor=1.0,
        ),
        unet=dict(
            sample_size=options.size[0] // 2 ** (len(options.vae_widths) - 1),
            in_channels=options.latent_channels,
            out_channels=options.latent_channels,
            block_out_channels=options.widths,
            layers_per_block=options.layers,
            norm_num_groups=16,
            down_block_types=('DownBlock2D',) + ('CrossAttnDownBlock2D',) * attending,
            up_block_types=('CrossAttnUpBlock2D',) * attending + ('UpBlock2D',),
            cross_attention_dim=options.text_width,
            attention_head_dim=4,
        ),
        text_encoder=dict(
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=3 * options.text_width,
            hidden_act='gelu',
        ),
        scheduler=dict(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule='scaled_linear',
            prediction_type='v_prediction',
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        words=words,
        max_length=max_length,
    )
