"""What a cell costs on paper: operations, counted on the meta device; an addition and a multiplication are two.

Model FLOPs: those that the mathematics asks for. What gradient checkpointing computes a second time does not count, nor
does anything but matrix products, convolutions and attention (torch's flop counter).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .cells import Cell
from .heads import build_head, features_of, samples_of
from .model import build_diffusion, build_segmentor, tokens_of


def count(run: Callable[[], Any]) -> int:
    """Operations of `run`. Attention is counted as its plain products: that of a fused backward pass recomputes."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def model_flops(cell: Cell) -> int:
    """Model FLOPs of one step of `cell`; 0 where it is not about operations."""
    if cell.case in ('matmul', 'ema') or cell.paired:
        return 0
    return cell.batch * _per_image(replace(cell, precision='fp32', batch=1, options=(), memory=0, device='cpu'))


@cache
def known_costs(model: str, size: int) -> dict[str, int]:
    """Operations per image of the parts that everything else is made of."""
    cell = Cell('create', model=model, size=size)
    diffusion = build_diffusion(cell, 'meta')
    images, z, t = _meta_inputs(diffusion, size)
    width = diffusion.unet.config.cross_attention_dim

    def call(tokens: int) -> int:
        with torch.no_grad():
            return count(lambda: diffusion.unet(z, t, torch.empty(1, tokens, width, device='meta')))

    caption = tokens_of(cell)
    ids = torch.zeros(1, caption, dtype=torch.long, device='meta')
    with torch.no_grad():
        return {
            f'U-Net call, {caption} tokens': call(caption),
            'U-Net call, 150 tokens': call(150),
            'VAE encode': count(lambda: diffusion.encode(images)),
            'VAE decode': count(lambda: diffusion.decode(z)),
            'text encoder': count(lambda: diffusion.text.encoder(ids)),
        }


@cache
def _per_image(cell: Cell) -> int:
    if cell.head:
        return _head(cell)
    if cell.case == 'create':
        call, _, encode, decode, text = known_costs(cell.model, cell.size).values()
        return encode + cell.calls * call + decode + text
    if cell.case == 'mixed':
        # Half of the images are also labelled by θ_C, which sees the latents that θ_E has encoded.
        step, latents = replace(cell, case='finetune'), known_costs(cell.model, cell.size)['VAE encode']
        return _per_image(step) + (_forward(step) - latents) // 2
    if cell.case.startswith('features'):
        return _segmentor(cell, whole=False, backward=False)
    return _segmentor(cell, whole=True, backward=True)


@cache
def _forward(cell: Cell) -> int:
    return _segmentor(cell, whole=True, backward=False)


def _segmentor(cell: Cell, whole: bool, backward: bool) -> int:
    """Of the backbone or the whole segmentor, the backward pass counted for real."""
    model = build_segmentor(cell, 'meta')
    model.backbone._range_checked = True  # needs values
    images = _meta_inputs(model.backbone.diffusion, cell.size)[0]

    def run() -> None:
        pyramid = model.backbone(images)
        if whole:
            logits = model.decode_head(model.neck(pyramid))
            if backward:
                logits.sum().backward()

    return count(run)


def _head(cell: Cell) -> int:
    """Of a head alone, with the gradient of its features left out."""
    model = build_head(cell, 'meta').eval()  # a single image is too few for batch statistics, and costs the same
    features, samples = features_of(model, cell, 'meta'), samples_of(model, cell, 'meta')
    if cell.case == cell.head:
        return count(lambda: model.total_loss(features, samples).backward())
    model.requires_grad_(False)
    return count(lambda: model.predict(features, samples))


def _meta_inputs(diffusion: Any, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, latent and timestep."""
    side = size // diffusion.downscale
    return (
        torch.empty(1, 3, size, size, device='meta'),
        torch.empty(1, diffusion.latent_channels, side, side, device='meta'),
        torch.empty(1, dtype=torch.long, device='meta'),
    )
