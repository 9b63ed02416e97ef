"""VPD for depth at its published size: Stable Diffusion's U-Net, fine-tuned; the token of the scene's kind; VPD's head.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``. The kind of scene is told at test time
too, as in VPD: scores are those of a model that knows it (wl-zhao/VPD, issue 34).
"""

task = dict(type='Depth', max_depth=10.0)
data_preprocessor = dict(
    type='DenseDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, size=(480, 480)
)
model = dict(
    type='SceneConditionedEstimator',
    task=task,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        classes='NYUv2DepthDataset',
        # Images of 480 × 480 are padded with zeros to the 512 × 512 that the U-Net needs; the head crops again.
        feature=dict(preset='vpd_depth'),
        regime='finetune',
        text_adapter=True,
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(type='VPDDepthDecodeHead', task=task, in_channels=[320, 640, 1280, 1280], fmap_border=1),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(160, 160), flip=True),
)
