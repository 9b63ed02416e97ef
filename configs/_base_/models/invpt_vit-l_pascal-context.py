"""InvPT on ViT-L/16 as published for PASCAL-Context, without edges: 512 × 512 images."""

_base_ = ['./invpt_vit-l.py']

tasks = dict(
    _delete_=True,
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=21),
    human_parts=dict(type='HumanParts'),
    saliency=dict(type='Saliency'),
    normal=dict(type='SurfaceNormal'),
)
model = dict(task=tasks, backbone=dict(img_size=(512, 512)), decode_head=dict(tasks=tasks))
