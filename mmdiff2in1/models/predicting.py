"""Images through a segmentor's own data preprocessor to its raw outputs. C channels of an output; H, W in pixels."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.utils import resize
from torch import Tensor


@torch.no_grad()
def outputs_of(segmentor: Any, images: Sequence[Tensor], samples: Sequence[Any]) -> list[Tensor]:
    """Outputs (1, C, H, W), float32, of equally large images, each at the `ori_shape` of its sample.

    What mmseg's `predict` does, without its last step, which takes every output for class logits.

    Args:
        segmentor: Any mmseg segmentor.
        images: (3, h, w) in 0 … 255, in the order of channels in which its pipeline loads them, which is BGR.
        samples: `SegDataSample`s with the metainfo of the images.
    """
    data = segmentor.data_preprocessor(dict(inputs=list(images), data_samples=list(samples)), False)
    metas = [sample.metainfo for sample in data['data_samples']]
    outputs = segmentor.inference(data['inputs'], [dict(meta) for meta in metas]).float()
    at_own_size = []
    for one, meta in zip(outputs.split(1), metas, strict=True):
        left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
        one = one[..., top : one.shape[-2] - bottom, left : one.shape[-1] - right]
        size = tuple(meta['ori_shape'][:2])
        at_own_size.append(resize(one, size, mode='bilinear', align_corners=segmentor.align_corners, warning=False))
    return at_own_size
