"""InvPT on ViT-B/16, skips after blocks 3 and 6. Ours: the paper's ViT-B was never released."""

_base_ = ['./invpt_vit-l.py']

model = dict(backbone=dict(width=768, depth=12, heads=12), decode_head=dict(in_channels=[768] * 3))
