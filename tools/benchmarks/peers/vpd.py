"""Rows against VPD: its encoder, U-Net wrapper and text adapter in the place of our backbone; neck and head are ours.

B, 3, H, W: RGB in [-1, 1]; K classes; D width of a token.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

import mmdiff2in1.components  # noqa: F401  registers the backbone

from .clones import Clone, quiet
from .diffusion import WIDTHS, give, our_config, precision, tensors_of, their_model
from .pairs import Pair, Side
from .rows import Setup

CLASSES = {'full': 150, 'small': 20}
CHANNELS = {'full': 256, 'small': 32}
"""Of neck and head."""
EXTRACT = 'segmentation/models/vpd_seg.py', 'extract_feat'


class TheirBackbone(nn.Module):
    """VPD up to its features: the parts of its segmentor, which is one of mmseg 0.x, under the names it gives them.

    Args:
        clone: Where its code is.
        width: Of the U-Net.
        size: Side of the images.
        device: For the code of its method.
        checkpointing: Their ``use_checkpoint``.
        tokens: (K, D).
    """

    def __init__(self, clone: Clone, width: str, size: int, device: str, checkpointing: bool, tokens: Tensor):
        super().__init__()
        vpd, ddpm = clone.load('vpd', 'ldm.models.diffusion.ddpm')
        with quiet():
            self.whole = [their_model(ddpm, width, checkpointing)]  # in a list: no part of this module
            self.encoder_vq = self.whole[0].first_stage_model
            self.unet = vpd.UNetWrapper(self.whole[0].model, base_size=size)
        self.text_adapter = vpd.TextAdapter(text_dim=tokens.shape[1])
        self.gamma = nn.Parameter(torch.full((tokens.shape[1],), 0.1))
        self.register_buffer('class_embeddings', tokens)
        names: dict[str, Any] = dict(torch=torch)
        exec(clone.function(*EXTRACT, device), names)
        self._extract = names[EXTRACT[1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → maps, fine to coarse."""
        with quiet():
            features: list[Tensor] = self._extract(self, images)
        return features


def rows(setup: Setup, clone: Clone) -> Pair:
    """Both sides of a row of VPD."""
    torch.manual_seed(0)
    init_default_scope('mmseg')
    frozen, checkpointing = setup.row != 'vpd-finetune', setup.row.endswith('checkpointing')
    regime = 'finetune' if 'finetune' in setup.row else 'frozen'
    tokens = torch.randn(CLASSES[setup.width], WIDTHS[setup.width][2])
    theirs = TheirBackbone(clone, setup.width, setup.size, setup.device, frozen or checkpointing, tokens)
    ours = _segmentor(setup, regime, checkpointing, tokens)
    give(theirs.whole.pop(), ours.backbone.diffusion)
    ours.backbone.diffusion.keep_perception()  # as creation=False, and as theirs
    del theirs.encoder_vq.decoder
    theirs.encoder_vq.requires_grad_(False)
    if setup.row == 'vpd-frozen':
        theirs.requires_grad_(False)
        torch.nn.init.zeros_(theirs.gamma)  # ours has no adapter before a frozen U-Net
    else:
        adapter = {name.replace('fc.', 'mlp.'): value for name, value in theirs.text_adapter.state_dict().items()}
        ours.backbone.text_adapter.load_state_dict(adapter | dict(gamma=theirs.gamma.detach()))
    ours.to(setup.device)
    whole = copy.copy(ours)  # the same segmentor around another backbone
    whole._modules = dict(ours._modules)
    whole.backbone = theirs.to(setup.device)
    whole.neck, whole.decode_head = copy.deepcopy(ours.neck), copy.deepcopy(ours.decode_head)
    images, samples = _batch(setup)
    if setup.row == 'vpd-features':
        return Pair(_perceiving(whole.eval(), images, setup), _perceiving(ours.eval(), images, setup))
    return Pair(_training(whole.train(), images, samples, setup), _training(ours.train(), images, samples, setup))


def _perceiving(segmentor: Any, images: Tensor, setup: Setup) -> Side:
    def step(dtype: str = setup.dtype) -> list[Tensor]:
        with torch.no_grad(), precision(setup.device, dtype):
            return list(segmentor.backbone(images))

    def outputs() -> dict[str, Tensor]:
        return {f'level {i}': maps for i, maps in enumerate(step('fp32'))}

    return Side(step, outputs, lambda: tensors_of(segmentor.backbone))


def _training(segmentor: Any, images: Tensor, samples: list[SegDataSample], setup: Setup) -> Side:
    """Losses, backward, AdamW on all that has a gradient."""
    optimizer = torch.optim.AdamW([p for p in segmentor.parameters() if p.requires_grad], lr=1e-5)

    def loss(dtype: str = setup.dtype) -> Tensor:
        with precision(setup.device, dtype):
            total: Tensor = segmentor.parse_losses(segmentor.loss(images, samples))[0]
        return total

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def outputs() -> dict[str, Tensor]:
        optimizer.zero_grad()
        total = loss('fp32')
        total.backward()
        parts = {'neck': segmentor.neck, 'U-Net': _unet(segmentor.backbone)}
        if segmentor.backbone.text_adapter is not None:
            parts['text adapter'] = _mlp(segmentor.backbone.text_adapter)
        gradients = {f'gradient of the {name}': norm for name, part in parts.items() if (norm := _norm(part))}
        optimizer.zero_grad()
        return {'loss': total.detach(), **gradients}

    return Side(step, outputs, lambda: tensors_of(segmentor, optimizer=optimizer))


def _unet(backbone: Any) -> nn.Module:
    unet: nn.Module = backbone.unet if isinstance(backbone, TheirBackbone) else backbone.diffusion.unet
    return unet


def _mlp(adapter: Any) -> nn.Module:
    """Without γ, which belongs to the adapter in ours and to the segmentor in theirs."""
    mlp: nn.Module = adapter.mlp if hasattr(adapter, 'mlp') else adapter.fc
    return mlp


def _norm(module: nn.Module) -> Tensor | None:
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(gradients).double().norm() if gradients else None


def _segmentor(setup: Setup, regime: str, checkpointing: bool, tokens: Tensor) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        embeddings = Path(folder) / 'classes.pth'
        torch.save(tokens, embeddings)
        backbone = dict(
            type='DiffusionBackbone',
            diffusion=our_config(setup.width),
            feature=dict(preset='vpd'),
            regime=regime,
            class_embeddings=str(embeddings),
            text_adapter=setup.row != 'vpd-frozen',
            gradient_checkpointing=checkpointing,
        )
        unet, *_ = WIDTHS[setup.width]
        classes, channels = CLASSES[setup.width], CHANNELS[setup.width]
        widths = [unet, 2 * unet + classes, 4 * unet + classes, 4 * unet]
        head = dict(
            type='FPNHead', in_channels=[channels] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32],
            channels=channels, num_classes=classes, dropout_ratio=0, norm_cfg=dict(type='BN', requires_grad=True),
            align_corners=False, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True),
        )  # fmt: skip
        return MODELS.build(
            dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor'),
                backbone=backbone,
                neck=dict(type='FPN', in_channels=widths, out_channels=channels, num_outs=4),
                decode_head=head,
                train_cfg=dict(),
                test_cfg=dict(mode='whole'),
            )
        )


def _batch(setup: Setup) -> tuple[Tensor, list[SegDataSample]]:
    generator = torch.Generator().manual_seed(1)
    shape = (setup.size, setup.size)
    images = torch.rand(setup.batch, 3, *shape, generator=generator) * 2 - 1
    samples = []
    for _ in range(setup.batch):
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
        labels = torch.randint(CLASSES[setup.width], (1, *shape), generator=generator)
        sample.gt_sem_seg = PixelData(data=labels.to(setup.device))
        samples.append(sample)
    return images.to(setup.device), samples
