"""ViTLevels: a plain vision transformer that gives maps from four depths, all at 1/16 (for InvPT).

B, 3, H, W: images; h, w: patches, H/16 and W/16 rounded up; C: width; L = 1 + h·w tokens, the class token first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .vit_parts import EPS, FeedForward, PatchEmbedding, drop_rates, init_linear, resized_positions
from .vit_weights import load_vit


@MODELS.register_module()
class ViTLevels(BaseModule):
    """ViT-L/16 as InvPT has it: maps after blocks 6, 12, 18 as they are, after block 24 behind the last norm.

    ViT-B/16 (width=768, depth=12, heads=12, maps after blocks 3, 6, 9, 12) was never published with InvPT: it is ours.
    The names of the tensors are timm's, so that its files, and the backbones of the published checkpoints, load as they
    are. Any input size: positions are resized bicubically to the grid of the images, sides that are no multiple of 16
    are padded with zeros.

    The data preprocessor normalises. InvPT does so with ImageNet's mean and deviation, although AugReg's weights were
    trained with 0.5 and 0.5.

    Args:
        img_size: (H, W) whose grid the learned positions have: (448, 576) for NYUD-MT, (512, 512) for PASCAL-Context.
        width: C.
        depth: Blocks.
        heads: Of the attention.
        patch: Side of a patch.
        taps: After how many blocks maps are taken; the last is `depth`. None: four, evenly.
        drop_path_rate: Stochastic depth of the last block, linear over depth.
        pretrained: A file of weights, see `read_vit`; None: random ones.
        checkpointing: In training, blocks are computed again in the backward pass: of ViT-L at 448 × 576 it keeps 114
            instead of 1,157 MiB an image, for one more forward pass.

    Attributes:
        out_channels: Widths of the maps, C each.
        strides: Their strides.

    Raises:
        ValueError: `taps` that do not rise to `depth`, or weights of another model.
    """

    def __init__(
        self,
        img_size: tuple[int, int] = (512, 512),
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        patch: int = 16,
        taps: Sequence[int] | None = None,
        drop_path_rate: float = 0.15,
        pretrained: str | None = None,
        checkpointing: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.taps = [depth * i // 4 for i in (1, 2, 3, 4)] if taps is None else list(taps)
        if not self.taps or self.taps != sorted(set(self.taps)) or self.taps[0] < 1 or self.taps[-1] != depth:
            raise ValueError(f'taps={self.taps}: expected rising numbers of blocks, the last of them depth={depth}')
        self.checkpointing = checkpointing
        self.grid = (-(-img_size[0] // patch), -(-img_size[1] // patch))
        self.out_channels, self.strides = [width] * len(self.taps), [patch] * len(self.taps)
        self.patch_embed = PatchEmbedding(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], width))
        self.blocks = nn.ModuleList(Block(width, heads, rate) for rate in drop_rates(drop_path_rate, depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.apply(init_linear)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        if pretrained is not None:
            load_vit(self, pretrained, self.grid)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) → a map (B, C, h, w) for each tap; the class token is dropped."""
        patches = self.patch_embed(images)
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
        x = x + resized_positions(self.pos_embed, self.grid, size)
        maps = []
        for number, block in enumerate(self.blocks, 1):
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if number in self.taps:
                tokens = self.norm(x) if number == len(self.blocks) else x
                maps.append(tokens[:, 1:].mT.unflatten(2, size).contiguous())
        return tuple(maps)


class Block(nn.Module):
    """x ← x + attention(LN x); x ← x + MLP(LN x), each dropped by stochastic depth."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn, self.mlp = SelfAttention(width, heads), FeedForward(width)
        self.drop = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) → the same."""
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class SelfAttention(nn.Module):
    """Multi-head attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'width={width} is no multiple of heads={heads}')
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) → the same."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, L, C / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
