"""Any encoder-decoder as a denoiser of images: what it learns without labels before it learns with them.

B, 3, H, W: images; r × r: pixels that one output of the head stands for.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pixel_shuffle

LAST = 'conv_seg'
"""mmseg's name of a decode head's last layer."""
HALF_RANGE = 127.5
"""Grey levels; noise is measured in them, so that an image lies in [-1, 1]."""


@MODELS.register_module()
class DenoisingPretraining(BaseModel):
    """Trains a segmentor to see through noise (Brempong et al. 2022, "Denoising Pretraining for Semantic
    Segmentation").

    An image x in [-1, 1] becomes √(1 − σ²) x + σ ε, cut to [-1, 1] as a photograph is, and the whole network, encoder
    and decoder, predicts v = √(1 − σ²) ε − σ x (Salimans & Ho 2022, §4) of every pixel. Its last layer, which knows
    the classes, is replaced by one of 3 r² channels for that and is no part of the result; nor are auxiliary heads.

    Args:
        segmentor: Config of an EncoderDecoder, or of one derived from it, whose decode head ends in mmseg's `conv_seg`.
        noise: σ in (0, 1], or the lowest and the highest; the angle arcsin σ of an image is drawn evenly between.
        data_preprocessor: None: the segmentor's own.

    Raises:
        ValueError: Such noise, or a decode head of another kind.
    """

    def __init__(
        self,
        segmentor: dict,
        noise: float | Sequence[float] = 0.3,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        built = MODELS.build(segmentor)
        super().__init__(built.data_preprocessor if data_preprocessor is None else data_preprocessor, init_cfg)
        low, high = (noise, noise) if isinstance(noise, int | float) else noise
        if not 0 < low <= high <= 1:
            raise ValueError(f'noise={noise}: expected a standard deviation in (0, 1], or the lowest and the highest')
        self.angles = math.asin(low), math.asin(high)
        self.segmentor = built
        self.last_name = _last_layer(built)
        if built.with_auxiliary_head:
            built.auxiliary_head.requires_grad_(False)
        self.patch = self._pixels_of_an_output()
        old = getattr(self.head, LAST)
        setattr(self.head, LAST, nn.Conv2d(old.in_channels, 3 * self.patch**2, 1))
        self.head.dropout = None

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'loss'
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch of normalised images (B, 3, H, W), or (`mode='tensor'`) clean, noisy and denoised images.

        Those three are (B, 3, H, W) in [-1, 1], channels as the inputs have them.
        """
        clean, normalised = self._in_range(inputs)
        low, high = self.angles
        angle = low + (high - low) * torch.rand(len(clean), 1, 1, 1, device=clean.device)
        noise = torch.randn_like(clean)
        noisy = (angle.cos() * clean + angle.sin() * noise).clamp(-1, 1)
        seen = self._predicted(normalised(noisy)).float()
        if mode == 'loss':
            return {'loss_denoising': mse_loss(seen, angle.cos() * noise - angle.sin() * clean)}
        if mode == 'tensor':
            return clean, noisy, (angle.cos() * noisy - angle.sin() * seen).clamp(-1, 1)
        raise ValueError(f'mode={mode!r}: a denoiser predicts no labels; known: loss, tensor')

    @property
    def backbone(self) -> nn.Module:
        """The segmentor's."""
        return self.segmentor.backbone

    @property
    def head(self) -> nn.Module:
        """The decode head with the last layer; no attribute, as constructors of optimizers would find it twice."""
        return self.segmentor.get_submodule(self.last_name.rpartition('.')[0])

    @property
    def may_differ(self) -> tuple[str, ...]:
        """Names of modules of the plain segmentor that learn nothing here: its last layer, and auxiliary heads."""
        return (self.last_name, 'auxiliary_head') if self.segmentor.with_auxiliary_head else (self.last_name,)

    def _predicted(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of normalised images."""
        return pixel_shuffle(self._output(images), self.patch)[..., : images.shape[-2], : images.shape[-1]]

    def _output(self, images: Tensor) -> Tensor:
        """What the decode head gives, (B, channels, h, w)."""
        output = self.segmentor.decode_head.forward(self.segmentor.extract_feat(images))
        if not isinstance(output, Tensor):
            raise ValueError(
                f'decode_head {type(self.segmentor.decode_head).__name__} gives a {type(output).__name__}; '
                'expected a head of one task and one output, (B, channels, h, w)'
            )
        return output

    def _in_range(self, inputs: Tensor) -> tuple[Tensor, Any]:
        """The images in [-1, 1], and what normalises such ones as the segmentor expects them."""
        preprocessor = self.data_preprocessor
        mean, std = getattr(preprocessor, 'mean', 0.0), getattr(preprocessor, 'std', 1.0)
        clean = ((inputs * std + mean) / HALF_RANGE - 1).clamp(-1, 1)
        return clean, lambda images: ((images + 1) * HALF_RANGE - mean) / std

    @torch.no_grad()
    def _pixels_of_an_output(self, side: int = 128) -> int:
        """r, seen in an image of `side` × `side` pixels."""
        was_training = self.training
        self.eval()
        images = torch.zeros(1, 3, side, side)
        found = self._output(images).shape[-2:]
        self.train(was_training)
        patch = side // found[0]
        if (found[0] * patch, found[1] * patch) != (side, side):
            raise ValueError(
                f'the decode head gives {tuple(found)} outputs for {side} × {side} pixels: no whole patches'
            )
        return patch


def _last_layer(segmentor: nn.Module) -> str:
    """The name of the last layer of the decode head, which may stand inside of another."""
    outer = getattr(segmentor, 'decode_head', None)
    alone = isinstance(outer, nn.Module) and not isinstance(outer, nn.ModuleList)  # a cascade has several
    for name, head in outer.named_modules(prefix='decode_head') if alone else ():
        if isinstance(dict(head.named_children()).get(LAST), nn.Conv2d):  # a wrapper may only pass it on
            return f'{name}.{LAST}'
    raise ValueError(
        f'a {type(segmentor).__name__} with decode_head {type(outer).__name__}: expected an EncoderDecoder whose '
        f"decode head ends in mmseg's {LAST}, such as UPerHead, SegformerHead, FCNHead or UShapedHead"
    )
