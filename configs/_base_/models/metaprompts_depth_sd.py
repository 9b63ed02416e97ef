"""MetaPrompts for depth at its published size: three passes of Stable Diffusion's U-Net under 50 prompts each.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``. Source: the published code
(fudan-zvg/meta-prompts, depth): each pass has prompts and an adapter of its own, all levels are joined at the latent's
stride, crops of 480 × 480 are stretched to 512 × 512. Unlike VPD's, the model is not told what the scene is.
"""

task = dict(type='Depth', max_depth=10.0)
data_preprocessor = dict(
    type='DenseDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, size=(480, 480)
)
model = dict(
    type='DenseEstimator',
    task=task,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MetaPromptBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        num_prompts=50,
        passes=3,
        shared=False,
        rearrangement='joined',
        size='stretched',
        regime='finetune',
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='DenseTaskHead',
            task=task,
            head=dict(type='DeconvolutionHead', in_channels=50, channels=192, filters=(32, 32, 32), kernel=2),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(160, 160), flip=True),
)
