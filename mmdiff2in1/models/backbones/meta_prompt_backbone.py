"""MetaPromptBackbone: a U-Net under learned tokens, in several passes; its features by what the tokens say.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent; P passes; N prompts of width D.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from mmdiff2in1.generators import Creation, LatentDiffusion

from .diffusion_backbone import DiffusionBackbone
from .feature_config import FeatureConfig
from .frozen_features import FrozenFeatures
from .meta_prompts import MetaPrompts
from .rearrangement import REARRANGEMENTS

SIZES = ('padded', 'stretched')


@MODELS.register_module()
class MetaPromptBackbone(DiffusionBackbone):
    """MetaPrompts (Wan et al. 2023, arXiv 2312.14733) as a plain mmseg backbone.

    N learned tokens stand in the place of a caption: the U-Net attends to them, and its features are compared with them
    afterwards (dot products), so that a feature map has one channel per prompt. The U-Net runs P times: each later pass
    is shown the output of the one before, that is what the U-Net's last norm and convolution make of its finest
    features, under a time embedding of its own. Nothing of it is noised, and no words are needed.

    Prompts, time embeddings and the layers of the comparison are trained in both regimes. The gradient goes through all
    passes. θ_C and θ_E share the VAE, and in the regime ``frozen`` the U-Net's weights too.

    Args:
        diffusion: See :class:`.DiffusionBackbone`; a Stable Diffusion 1.x or 2.x.
        num_prompts: N.
        passes: P, at least 1.
        shared: All passes are shown the same prompts, see :class:`.MetaPrompts`.
        rearrangement: ``each``: every level of the U-Net, doubled: strides 4, 8, 16, 32 on Stable Diffusion.
            ``joined``: one map at the latent's stride. See :mod:`.rearrangement`.
        size: How images come to a size that the U-Net takes (on Stable Diffusion multiples of 64). ``padded``: their
            border is repeated, and maps are cropped back. ``stretched``: bilinearly, always to the next larger one (480
            → 512, 512 → 576), and maps are shrunk back: MetaPrompts' depth.
        feature: ``dict(preset='meta_prompts', field=…)``, see :mod:`.feature_config`; of its fields ``posterior``,
            ``latent_scale`` and ``noise``, of its one timestep, have an effect here.
        regime, bf16, gradient_checkpointing, creation: See :class:`.DiffusionBackbone`.

    Attributes:
        out_channels: N for every map.
        strides: Of the maps in pixels.

    Raises:
        ValueError: An unknown setting, one that learned tokens leave no choice of, or a model that is no Stable
            Diffusion 1.x or 2.x.
    """

    diffusion: LatentDiffusion

    def __init__(
        self,
        diffusion: str | dict,
        num_prompts: int = 150,
        passes: int = 3,
        shared: bool = True,
        rearrangement: str = 'each',
        size: str = 'padded',
        feature: dict | None = None,
        regime: str = 'frozen',
        bf16: bool | str = False,
        gradient_checkpointing: bool = False,
        creation: bool = True,
        init_cfg: dict | None = None,
    ):
        if rearrangement not in REARRANGEMENTS or size not in SIZES or passes < 1 or num_prompts < 1:
            raise ValueError(
                f'rearrangement={rearrangement!r}, size={size!r}, passes={passes}, num_prompts={num_prompts}; expected '
                f'one of {", ".join(REARRANGEMENTS)}; of {", ".join(SIZES)}; and at least one pass and prompt'
            )
        super().__init__(
            diffusion,
            feature=dict(preset='meta_prompts') | (feature or {}),
            regime=regime,
            bf16=bf16,
            gradient_checkpointing=gradient_checkpointing,
            init_cfg=init_cfg,
        )
        model = self.diffusion
        if not isinstance(model, LatentDiffusion):
            raise ValueError(
                f'MetaPromptBackbone found a {type(model).__name__}, whose denoiser it cannot run several times; '
                'expected a Stable Diffusion 1.x or 2.x'
            )
        _check_feature(self.feature)
        if regime == 'finetune':
            model.train_read(self.taps, (), output=passes > 1, timesteps=False)
        self.size = size
        width = model.class_text.width
        self.prompts = MetaPrompts(num_prompts, width, model.time_width, passes, shared)
        channels = [model.taps[name].channels for name in reversed(self.taps)]
        self.rearrangement = REARRANGEMENTS[rearrangement](channels, width)
        self.strides = [int(model.downscale / scale) for scale in self.rearrangement.scales]
        self.out_channels = [num_prompts] * len(self.strides)
        if not creation:
            model.keep_perception()

    def train(self, mode: bool = True) -> 'MetaPromptBackbone':
        """See :class:`.DiffusionBackbone`."""
        super().train(mode)
        self.prompts.train(mode)
        self.rearrangement.train(mode)
        return self

    def created_features(self, creation: Creation, size: tuple[int, int], read: str = 'perceive') -> FrozenFeatures:
        """See :class:`.DiffusionBackbone`; raises ValueError for another reading than ``perceive``."""
        if read != 'perceive':
            raise ValueError(
                "the last denoising call attended to a caption, not to the learned prompts; set created='perceive'"
            )
        return super().created_features(creation, size)

    def _add_prompt(self, classes: str | Sequence[str] | None, class_embeddings: str | None, text_adapter: bool) -> int:
        """Prompts are of no class, and are made when the model is known to take them."""
        self.text_adapter = None
        return 0

    @property
    def _trains(self) -> bool:
        return True

    def _padded(self, images: Tensor) -> Tensor:
        if self.size == 'padded':
            return super()._padded(images)
        # Stretched are whole cells of the latent, so that maps can be cropped to what the image covers.
        cell, multiple = self.diffusion.downscale, self.diffusion.multiple
        images = F.pad(images, (0, -images.shape[-1] % cell, 0, -images.shape[-2] % cell), mode='replicate')
        larger = [(side // multiple + 1) * multiple for side in images.shape[-2:]]
        return F.interpolate(images, larger, mode='bilinear', align_corners=False)

    def _perceive(self, frozen: FrozenFeatures) -> tuple[Tensor, ...]:
        z, last = frozen.latents, len(self.prompts) - 1
        for i in range(len(self.prompts)):
            prompts, time = self.prompts(i)
            context, time = prompts.expand(len(frozen), -1, -1), time.expand(len(frozen), -1)
            taps = self.taps if i == last else ()
            seen = self.diffusion.features(z, time, context, taps=taps, need_output=i < last)
            z = z if i == last else seen.output
        height, width = (side * self.diffusion.downscale for side in z.shape[-2:])
        levels = self._pyramid.of_denoiser(seen, frozen.size if self.size == 'padded' else (height, width))
        maps = self.rearrangement(levels, prompts)
        return tuple(self._fitted(each, frozen.size, stride) for each, stride in zip(maps, self.strides, strict=True))

    def _fitted(self, maps: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        """Of what the image covers."""
        rows, columns = (math.ceil(side / stride) for side in size)
        maps = maps.float()
        if self.size == 'stretched':
            return F.interpolate(maps, (rows, columns), mode='bilinear', align_corners=False)
        return maps[..., :rows, :columns].contiguous()


def _check_feature(feature: FeatureConfig) -> None:
    """Raises ValueError for fields that have no meaning under learned prompts."""
    fixed = dict(prompt='learned', taps='vpd', tokens='all', padding='cropped')
    found = {name: value for name, value in fixed.items() if getattr(feature, name) != value}
    if len(feature.timesteps) > 1:
        found['timestep'] = 'one timestep'
    if found:
        told = ', '.join(f'{name}={getattr(feature, name)!r}' for name in found)
        raise ValueError(f'the feature config of a MetaPromptBackbone has {told}; expected {found}')
