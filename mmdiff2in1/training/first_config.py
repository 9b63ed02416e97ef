"""The text of a first config for somebody's own images, and of the self-improving one beside it."""

import colorsys
import math
from pathlib import Path

from .first_model import FirstModel
from .own_data import LARGEST, OwnData

COMPOSED = 2000
CREATED_MULTIPLE = 64
HUES, LIGHTS = 48, ((0.6, 0.95), (0.95, 0.75), (0.75, 0.5), (0.3, 0.8), (0.9, 0.3), (0.3, 0.45))
"""How many hues, and (saturation, value) of each: more colours than a label file has numbers."""


def palette(count: int) -> list[list[int]]:
    """So many colours, RGB 0 … 255, at most 288: each as far as may be from all before it."""
    known = [colorsys.hsv_to_rgb(hue / HUES, *light) for light in LIGHTS for hue in range(HUES)]
    chosen, distances = [known[0]], [math.inf] * len(known)
    while len(chosen) < count:
        distances = [min(d, math.dist(chosen[-1], colour)) for d, colour in zip(distances, known, strict=True)]
        chosen.append(known[distances.index(max(distances))])
    return [[round(255 * part) for part in colour] for colour in chosen[:count]]


def created_size(height: int, width: int) -> tuple[int, int]:
    """Size of creation for images of (H, W): their shape, the shorter side at most 512, multiples of 64."""
    scale = min(1.0, LARGEST / min(height, width))
    return tuple(max(1, round(side * scale / CREATED_MULTIPLE)) * CREATED_MULTIPLE for side in (height, width))  # type: ignore[return-value]


def plain_config(data: OwnData, train: Path, val: Path, model: FirstModel, steps: int) -> str:
    """A plain mmseg config.

    Args:
        data: What was found.
        train, val: Lists of names.
        model: See `built_in` and `of_encoder`.
        steps: Of the training.
    """
    height, width = data.crop(model.multiple)
    reduce = ', reduce_zero_label=True' if data.zero_is_ignored else ''
    test = "mode='whole'"
    if max(data.size) > 2 * LARGEST:
        test = f"mode='slide', crop_size=crop_size, stride=({height * 2 // 3}, {width * 2 // 3})"
    bases = ['default_runtime' if model.base is None else f'models/{model.base}', 'default_runtime']
    bases = [f'mmdiff2in1::_base_/{base}.py' for base in dict.fromkeys(bases)]
    fields = model.fields
    if model.base is not None:
        fields += f'    decode_head=dict(num_classes={len(data.classes)}),\n'
    paramwise = '' if model.paramwise is None else f'\n    paramwise_cfg={model.paramwise},'
    warm = min(100, steps // 10)
    return f'''"""{len(data.train)} images to train on, {len(data.val)} held out, {len(data.classes)} classes.

A plain mmseg config, as mmdiff2in1 init found your data; change what you like.
"""

_base_ = {bases}

classes = {data.classes!r}
palette = {palette(len(data.classes))!r}
crop_size = ({height}, {width})

data_preprocessor = dict({model.preprocessor}size=crop_size, test_cfg=dict(size_divisor={model.multiple}))
model = dict(
    data_preprocessor=data_preprocessor,
{fields}    test_cfg=dict({test}),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'{reduce}),
    dict(type='RandomResize', scale=({data.size[1]}, {data.size[0]}), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'{reduce}),
    dict(type='PackSegInputs'),
]
your_data = dict(
    type='BaseSegDataset',
    data_prefix=dict(img_path={str(data.images)!r}, seg_map_path={str(data.masks)!r}),
    img_suffix={data.image_suffix!r},
    seg_map_suffix={data.mask_suffix!r},
    metainfo=dict(classes=classes, palette=palette),
    reduce_zero_label={data.zero_is_ignored},
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type='StreamSampler'),
    dataset=dict(ann_file={str(train.absolute())!r}, pipeline=train_pipeline, **your_data),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file={str(val.absolute())!r}, pipeline=test_pipeline, **your_data),
)
test_dataloader = val_dataloader  # a set that chose nothing would be better
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters={steps}, val_interval={max(1, steps // 4)})
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr={model.rate!r}, weight_decay=1e-2),{paramwise}
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end={warm}),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin={warm}, end={steps}),
]
custom_hooks = [dict(type='ExactResumeHook')]
'''


def recipe_config(base: Path, preset: str, settings: dict, load_from: str | None) -> str:
    """The self-improving config of a plain one, in a few lines."""
    given = ''.join(f'    {name}={value!r},\n' for name, value in settings.items())
    start = '' if load_from is None else f'load_from = {load_from!r}  # θ_C must have learned before it labels\n'
    return f'''"""{base.name} with further images: docs/recipes.md of mmdiff2in1 says what can be set here."""

_base_ = [{str(base)!r}]
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset={preset!r},
{given})
{start}'''
