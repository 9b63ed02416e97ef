"""A segmentor whose U-Net goes on denoising while it learns to perceive, so that one set of weights does both jobs.

B samples; H, W the padded crop; c, h, w: latent.
"""

from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ..backbones import DiffusionBackbone, FrozenFeatures
from ..image_region import image_region

PROMPTS = ('caption', 'empty')


@MODELS.register_module()
class DenoisingEncoderDecoder(EncoderDecoder):
    """mmseg's EncoderDecoder over a fine-tuned :class:`.DiffusionBackbone`, with a denoising loss on real images.

    A U-Net that is tuned for perception forgets to denoise. Here the objective that it was pretrained with stands
    beside the perception loss (not in the paper). What lies behind the last tap of the backbone stays as it was
    pretrained. Synthetic samples have no denoising loss: a model that learns from its own images drifts. The U-Net
    learns to create what it is shown: crops under the caption of the whole image, in the colours that a
    PhotoMetricDistortion gave them.

    Args:
        denoising_weight: Weight of the mean squared error, at least 0.
        prompt: ``caption``: the metainfo `caption` of each sample (`LoadCaption` in the pipeline, and the key among
            `meta_keys` of `PackSegInputs`); ``empty``: none.
        drop_caption: Share of captions that are emptied, which classifier-free guidance needs.
        **segmentor: Arguments of EncoderDecoder.

    Raises:
        ValueError: A setting out of its range, or a backbone that does not train a U-Net on latents without noise,
            or keeps no text encoder.
    """

    def __init__(
        self, *, denoising_weight: float = 1.0, prompt: str = 'caption', drop_caption: float = 0.1, **segmentor: Any
    ) -> None:
        super().__init__(**segmentor)
        if prompt not in PROMPTS:
            raise ValueError(f'unknown prompt {prompt!r} of the denoising loss; known: {", ".join(PROMPTS)}')
        if not (denoising_weight >= 0 and 0 <= drop_caption <= 1):
            raise ValueError(
                f'denoising_weight={denoising_weight}, drop_caption={drop_caption}: expected at least 0, and 0 … 1'
            )
        backbone = self.backbone
        if not isinstance(backbone, DiffusionBackbone) or backbone.regime != 'finetune' or backbone.feature.noise:
            raise ValueError(
                'the denoising loss keeps a U-Net from forgetting what it was pretrained for; expected a '
                "DiffusionBackbone with regime='finetune' and no noise in its feature config. Use EncoderDecoder else"
            )
        if not backbone.diffusion.creates:
            raise ValueError('the denoising loss encodes captions; set creation=True of the backbone')
        self.denoising_weight, self.prompt, self.drop_caption = denoising_weight, prompt, drop_caption

    def loss(self, inputs: Tensor | FrozenFeatures, data_samples: list) -> dict[str, Any]:
        """mmseg's losses and `loss_denoising`; the latents are encoded once for both."""
        frozen = self._frozen(inputs)
        return {**super().loss(frozen, data_samples), **self.denoising_loss(frozen, data_samples)}

    def denoising_loss(self, inputs: Tensor | FrozenFeatures, data_samples: list) -> dict[str, Tensor]:
        """`loss_denoising`: weighted mean of the squared error over the latent cells that no padding touches.

        Raises:
            ValueError: A sample without a caption.
        """
        frozen = self._frozen(inputs)
        errors = self.backbone.denoising_errors(frozen, self._captions(data_samples, len(frozen)))
        inside = _inside(data_samples, errors, self.backbone.diffusion.downscale)
        mean = (errors * inside).sum() / (inside.sum() * errors.shape[1]).clamp(min=1)
        return {'loss_denoising': self.denoising_weight * mean}

    def _frozen(self, inputs: Tensor | FrozenFeatures) -> FrozenFeatures:
        return inputs if isinstance(inputs, FrozenFeatures) else self.backbone.frozen_features(inputs)

    def _captions(self, samples: list, count: int) -> list[str]:
        if self.prompt == 'empty':
            return [''] * count
        missing = [sample.metainfo.get('img_path', i) for i, sample in enumerate(samples) if 'caption' not in sample]
        if missing:
            raise ValueError(
                f"{missing[0]} has no caption; put dict(type='LoadCaption', captions=…) into the pipeline and "
                "'caption' among the meta_keys of PackSegInputs, or choose prompt='empty'"
            )
        dropped = (torch.rand(count) < self.drop_caption).tolist()
        return ['' if drop else sample.caption for sample, drop in zip(samples, dropped, strict=True)]


def _inside(samples: list, errors: Tensor, downscale: int) -> Tensor:
    """(B, 1, h, w): 1 where a latent cell shows nothing but image."""
    mask = torch.zeros(len(errors), 1, *errors.shape[-2:])
    size = errors.shape[-2] * downscale, errors.shape[-1] * downscale
    for row, sample in zip(mask, samples, strict=True):
        rows, columns = (
            slice(-(-side.start // downscale), side.stop // downscale) for side in image_region(sample.metainfo, size)
        )
        row[:, rows, columns] = 1
    return mask.to(errors.device)
