"""LatentDiffusion: VAE, U-Net, text encoder and noise schedule as one module; the border to diffusers.

B, 3, H, W: RGB in [-1, 1]; B, c, h, w: latents; B, L, D: tokens.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from mmdiff2in1.core.digest import add_tensors

from .architectures import ARCHITECTURES
from .attention import install_collecting_attention
from .caption_flaws import CaptionFlaws, caption_flaws
from .controlnet import check_controlnet, read_controlnet
from .creation import create, planned_grid
from .denoising import denoising_errors
from .diffusers_folder import read_folder, write_folder
from .features import check_wanted, unet_features
from .interfaces import Creation, Features
from .latent_model import LatentModel
from .ldm_file import read_ldm_file
from .parts import Parts
from .schedule import SCHEDULE_FIELDS, NoiseSchedule
from .taps import Block, check_layout, freeze_unread, last_read, ldm_blocks, vpd_taps
from .text import CaptionEncoder
from .tokenizer import tokenizer_of
from .tokenizer_folder import foreign_vocabulary
from .weights import resolve_weights

CONFIG_PARTS = ('vae', 'unet', 'text_encoder', 'scheduler', 'words', 'max_length')
BRANCH = 'controlnet'
BRANCH_FIELDS = ('controlnet_conditioning_channel_order', 'global_pool_conditions')


class LatentDiffusion(LatentModel):
    """A text-conditioned latent diffusion model of the Stable Diffusion 1.x / 2.x layout.

    Build one with :meth:`from_pretrained` or :meth:`from_config`.

    Args:
        vae: Image autoencoder.
        unet: Denoiser; its attention is replaced by a collecting one.
        text: Text encoder with tokenizer.
        schedule: Noise schedule.
        controlnet: Shows the U-Net pictures, see :func:`.creation.create`; None: it cannot be shown any.

    Raises:
        ValueError: The parts do not fit each other, or the U-Net is of another layout.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        text: CaptionEncoder,
        schedule: NoiseSchedule,
        controlnet: ControlNetModel | None = None,
    ):
        super().__init__()
        _check_fit(vae, unet, text)
        check_layout(unet)
        install_collecting_attention(unet)
        self.vae, self.unet, self.text, self.schedule = vae, unet, text, schedule
        self.controlnet: ControlNetModel | None = None
        if controlnet is not None:
            self.add_controlnet(controlnet)
        self.eval()

    def add_controlnet(self, controlnet: ControlNetModel) -> None:
        """From now on :meth:`create` takes conditions; raises ValueError for a ControlNet of another model."""
        check_controlnet(controlnet, self.unet, self.vae)
        install_collecting_attention(controlnet)
        self.controlnet = controlnet.eval()

    @staticmethod
    def check(path: str | Path) -> Path:
        """The folder or the file, complete, see :func:`.resolve_weights`."""
        return resolve_weights(path)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, dtype: torch.dtype = torch.float32, controlnet: str | Path | None = None
    ) -> 'LatentDiffusion':
        """Loads weights from disk; nothing is downloaded.

        Args:
            path: A diffusers folder (``vae/ unet/ text_encoder/ tokenizer/ scheduler/``, ``controlnet/`` if it has
                one), one ``.safetensors`` or ``.ckpt`` file of Stable Diffusion 1.x or 2.x in its original layout, or
                ``builtin:scenes``.
            dtype: Type of the parameters.
            controlnet: Folder of another ControlNet, see :func:`.read_controlnet`; None: the one in ``controlnet/``.

        Raises:
            FileNotFoundError: The path, or a part of the folder, does not exist.
            ValueError: A file is damaged; keys are missing from a part, or do not belong to it; the parts do not fit
                each other.
        """
        place = cls.check(path)
        parts = (read_folder if place.is_dir() else read_ldm_file)(place, dtype)
        text = CaptionEncoder(parts.text_encoder, parts.tokenizer)
        own = place / BRANCH if (place / BRANCH).is_dir() else None
        branch = controlnet or own
        shown = None if branch is None else read_controlnet(branch, dtype)
        try:
            return cls(parts.vae, parts.unet, text, NoiseSchedule(parts.scheduler), shown)
        except ValueError as error:
            raise ValueError(f'{place}: {error}') from error

    @classmethod
    def from_config(cls, config: dict) -> 'LatentDiffusion':
        """Random weights from ``dict(vae=…, unet=…, text_encoder=…, scheduler=…, words=[…], max_length=…)``.

        The first four are constructor arguments of AutoencoderKL, UNet2DConditionModel, CLIPTextConfig and of a
        diffusers scheduler; the tokenizer is made from ``words``, or is the one of Stable Diffusion 1.x (``clip``) or
        2.x (``open_clip``). The text width follows from the U-Net's ``cross_attention_dim``.
        A ``controlnet`` may be added, a dict of arguments of ControlNetModel.from_unet.
        ``dict(architecture='stable-diffusion-1.5')`` stands for a published one, see :mod:`.architectures`.

        Raises:
            ValueError: A part is missing, or one is not known.
        """
        config = _component_configs(config)
        tokenizer = tokenizer_of(config['words'], config['max_length'])
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=config['max_length'],
            hidden_size=config['unet']['cross_attention_dim'],
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **config['text_encoder'],
        )
        vae, unet = AutoencoderKL(**config['vae']), UNet2DConditionModel(**config['unet'])
        encoder = CaptionEncoder(CLIPTextModel(text), tokenizer)
        branch = None if BRANCH not in config else ControlNetModel.from_unet(unet, **config[BRANCH])
        return cls(vae, unet, encoder, NoiseSchedule(config['scheduler']), branch)

    def save_folder(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Writes a diffusers folder (safetensors), readable by :meth:`from_pretrained` and by diffusers' pipelines.

        The parameters are stored as ``dtype`` (default: their own); the module itself keeps its type.
        """
        self.check_creates()
        encoder, tokenizer = self.text.encoder, self.text.tokenizer
        parts = Parts(self.vae, self.unet, encoder, tokenizer, self.schedule.config, self.controlnet)
        write_folder(parts, Path(path), dtype)

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""
        return self.downscale * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def takes_conditions(self) -> bool:
        """True if there is a ControlNet."""
        return self.controlnet is not None

    @property
    def taps(self) -> dict[str, Block]:
        """Blocks of the U-Net by their LDM names, see :func:`.ldm_blocks`."""
        return ldm_blocks(self.unet)

    @property
    def tap_presets(self) -> dict[str, tuple[str, ...]]:
        """``vpd``: one tap per decoder level; ``all``."""
        return {'vpd': vpd_taps(self.unet), 'all': tuple(self.taps)}

    @property
    def class_text(self) -> CaptionEncoder:
        """The text encoder: these U-Nets can attend to one token per class (VPD)."""
        return self.text

    @property
    def denoiser(self) -> UNet2DConditionModel:
        """The U-Net."""
        return self.unet

    def check_wanted(self, taps: Collection[str], map_levels: Collection[int]) -> None:
        """Raises ValueError for taps that the U-Net does not have, and levels at which it attends to no tokens."""
        check_wanted(self.unet, taps, map_levels)

    @property
    def time_width(self) -> int:
        """W, numbers that the U-Net makes of a timestep; :meth:`features` takes (B, W) in the place of timesteps."""
        return self.unet.time_embedding.linear_2.out_features

    def train_read(
        self, taps: Collection[str], map_levels: Collection[int], output: bool = False, timesteps: bool = True
    ) -> None:
        """Gives the gradient to the U-Net up to the last tap, and takes it from what lies behind.

        Args:
            taps: Those that are read.
            map_levels: Levels whose attention maps are read.
            output: Its output is read too: then nothing lies behind.
            timesteps: It is told timesteps; False: their embeddings, and its own are left alone.

        Raises:
            ValueError: Attention maps are read behind the last tap.
        """
        last = last_read(self.taps, taps, map_levels)
        if last not in taps:
            # The values that this layer's attention reads out would get no gradient, which DDP refuses.
            raise ValueError(
                f'attention maps are read up to block {last}, behind the last tap; add a tap there to train'
            )
        self.unet.requires_grad_(True)
        if not output:
            freeze_unread(self.unet, last)
        if not timesteps:
            self.unet.time_embedding.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the U-Net lives."""
        return self.unet.device

    def encode_text(self, captions: list[str]) -> Tensor:
        """Captions → tokens (B, L, D); the empty caption is the unconditional one."""
        self.check_creates()
        return self.text(self.text.token_ids(captions))

    def encode_prompt(self, captions: list[str]) -> tuple[Tensor, None]:
        """Tokens (B, L, D); these U-Nets take no pooled vector."""
        return self.encode_text(captions), None

    def features(self, z: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None = None, **wanted) -> Features:
        """Inner features of one U-Net call, see :func:`~mmdiff2in1.generators.features.unet_features`.

        ``t`` may be embeddings (B, W), see :attr:`time_width`. ``pooled`` is None: these U-Nets take no such vector.
        """
        t = t.to(self.unet.dtype) if t.is_floating_point() and t.ndim == 2 else t
        return unet_features(self.unet, z.to(self.unet.dtype), t, context.to(self.unet.dtype), **wanted)

    def denoising_errors(self, z0: Tensor, noise: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """Squared errors (B, c, h, w), see :func:`.denoising.denoising_errors`."""
        with torch.no_grad():
            context = self.encode_text(captions)
        return denoising_errors(self.unet, self.schedule, z0, noise, t, context)

    def create(
        self, images: Tensor | None = None, *, captions: Sequence[str], seeds: Sequence[int], **options
    ) -> Creation:
        """Creates images, see :func:`~mmdiff2in1.generators.creation.create`."""
        self.check_creates()
        return create(self, images, captions, seeds, **options)

    def planned_timesteps(self, T: int, num_calls: int, grid: str = 'even', solver: str = 'ddim') -> list[int]:
        """The grid that :meth:`create` walks; raises ValueError for a grid or solver that does not exist."""
        return planned_grid(T, num_calls, grid, solver, self.T_max).timesteps

    def caption_flaws(self, captions: Sequence[str]) -> CaptionFlaws:
        """Parts of the captions that the text encoder never sees."""
        return caption_flaws([self.text.tokenizer], captions)

    def weights_hash(self) -> str:
        """SHA-256 over all parameters and buffers, names and types included; part of a sample's recipe.

        What decides the meaning of these numbers counts as well: the noise schedule, the latent's scale, and a
        vocabulary of CLIP's size that is not CLIP's, see :func:`.foreign_vocabulary`.
        """
        meaning = {name: self.schedule.config[name] for name in SCHEDULE_FIELDS}
        meaning['scaling_factor'] = self.vae.config.scaling_factor
        if self.vae.config.shift_factor:
            meaning['shift_factor'] = self.vae.config.shift_factor
        if self.controlnet is not None:
            meaning |= {name: self.controlnet.config[name] for name in BRANCH_FIELDS}
        digest = hashlib.sha256(json.dumps(meaning).encode())
        add_tensors(digest, self.state_dict())
        if self.creates:
            digest.update(foreign_vocabulary(self.text.tokenizer).encode())
        return digest.hexdigest()


def _component_configs(config: dict) -> dict:
    if set(config) == {'architecture'}:
        if config['architecture'] not in ARCHITECTURES:
            raise ValueError(f'unknown architecture {config["architecture"]!r}; known: {", ".join(ARCHITECTURES)}')
        return ARCHITECTURES[config['architecture']]
    if set(config) - {BRANCH} != set(CONFIG_PARTS):
        raise ValueError(
            f'a diffusion config has the parts {", ".join(CONFIG_PARTS)}, or the key architecture alone; found '
            f'{", ".join(config)}'
        )
    return config


def _check_fit(vae: AutoencoderKL, unet: UNet2DConditionModel, text: CaptionEncoder) -> None:
    c, D = vae.config.latent_channels, text.encoder.config.hidden_size
    if not unet.config.in_channels == unet.config.out_channels == c:
        channels = f'{unet.config.in_channels} to {unet.config.out_channels} channels'
        raise ValueError(f'the U-Net maps {channels}, but the VAE has latents of {c} (inpainting U-Nets do not fit)')
    if unet.config.cross_attention_dim != D:
        raise ValueError(f'the U-Net attends to tokens of width {unet.config.cross_attention_dim}, the text has {D}')
