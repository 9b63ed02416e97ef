"""The rows of the table: a family, one config file of mmseg, and what is changed in it besides size, data and steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SMALL = 'fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'
"""The config that settings are tried on."""
CE = dict(type='CrossEntropyLoss', loss_weight=1.0)
HEADS = ('model.decode_head', 'model.auxiliary_head')


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `changes` are put into the small config, dotted key → value, or what makes the value of the one that is there;
    `processes` train; `needs` are modules without which it cannot run;
    `refused` is a word of the message with which the wrapping must refuse it; `narrower` and
    `side`, see `make_small`.
    """

    family: str
    config: str
    setting: str = ''
    changes: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    refused: str = ''
    narrower: int = 8
    side: int = 32
    processes: int = 1

    @property
    def name(self) -> str:
        """Its key in files and on the command line."""
        return f'{self.family} · {self.setting}' if self.setting else self.family


def _loss(*losses: dict) -> dict[str, Any]:
    return {
        f'{head}.loss_decode': list(losses) if len(losses) > 1 else losses[0] | dict(_delete_=True) for head in HEADS
    }


def _mosaic(dataset: dict) -> dict[str, Any]:
    mosaic = [dict(type='RandomMosaic', prob=1.0, img_scale=(32, 64)), *dataset['pipeline'][2:]]
    return dict(type='MultiImageMixDataset', dataset=dict(dataset, pipeline=dataset['pipeline'][:2]), pipeline=mosaic)


OPS, DET, PRETRAIN, LDM = 'mmcv.ops', 'mmdet', 'mmpretrain', 'ldm'
FAMILIES = (
    Row('FCN', SMALL),
    Row('FCN d6', 'fcn/fcn-d6_r50-d16_4xb2-40k_cityscapes-512x1024.py'),
    Row('PSPNet', 'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
    Row('DeepLabV3', 'deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
    Row('DeepLabV3+', 'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py'),
    Row('UPerNet ResNet', 'upernet/upernet_r18_4xb2-40k_cityscapes-512x1024.py'),
    Row('UPerNet Swin', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
    Row(
        'UPerNet ConvNeXt',
        'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
        needs=(PRETRAIN,),
    ),
    Row('UPerNet BEiT', 'beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py'),
    Row('UPerNet MAE', 'mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py'),
    Row('UPerNet ViT', 'vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py'),
    Row('UPerNet Twins', 'twins/twins_pcpvt-s_uperhead_8xb4-160k_ade20k-512x512.py', narrower=1),
    Row('SegFormer', 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', narrower=1),
    Row('Segmenter', 'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py'),
    Row('SETR naive', 'setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py'),
    Row('SETR PUP', 'setr/setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py'),
    Row('SETR MLA', 'setr/setr_vit-l_mla_8xb1-80k_cityscapes-768x768.py'),
    Row('DPT', 'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py', side=64),
    Row('SegNeXt', 'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py', narrower=1),
    Row('OCRNet', 'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py', narrower=1),
    Row('HRNet', 'hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py', narrower=1),
    Row('K-Net', 'knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py'),
    Row('PointRend', 'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py', needs=(OPS,)),
    Row('PIDNet', 'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py', narrower=1, side=64),
    Row('BiSeNetV1', 'bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py', narrower=1),
    Row('BiSeNetV2', 'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py', narrower=1),
    Row('DDRNet', 'ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py', narrower=1, side=64),
    Row('STDC', 'stdc/stdc1_4xb12-80k_cityscapes-512x1024.py', narrower=1),
    Row('Fast-SCNN', 'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py', narrower=1),
    Row('ICNet', 'icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py', narrower=1),
    Row('EncNet', 'encnet/encnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('DANet', 'danet/danet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('DNLNet', 'dnlnet/dnl_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('CCNet', 'ccnet/ccnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', needs=(OPS,)),
    Row('PSANet', 'psanet/psanet_r50-d8_4xb2-40k_cityscapes-512x1024.py', needs=(OPS,)),
    Row('ANN', 'ann/ann_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('GCNet', 'gcnet/gcnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('ISANet', 'isanet/isanet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('EMANet', 'emanet/emanet_r50-d8_4xb2-80k_cityscapes-512x1024.py'),
    Row('NonLocal', 'nonlocal_net/nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('APCNet', 'apcnet/apcnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('DMNet', 'dmnet/dmnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'),
    Row('FastFCN', 'fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py'),
    Row('Semantic FPN', 'sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py'),
    Row('PoolFormer', 'poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py', needs=(PRETRAIN,)),
    Row('MobileNetV2', 'mobilenet_v2/mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024.py', narrower=1),
    Row(
        'MobileNetV3',
        'mobilenet_v3/mobilenet-v3-d8-scratch-s_lraspp_4xb4-320k_cityscapes-512x1024.py',
        narrower=1,
        side=400,
    ),
    Row('ResNeSt', 'resnest/resnest_s101-d8_fcn_4xb2-80k_cityscapes-512x1024.py'),
    Row('CGNet', 'cgnet/cgnet_fcn_4xb8-60k_cityscapes-512x1024.py', narrower=1),
    Row('ERFNet', 'erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py', narrower=1),
    Row('U-Net', 'unet/unet-s5-d16_fcn_4xb4-40k_chase-db1-128x128.py'),
    Row(
        'U-Net, 25 bands',
        'unet/unet-s5-d16_fcn_4xb4-160k_hsidrive-192x384.py',
        changes={'model.data_preprocessor.bgr_to_rgb': False},  # the None of the file is refused by mmengine
        refused='25 channels',
    ),
    Row('MaskFormer', 'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py', needs=(DET,)),
    Row('Mask2Former', 'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py', needs=(DET,)),
    Row('SAN', 'san/san-vit-b16_voc12aug-640x640.py', needs=(OPS,)),
    Row('Change detection', 'swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py'),
    Row('VPD depth', 'vpd/vpd_sd_4xb8-25k_nyu-480x480.py', needs=(LDM,)),
)
SUBSET = ('road', 'building', 'person', 'car')
EARLY = dict(type='EarlyStoppingHook', monitor='mIoU', patience=5)
SETTINGS = (
    Row('FCN', SMALL, 'OHEM', {'model.decode_head.sampler': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=1000)}),
    Row('FCN', SMALL, 'OHEM loss', _loss(dict(type='OhemCrossEntropy', thres=0.9, min_kept=1000))),
    Row('U-Net', 'unet/unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_drive-64x64.py', 'cross-entropy and Dice'),
    Row('FCN', SMALL, 'Tversky', _loss(dict(type='TverskyLoss'))),
    Row('FCN', SMALL, 'Lovász', _loss(dict(type='LovaszLoss', reduction='none'))),
    Row('FCN', SMALL, 'Focal', _loss(dict(type='FocalLoss'))),
    Row('FCN', SMALL, 'boundary loss', _loss(CE, dict(type='BoundaryLoss'))),
    Row('FCN', SMALL, 'class weights', _loss(CE | dict(class_weight=[0.8 + 0.02 * k for k in range(19)]))),
    Row('FCN', SMALL, 'sigmoid', _loss(CE | dict(use_sigmoid=True))),
    Row('FCN', SMALL, 'bfloat16', {'optim_wrapper.type': 'BF16OptimWrapper'}),
    Row('FCN', 'fcn/fcn_r101-d8_4xb2-amp-80k_cityscapes-512x1024.py', 'amp', {'model.backbone.depth': 50}),
    Row('FCN', SMALL, 'accumulation', {'optim_wrapper.accumulative_counts': 3}),
    Row(
        'FCN', SMALL, 'EMAHook', {'custom_hooks': [dict(type='EMAHook'), dict(type='RecordingHook')]}, refused='EMAHook'
    ),
    Row('FCN', SMALL, 'early stopping', {'custom_hooks': [EARLY, dict(type='RecordingHook')]}),
    Row('FCN', SMALL, 'save_best', {'default_hooks.checkpoint.save_best': 'mIoU'}),
    Row(
        'FCN',
        SMALL,
        'epochs',
        {
            'train_cfg': dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2, val_interval=2),
            'train_dataloader.sampler.type': 'DefaultSampler',
            'param_scheduler': [dict(type='PolyLR', power=0.9, begin=0, end=2, by_epoch=True)],
            'default_hooks.checkpoint': dict(by_epoch=True, interval=1),
            'log_processor.by_epoch': True,
        },
    ),
    Row('FCN', SMALL, 'validation after each step', {'train_cfg.val_interval': 1}),
    Row('FCN', SMALL, 'grad clipping', {'optim_wrapper.clip_grad': dict(_delete_=True, max_norm=0.1)}),
    Row(
        'FCN',
        SMALL,
        'PolyLR by epoch, steps by iteration',
        {
            'param_scheduler': [
                dict(type='PolyLR', power=0.9, begin=0, end=2, by_epoch=True, convert_to_iter_based=True)
            ]
        },
    ),
    Row('FCN', SMALL, 'DefaultSampler, shuffled', {'train_dataloader.sampler.type': 'DefaultSampler'}),
    Row('FCN', SMALL, 'InfiniteSampler, in order', {'train_dataloader.sampler.shuffle': False}),
    Row(
        'FCN',
        SMALL,
        'persistent workers',
        {
            'train_cfg.val_interval': 1,
            **{f'{part}_dataloader.num_workers': 2 for part in ('train', 'val')},
            **{f'{part}_dataloader.persistent_workers': True for part in ('train', 'val')},
        },
    ),
    Row('FCN', SMALL, 'two processes', processes=2),
    Row('FCN', SMALL, 'MultiImageMixDataset', {'train_dataloader.dataset': _mosaic}, refused='MultiImageMixDataset'),
    Row('FCN', 'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py', 'reduce_zero_label'),
    Row('FCN', 'fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py', 'ConcatDataset'),
    Row('DeepLabV3', 'dsdl/voc.py', 'DSDL data', needs=('dsdl',)),
    Row('FCN', 'fcn/fcn_r50-d8_4xb4-40k_pascal-context-59-480x480.py', '59 of 60 classes'),
    Row(
        'FCN',
        SMALL,
        'four classes by metainfo',
        {
            **{f'{part}_dataloader.dataset.metainfo': dict(classes=SUBSET) for part in ('train', 'val', 'test')},
            **{f'{head}.num_classes': len(SUBSET) for head in HEADS},
        },
    ),
    Row('FCN', SMALL, 'indices', {'train_dataloader.dataset.indices': 3}),
    Row('DeepLabV3 U-Net', 'unet/unet-s5-d16_deeplabv3_4xb4-40k_stare-128x128.py', 'RepeatDataset'),
    Row(
        'U-Net',
        'unet/unet-s5-d16_fcn_4xb4-40k_chase-db1-128x128.py',
        'binary, one output',
        {
            f'{head}.{key}': value
            for head in HEADS
            for key, value in dict(
                num_classes=2,
                out_channels=1,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, _delete_=True),
            ).items()
        },
    ),
)
SWIN = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
LEVELS = [8, 16, 32, 64]
DEEP = dict(num_hidden_layers=4, num_attention_heads=2, hidden_size=16)
"""Fields of a small vision transformer."""


def _of_transformers(model_type: str, **fields: Any) -> dict[str, Any]:
    return dict(_delete_=True, type='HFBackbone', model=dict(model_type=model_type, **fields))


def _pyramid(model_type: str, widths: list[int], **fields: Any) -> dict[str, Any]:
    """UPerNet's backbone of four levels replaced."""
    return {
        'model.backbone': _of_transformers(model_type, **fields),
        'model.decode_head.in_channels': widths,
        'model.auxiliary_head.in_channels': widths[2],
    }


def _plain_vit(model_type: str, **fields: Any) -> dict[str, Any]:
    """FCN's backbone replaced by one whose maps have one stride; the auxiliary head reads the second layer."""
    backbone = _of_transformers(model_type, **DEEP, **fields) | dict(out_indices=[2, 4])
    heads = {f'{head}.in_channels': DEEP['hidden_size'] for head in HEADS}
    return {'model.backbone': backbone, **heads, 'model.decode_head.in_index': 1, 'model.auxiliary_head.in_index': 0}


BACKBONES = (
    Row(
        'Swin',
        SWIN,
        'transformers',
        _pyramid('swin', LEVELS, embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4),
    ),
    Row('ConvNeXt', SWIN, 'transformers', _pyramid('convnext', LEVELS, hidden_sizes=LEVELS, depths=[1, 1, 2, 1])),
    Row(
        'SegFormer-MiT',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'transformers',
        {
            'model.backbone': _of_transformers(
                'segformer', hidden_sizes=LEVELS, depths=[1, 1, 2, 1], num_attention_heads=[1, 2, 2, 4]
            ),
            'model.decode_head.in_channels': LEVELS,
        },
    ),
    Row('DINOv2', SMALL, 'transformers', _plain_vit('dinov2', image_size=28), side=64),
    Row('DINOv3', SMALL, 'transformers', _plain_vit('dinov3_vit', intermediate_size=32, image_size=32), side=64),
)
ROWS = (*FAMILIES, *BACKBONES, *SETTINGS)
