"""TaskPrompter on ViT-L/16 as published for PASCAL-Context, without edges: 512 × 512 images, narrow features, mixed."""

_base_ = ['./taskprompter_vit-l.py']

tasks = dict(
    _delete_=True,
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=21),
    human_parts=dict(type='HumanParts'),
    saliency=dict(type='Saliency'),
    normal=dict(type='SurfaceNormal'),
)
model = dict(
    task=tasks,
    backbone=dict(
        tasks=tasks, img_size=(512, 512), embed_channels=300, channels=350, channel_windows=1, reweighted=True
    ),
    decode_head=dict(tasks=tasks, channels=350),
)
