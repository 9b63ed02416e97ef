"""The models that are measured: VPD on Stable Diffusion 1.5 with random weights, and a toy of the same kind."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmdiff2in1.components  # noqa: F401  registers the backbone and the wrapper
from mmdiff2in1.generators import LatentDiffusion

from .cells import Cell

TINY: dict[str, Any] = dict(
    vae=dict(
        block_out_channels=(16, 32),
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
    ),
    unet=dict(
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        norm_num_groups=4,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'),
        cross_attention_dim=32,
        attention_head_dim=2,
    ),
    text_encoder=dict(num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
    scheduler=dict(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='epsilon',
    ),
    words=['a', 'photo', 'of', 'room'],
    max_length=8,
)
CLASSES = {'stable-diffusion-1.5': 150, 'tiny': 5}  # ADE20K's number
WIDTHS = {'stable-diffusion-1.5': 256, 'tiny': 16}  # of FPN and head
CAPTION = 'a photo of a room'


def build_diffusion(cell: Cell, device: str) -> LatentDiffusion:
    """The generator alone."""
    torch.manual_seed(0)
    with torch.device(device):
        made = LatentDiffusion.from_config(_components(cell))
    return made.to(device).requires_grad_(False)


def build_segmentor(
    cell: Cell,
    device: str,
    self_improving: bool = False,
    classes: int | None = None,
    tasks: dict[str, dict[str, Any]] | None = None,
) -> Any:
    """VPD with FPN and Semantic FPN head, in train mode.

    Args:
        cell: Model, size, regime and options.
        device: Of its weights.
        self_improving: θ_E and θ_C of it.
        classes: None: those of the model.
        tasks: A head for each of them, in the place of the one for classes.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = segmentor_config(cell, Path(folder), classes, tasks)
        with torch.device(device):
            built = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=config) if self_improving else config)
    return built.to(device).train()


def segmentor_config(
    cell: Cell, folder: Path, classes: int | None = None, tasks: dict[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Its config; `folder` takes the tokens of its classes, random ones: nothing has to be encoded."""
    classes = classes or CLASSES[cell.model]
    init_default_scope('mmseg')
    torch.manual_seed(0)
    embeddings = folder / 'classes.pth'
    torch.save(torch.randn(classes, _width(cell)), embeddings)
    with torch.device('meta'):
        backbone = MODELS.build(_backbone(cell, str(embeddings)))
    return _segmentor(cell, str(embeddings), backbone, classes, tasks)


def tokens_of(cell: Cell) -> int:
    """Tokens that a caption has, padding included."""
    return TINY['max_length'] if cell.model == 'tiny' else 77


def _components(cell: Cell) -> dict:
    return TINY if cell.model == 'tiny' else dict(architecture=cell.model)


def _width(cell: Cell) -> int:
    return TINY['unet']['cross_attention_dim'] if cell.model == 'tiny' else 768


def _backbone(cell: Cell, embeddings: str) -> dict:
    return dict(
        type='DiffusionBackbone',
        diffusion=_components(cell),
        feature=dict(preset='vpd') | (dict(timestep=[50, 200]) if cell.case == 'features-timesteps' else {}),
        regime=cell.regime,
        class_embeddings=embeddings,
        gradient_checkpointing='checkpointing' in cell.options,
        detail=dict(encoder=True, stem=16) if cell.case == 'features-detail' else None,
    )


def _segmentor(
    cell: Cell, embeddings: str, backbone: Any, classes: int, tasks: dict[str, dict[str, Any]] | None
) -> dict:
    width, levels = WIDTHS[cell.model], len(backbone.out_channels)
    head = dict(
        type='FPNHead',
        in_channels=[width] * levels,
        in_index=list(range(levels)),
        feature_strides=backbone.strides,
        channels=width,
        dropout_ratio=0.1,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True),
    )
    if tasks is None:
        head['num_classes'] = classes
        kind = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=(cell.size,) * 2))
    else:
        plain = {key: value for key, value in head.items() if key != 'loss_decode'}
        heads = {name: _task_head(task, plain) for name, task in tasks.items()}
        head = dict(type='TaskHeads', tasks=tasks, heads=heads)
        kind = dict(type='DenseEstimator', task=tasks, data_preprocessor=dict(type='DenseDataPreProcessor'))
    return dict(
        **kind,
        backbone=_backbone(cell, embeddings),
        neck=dict(type='FPN', in_channels=backbone.out_channels, out_channels=width, num_outs=levels),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def _task_head(task: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    if task['type'] == 'SemanticSegmentation':
        return dict(head, num_classes=task['num_classes'])
    return dict(type='DenseTaskHead', task=task, head=head)
