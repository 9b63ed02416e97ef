"""DiffusionBackbone: a latent diffusion model as a plain mmseg backbone.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent; K classes; n timesteps; level l: features at (h / 2^l, w / 2^l), fine to
coarse.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.core.bf16 import bf16_autocast
from mmdiff2in1.generators import Creation
from mmdiff2in1.generators.interfaces import Perceiver
from mmdiff2in1.generators.loading import load_perceiver

from .class_prompt import shown_prompt, shown_tokens
from .detail_path import DetailPath, ImageStem
from .feature_config import feature_config, resolved_taps
from .frozen_features import FrozenFeatures
from .input_range import check_range
from .pyramid import Pyramid
from .shown_latents import noised, padded, shown_latents
from .text_adapter import TextAdapter
from .timesteps import features_at

REGIMES = ('frozen', 'finetune')
OF_CREATION = ('text', 'vae.decoder', 'vae.post_quant_conv')
"""Parts of the model that perception does not need."""


@MODELS.register_module()
class DiffusionBackbone(BaseModule):
    """Features of a denoiser, one map per level, fine to coarse, with class attention maps appended (VPD).

    Any input size works: images are padded to what the model needs and the features are cropped back to
    ``ceil(H / stride)``. The data preprocessor must give RGB in [-1, 1] (mean = std = 127.5).

    Args:
        diffusion: A diffusers folder (Stable Diffusion 1.x, 2.x or 3), one file of weights, ``builtin:scenes``, or a
            dict of random-weight components, see :func:`.load_perceiver`.
        classes: Class names for the prompt, in label order; or the name of a registered dataset that has them.
        feature: ``dict(preset=…, field=…)``, see :mod:`.feature_config`. With ``tokens='category'`` a segmentor must
            say what each image shows: :class:`.SceneConditionedEstimator`.
        regime: ``frozen``: nothing of the diffusion model is trained. ``finetune``: its denoiser is.
        text_adapter: VPD's trainable adapter on the class tokens.
        bf16: Run the frozen part under bfloat16 autocast; ``auto``: where the device computes in bfloat16 (results then
            differ between machines in the third digit).
        class_embeddings: File of ``mmdiff2in1 class-embeddings``, or a ``.pth`` tensor (K, D) as VPD published; else
            they are computed from ``classes`` once, and kept.
        gradient_checkpointing: Compute the denoiser's layers anew in the backward pass instead of keeping their inside:
            less memory, more time, the same gradients. Without effect where it needs none.
        detail: ``dict(encoder=True, stem=16)``: levels finer than the latent's before the others, see
            :class:`.DetailPath`. The encoder's are frozen; a stem is trained in both regimes.
        creation: Keep what only creates. False, as in the configs of this package: the text encoder and the VAE's
            decoder are let go once the tokens of the classes are made. They are then in no memory and in no checkpoint
            (one that holds them is loaded without), and who is asked to create takes them from `diffusion` again. A
            `DenoisingEncoderDecoder`, which encodes captions, needs them.
        diffusion_sha256: What ``weights_hash()`` of `diffusion` has to be, where its frozen weights are not stored with
            what was trained on them; None: anything.

    Attributes:
        out_channels: Channels of the feature maps, fine to coarse: of a level of the denoiser those of its taps, times
            n, and K where its maps are appended; then those of a stem at the same stride.
        strides: Their strides in pixels.
        source: `diffusion`.
        diffusion_sha256: See there.

    Raises:
        ValueError: Unknown regime or feature field, a timestep, tap or level that the model does not have, no classes
            where the prompt needs them, or other weights than `diffusion_sha256` says.
    """

    def __init__(
        self,
        diffusion: str | dict,
        classes: str | Sequence[str] | None = None,
        feature: dict | None = None,
        regime: str = 'frozen',
        text_adapter: bool = False,
        bf16: bool | str = False,
        class_embeddings: str | None = None,
        gradient_checkpointing: bool = False,
        detail: dict | None = None,
        creation: bool = True,
        diffusion_sha256: str | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if regime not in REGIMES:
            raise ValueError(f'unknown regime {regime!r}; known: {", ".join(REGIMES)}')
        if bf16 not in (True, False, 'auto'):
            raise ValueError(f"bf16 is {bf16!r}, expected True, False or 'auto'")
        self.feature, self.regime, self.bf16 = feature_config(**(feature or {})), regime, bf16
        self.diffusion = load_perceiver(diffusion)
        if diffusion_sha256 is not None:
            _check_weights(self.diffusion, diffusion_sha256, diffusion)
        self._range_checked = False
        self.taps = resolved_taps(self.feature, self.diffusion)
        if regime == 'finetune':
            self.diffusion.train_read(self.taps, self.feature.map_levels)
        if gradient_checkpointing:
            self.diffusion.enable_gradient_checkpointing()
        shown = self._add_prompt(classes, class_embeddings, text_adapter)
        self.detail = None if detail is None else DetailPath(self.diffusion, **detail)
        self._pyramid = Pyramid(self.diffusion, self.feature, self.taps, shown, self.detail)
        self.out_channels, self.strides = self._pyramid.channels, self._pyramid.strides
        self.source, self.diffusion_sha256 = diffusion, diffusion_sha256
        if not creation:
            self.diffusion.keep_perception()

    def train(self, mode: bool = True) -> 'DiffusionBackbone':
        """Trains what is trained; frozen parts are in eval mode from the start and not walked through again."""
        self.training = mode
        if self.regime == 'finetune':
            self.diffusion.denoiser.train(mode)
        if self.text_adapter is not None:
            self.text_adapter.train(mode)
        if self.detail is not None:
            self.detail.train(mode)
        return self

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that no training changes; θ_C and θ_E hold the same objects."""
        if self.regime == 'frozen':
            return [self.diffusion]
        return self.diffusion.other_parts

    def frozen_features(self, images: Tensor | FrozenFeatures) -> FrozenFeatures:
        """Everything before the first trainable parameter: the whole pyramid, or the latents; and images for a stem.

        What already is that is returned as it is: several models may go on from the same features.

        Raises:
            ValueError: The first images that are seen are not in [-1, 1].
        """
        if isinstance(images, FrozenFeatures):
            return images
        if not self._range_checked:
            check_range(images)
            self._range_checked = True
        size = tuple(images.shape[-2:])
        with torch.no_grad(), bf16_autocast(self.bf16, images.device):
            images = self._padded(images)
            latents, levels = shown_latents(self.diffusion, self.feature, images, self.training, self._reads_encoder)
            frozen = FrozenFeatures(size, latents=latents, **self._finer(images, levels, size))
            if self._trains or self.feature.tokens == 'category':
                return frozen
            return FrozenFeatures(size, pyramid=self._perceive(frozen), images=frozen.images)

    def conditioned(self, inputs: Tensor | FrozenFeatures, categories: Sequence[int]) -> FrozenFeatures:
        """Images, or what :meth:`frozen_features` made of them, with the class of each, for ``tokens='category'``.

        Raises:
            ValueError: A class that there is no token of, or another number of them than of images.
        """
        return self.frozen_features(inputs).of_categories(categories, len(self.tokens))

    def created_features(self, creation: Creation, size: tuple[int, int], read: str = 'perceive') -> FrozenFeatures:
        """Of images that have just been created; only levels of a detail path are read from their pixels.

        Args:
            creation: Latents, for a detail path the images, and for ``released`` the features of the last denoising
                call.
            size: Image height and width.
            read: ``perceive``: one extra perception forward of the final latent under this feature config.
                ``released``: what the last denoising call showed (another timestep, prompt and latent).

        Raises:
            ValueError: ``released`` without a recorded call, with class maps (that call knew a caption, no classes), or
                with several timesteps.
        """
        with torch.no_grad(), bf16_autocast(self.bf16, creation.images.device):
            levels = self.diffusion.encode_with_levels(creation.images)[1] if self._reads_encoder else ()
            finer = self._finer(creation.images, levels, size)
        if read == 'released':
            if self.feature.map_levels:
                raise ValueError('the last denoising call attended to a caption, not to classes; set map_levels=()')
            if len(self.feature.timesteps) > 1:
                raise ValueError(
                    f'the last denoising call knew one timestep, this backbone reads {self.feature.timestep}; set one '
                    "timestep, or created='perceive'"
                )
            if creation.last is None:
                raise ValueError('the last denoising call was not recorded; pass record=backbone.wanted() to create()')
            pyramid = (*finer['levels'], *self._pyramid.of_denoiser(creation.last, size))
            return FrozenFeatures(size, pyramid=pyramid, images=finer['images'])
        latents = creation.latents
        if not self.feature.latent_scale:
            latents = self.diffusion.unscaled(latents)
        return FrozenFeatures(size, latents=noised(self.diffusion, self.feature, latents, self.training), **finer)

    def wanted(self) -> dict:
        """Arguments of :meth:`.Perceiver.features` that this backbone reads."""
        return dict(taps=self.taps, map_levels=self.feature.map_levels)

    def forward(self, inputs: Tensor | FrozenFeatures) -> tuple[Tensor, ...]:
        """Images, or what :meth:`frozen_features` made of them, → feature maps, fine to coarse."""
        frozen = self.frozen_features(inputs)
        pyramid = frozen.pyramid
        if pyramid is None:
            if self._trains:
                pyramid = self._perceive(frozen)
            else:
                with torch.no_grad(), bf16_autocast(self.bf16, frozen.device):
                    pyramid = self._perceive(frozen)
        if self._stem is None:
            return pyramid
        return self._pyramid.with_stem(pyramid, self._stem(frozen.images), frozen.size)

    def denoising_errors(self, frozen: FrozenFeatures, captions: list[str]) -> Tensor:
        """How well the denoiser still denoises: squared errors (B, c, h, w) at random timesteps and noise.

        Args:
            frozen: Latents of B images, as :meth:`frozen_features` gives them.
            captions: B captions; an empty one is the unconditional prompt.
        """
        z = frozen.latents.float()
        if not self.feature.latent_scale:
            z = self.diffusion.scaled(z)
        t = torch.randint(self.diffusion.T_max, (len(z),), device=z.device)
        return self.diffusion.denoising_errors(z, torch.randn_like(z), t, captions)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        if not self.diffusion.creates:
            let_go = tuple(f'{prefix}diffusion.{part}.' for part in OF_CREATION)
            for name in [name for name in state_dict if name.startswith(let_go)]:
                state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _add_prompt(self, classes: str | Sequence[str] | None, class_embeddings: str | None, text_adapter: bool) -> int:
        """Registers the tokens that the denoiser attends to; returns the number of classes that it has tokens of."""
        tokens, pooled = shown_prompt(self.diffusion, self.feature.prompt, classes, class_embeddings)
        # Stored in checkpoints: a model with random weights could not make the same tokens again.
        self.register_buffer('tokens', tokens)
        self.register_buffer('pooled', pooled)
        self.text_adapter = TextAdapter(self.tokens.shape[-1]) if text_adapter else None
        if text_adapter and self.regime == 'frozen':
            print_log('the text adapter stands in front of the denoiser: θ_C and θ_E share the VAE only', 'current')
        return len(self.tokens)

    def _padded(self, images: Tensor) -> Tensor:
        """Images of any size → of a size that the model takes."""
        return padded(self.diffusion, self.feature, images)

    @property
    def _trains(self) -> bool:
        """True if something behind the latents is trained."""
        return self.regime == 'finetune' or self.text_adapter is not None

    @property
    def _stem(self) -> ImageStem | None:
        return None if self.detail is None else self.detail.stem

    @property
    def _reads_encoder(self) -> bool:
        return self.detail is not None and bool(self.detail.encoder)

    def _finer(self, images: Tensor, levels: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Any]:
        """The detail path's addition to frozen features, from padded images and what the encoder showed of them."""
        wanted = () if self.detail is None else self.detail.kept(levels)
        return dict(levels=self._pyramid.of_encoder(wanted, size), images=None if self._stem is None else images)

    def _perceive(self, frozen: FrozenFeatures) -> tuple[Tensor, ...]:
        tokens = self.tokens if self.text_adapter is None else self.text_adapter(self.tokens)
        context = shown_tokens(tokens, self.feature.tokens, frozen)
        pooled = None if self.pooled is None else self.pooled.expand(frozen.shape[0], -1)
        timesteps, latents = self.feature.timesteps, frozen.latents
        features = features_at(self.diffusion, timesteps, latents, context, pooled, **self.wanted())
        return *frozen.levels, *self._pyramid.of_denoiser(features, frozen.size)


def _check_weights(diffusion: Perceiver, sha256: str, source: str | dict) -> None:
    found = diffusion.weights_hash()
    if found != sha256:
        place = source if isinstance(source, str) else 'the diffusion model'
        raise ValueError(
            f'{place} holds other weights (SHA-256 {found[:12]}…) than this model was trained on ({sha256[:12]}…); '
            'name the diffusion model of its training'
        )
