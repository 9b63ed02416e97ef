"""DiffusionBackbone: a latent diffusion model as a plain mmseg backbone.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent; K classes; level l: features at (h / 2^l, w / 2^l), fine to coarse.
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...diffusion import Creation, Features, LatentDiffusion, ldm_blocks, vpd_taps
from .feature_config import feature_config, freeze_unread
from .frozen_features import FrozenFeatures
from .text_adapter import TextAdapter

REGIMES = ('frozen', 'finetune')


@MODELS.register_module()
class DiffusionBackbone(BaseModule):
    """Features of the U-Net, one map per level, fine to coarse, with class attention maps appended (VPD).

    Any input size works: images are padded to what the U-Net needs and the features are cropped back to
    ``ceil(H / stride)``. The data preprocessor must give RGB in [-1, 1] (mean = std = 127.5).

    Args:
        diffusion: A diffusers folder, ``builtin:scenes``, or a dict of random-weight components
            (:meth:`LatentDiffusion.from_config`).
        classes: Class names for the prompt, in label order.
        feature: ``dict(preset=…, field=…)``, see :mod:`.feature_config`.
        regime: ``frozen``: nothing of the diffusion model is trained. ``finetune``: the U-Net is.
        text_adapter: VPD's trainable adapter on the class tokens.
        bf16: Run the frozen part under bfloat16 autocast; ``auto``: where the device computes in bfloat16 (results then
            differ between machines in the third digit).

    Raises:
        ValueError: Unknown regime or feature field, or no classes where the prompt needs them.
    """

    def __init__(
        self,
        diffusion: str | dict,
        classes: list[str] | None = None,
        feature: dict | None = None,
        regime: str = 'frozen',
        text_adapter: bool = False,
        bf16: bool | str = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if regime not in REGIMES:
            raise ValueError(f'unknown regime {regime!r}; known: {", ".join(REGIMES)}')
        self.feature, self.regime, self.bf16 = feature_config(**(feature or {})), regime, bf16
        load = LatentDiffusion.from_config if isinstance(diffusion, dict) else LatentDiffusion.from_folder
        self.diffusion = load(diffusion).requires_grad_(False)
        blocks = ldm_blocks(self.diffusion.unet)
        presets = {'vpd': vpd_taps(self.diffusion.unet), 'all': tuple(blocks)}
        self.taps = presets[self.feature.taps] if isinstance(self.feature.taps, str) else self.feature.taps
        if regime == 'finetune':
            self.diffusion.unet.requires_grad_(True)
            freeze_unread(self.diffusion.unet, max(self.taps, key=list(blocks).index))
        self.register_buffer('tokens', self._prompt_tokens(classes), persistent=False)
        self.text_adapter = TextAdapter(self.tokens.shape[-1]) if text_adapter else None
        if text_adapter and regime == 'frozen':
            print_log('the text adapter stands in front of the frozen U-Net: θ_C and θ_E share the VAE only', 'current')
        self._levels = sorted({blocks[name].level for name in self.taps})
        maps = dict.fromkeys(self.feature.map_levels, self.tokens.shape[0])
        self.out_channels = [
            sum(blocks[name].channels for name in self.taps if blocks[name].level == level) + maps.get(level, 0)
            for level in self._levels
        ]

    def _prompt_tokens(self, classes: list[str] | None) -> Tensor:
        """(L, D) tokens that every image is shown with."""
        if self.feature.prompt == 'empty':
            with torch.no_grad():
                return self.diffusion.encode_text([''])[0]
        if not classes:
            raise ValueError("prompt='class_names' needs classes=[…] (the dataset's METAINFO['classes']), found none")
        return self.diffusion.text.class_tokens(list(classes))

    def train(self, mode: bool = True) -> 'DiffusionBackbone':
        """Trains what is trained; frozen parts stay in eval mode."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that no training changes; θ_C and θ_E hold the same objects."""
        if self.regime == 'frozen':
            return [self.diffusion]
        return [self.diffusion.vae, self.diffusion.text, self.diffusion.schedule]

    def frozen_features(self, images: Tensor) -> FrozenFeatures:
        """Everything before the first trainable parameter: the whole pyramid, or the latents."""
        size = tuple(images.shape[-2:])
        with torch.no_grad(), self._autocast(images):
            frozen = FrozenFeatures(size, latents=self._latents(images))
            whole = self.regime == 'frozen' and self.text_adapter is None
            return FrozenFeatures(size, pyramid=self._perceive(frozen)) if whole else frozen

    def created_features(self, creation: Creation, size: tuple[int, int], read: str = 'perceive') -> FrozenFeatures:
        """Of images that have just been created, without going through their pixels.

        Args:
            creation: Latents, and for ``released`` the features of the last denoising call.
            size: Image height and width.
            read: ``perceive``: one extra perception forward of the final latent under this feature config.
                ``released``: what the last denoising call showed (another timestep, prompt and latent).
        """
        if read == 'released':
            if creation.last is None:
                raise ValueError('the last denoising call was not recorded; pass record=backbone.wanted() to create()')
            return FrozenFeatures(size, pyramid=self._pyramid(creation.last, size))
        latents = creation.latents
        if not self.feature.latent_scale:
            latents = latents / self.diffusion.vae.config.scaling_factor
        return FrozenFeatures(size, latents=self._noised(latents))

    def wanted(self) -> dict:
        """Arguments of :meth:`LatentDiffusion.features` that this backbone reads."""
        return dict(taps=self.taps, map_levels=self.feature.map_levels)

    def forward(self, inputs: Tensor | FrozenFeatures) -> tuple[Tensor, ...]:
        """Images, or what :meth:`frozen_features` made of them, → feature maps, fine to coarse."""
        frozen = self.frozen_features(inputs) if isinstance(inputs, Tensor) else inputs
        if frozen.pyramid is not None:
            return frozen.pyramid
        trained = self.regime == 'finetune' or self.text_adapter is not None
        with nullcontext() if trained else torch.no_grad():
            return self._perceive(frozen)

    def _autocast(self, images: Tensor):
        wanted = _computes_bf16(images.device) if self.bf16 == 'auto' else self.bf16
        return torch.autocast(images.device.type, torch.bfloat16) if wanted else nullcontext()

    def _generator(self, device: torch.device) -> torch.Generator | None:
        """Fixed draws in eval mode, so that a prediction depends on its image alone."""
        return None if self.training else torch.Generator(device).manual_seed(0)

    def _latents(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        multiple = self.diffusion.multiple
        right, bottom = -width % multiple, -height % multiple
        if right or bottom:
            images = F.pad(images, (0, right, 0, bottom), mode='replicate')
        latents = self.diffusion.encode(
            images, self.feature.posterior, self.feature.latent_scale, self._generator(images.device)
        )
        return self._noised(latents)

    def _noised(self, latents: Tensor) -> Tensor:
        if not self.feature.noise:
            return latents
        noise = torch.empty_like(latents).normal_(generator=self._generator(latents.device))
        return self.diffusion.schedule.add_noise(latents, noise, self._timesteps(latents))

    def _timesteps(self, latents: Tensor) -> Tensor:
        return torch.full((len(latents),), self.feature.timestep, device=latents.device)

    def _perceive(self, frozen: FrozenFeatures) -> tuple[Tensor, ...]:
        tokens = self.tokens if self.text_adapter is None else self.text_adapter(self.tokens)
        latents = frozen.latents
        context = tokens.expand(len(latents), -1, -1)
        features = self.diffusion.features(latents, self._timesteps(latents), context, **self.wanted())
        return self._pyramid(features, frozen.size)

    def _pyramid(self, features: Features, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Groups taps and maps by level and crops the padding away."""
        blocks, pyramid = ldm_blocks(self.diffusion.unet), []
        for level in self._levels:
            maps = [features.taps[name] for name in self.taps if blocks[name].level == level]
            if level in features.maps:
                maps.append(features.maps[level].to(maps[0].dtype))
            stride = self.diffusion.downscale * 2**level
            height, width = (math.ceil(side / stride) for side in size)
            # Contiguous: GroupNorm's backward crashes on channels_last inputs without gradient on CPUs (torch 2.13).
            pyramid.append(torch.cat(maps, 1)[..., :height, :width].float().contiguous())
        return tuple(pyramid)


def _computes_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is native: elsewhere it is emulated, many times slower than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == 'cpu' and torch.ops.mkldnn._is_mkldnn_bf16_supported()
