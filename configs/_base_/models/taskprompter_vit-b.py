"""TaskPrompter on ViT-B/16 as published for PASCAL-Context, without edges: wide features on a narrow backbone."""

_base_ = ['./taskprompter_vit-l_pascal-context.py']

model = dict(
    backbone=dict(
        width=768,
        depth=12,
        heads=12,
        taps=(3, 6, 9, 12),
        embed_channels=780,
        channels=1024,
        channel_windows=4,
    ),
    decode_head=dict(channels=1024),
)
