"""TaskPrompterViT: a ViT with a prompt for each task among its tokens; it gives one map for each task.

B, 3, H, W images; T tasks; C width; h × w patches, 1/16 of the image; F channels of a task's map.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.models.backbones.vit_parts import EPS, PatchEmbedding, drop_rates, init_linear
from mmdiff2in1.models.backbones.vit_weights import load_vit
from mmdiff2in1.tasks import TaskSet

from .block import PromptedBlock
from .fusion import PromptFusion
from .grid import on_grid

PATCH = 16


@MODELS.register_module()
class TaskPrompterViT(BaseModule):
    """TaskPrompter's backbone on a plain ViT (Ye and Xu, "TaskPrompter", ICLR 2023; sizes of its repository).

    At some depths the scores of the prompts weigh the patches by place and by channel; what that gives, summed over the
    depths, is the map of a task. Published: NYUD-MT ViT-L, the defaults; PASCAL-Context ViT-L
    `embed_channels=300, channels=350, channel_windows=1, reweighted=True`; PASCAL-Context ViT-B `width=768, depth=12,
    heads=12, taps=(3, 6, 9, 12), embed_channels=780, channels=1024, reweighted=True`.

    Images of any size go in: sides are padded to what patches and windows need, and the maps cut again. Weights that
    belong to positions are of one size; at others they are interpolated (`GridLink`), in every call.

    Parameters without effect are left out: the position of a class token, and W2 of the last block.

    Args:
        tasks: What is predicted, see `TaskSet`; the same as the segmentor's.
        img_size: (H, W) whose positions the weights belong to; multiples of 16 times `channel_windows`.
        width: C.
        depth: Number of blocks.
        heads: Heads of the attention.
        taps: After which blocks features are read, counted from 1; the last must be among them.
        embed_channels: Of the two features, by place and by channel, before they are joined.
        channels: F.
        channel_windows: s: channel scores are taken in s × s windows.
        reweighted: Whether the features of a task are mixed with those of the others.
        mlp_ratio: Hidden width of the MLPs over C.
        drop_path_rate: Stochastic depth of the last block, rising from 0 in the first. That it is drawn is published;
            the rate that TaskPrompter was trained with was not found: 0.15 is InvPT's.
        norm_cfg: Of the batch norms; `sync_bn='torch'` in the config synchronises them, as published.
        pretrained: A file of a plain ViT, see `read_vit`, for what the two have in common; None: random weights.

    Attributes:
        out_channels: F, for each task.

    Raises:
        ValueError: Sizes that do not fit each other, or weights of another model.
    """

    def __init__(
        self,
        tasks: Any,
        img_size: Sequence[int] = (448, 576),
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        taps: Sequence[int] = (6, 12, 18, 24),
        embed_channels: int = 768,
        channels: int = 768,
        channel_windows: int = 4,
        reweighted: bool = False,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.15,
        norm_cfg: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.task_names = tuple(TaskSet(tasks))
        self.multiple = PATCH * channel_windows
        if width % heads:
            raise ValueError(f'width={width} does not divide into heads={heads}')
        if list(taps) != sorted(set(taps)) or not taps or taps[0] < 1 or taps[-1] != depth:
            raise ValueError(f'taps={tuple(taps)}: expected some of 1 … {depth} in rising order, the last one {depth}')
        if any(side < 1 or side % self.multiple for side in img_size):
            raise ValueError(
                f'img_size={tuple(img_size)}: expected multiples of {self.multiple}, which is {PATCH} times '
                f'channel_windows={channel_windows}; images of other sizes are padded, the weights need these'
            )
        self.grid = (img_size[0] // PATCH, img_size[1] // PATCH)
        self.taps, self.channel_windows = tuple(taps), channel_windows
        self.out_channels = [channels] * len(self.task_names)
        norm = dict(type='BN') if norm_cfg is None else norm_cfg
        self.patch_embed = PatchEmbedding(width, PATCH)
        self.position = nn.Parameter(torch.empty(self.grid[0] * self.grid[1], width))
        self.prompts = nn.ParameterDict({name: torch.empty(1, width) for name in self.task_names})
        self.blocks = nn.ModuleList(
            PromptedBlock(width, heads, self.grid, int(width * mlp_ratio), rate, last=i == depth - 1)
            for i, rate in enumerate(drop_rates(drop_path_rate, depth))
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.fusions = nn.ModuleList(
            PromptFusion(self.task_names, width, heads, embed_channels, channels, reweighted, norm) for _ in taps
        )
        self._initialise()
        if pretrained is not None:
            load_vit(self, pretrained, self.grid, 'position', beside=r'prompts\.|fusions\.|blocks\.\d+\.link\.')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) → a map (B, F, ⌈H / 16⌉, ⌈W / 16⌉) for each task."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        patches = self.patch_embed(images)
        grid = (int(patches.shape[2]), int(patches.shape[3]))
        patches = patches.flatten(2).mT + on_grid(self.position, self.grid, grid)
        # By name: a ParameterDict does not keep the order it was given.
        prompts = torch.cat([self.prompts[name] for name in self.task_names]).expand(len(images), -1, -1)
        tokens, count = torch.cat([prompts, patches], dim=1), len(self.task_names)
        levels = []
        for number, block in enumerate(self.blocks, 1):
            tokens, scores = block(tokens, count, grid, self.channel_windows if number in self.taps else None)
            if scores is not None:
                read = self.norm(tokens) if number == len(self.blocks) else tokens
                fusion = self.fusions[self.taps.index(number)]
                levels.append(fusion(read[:, count:].mT.unflatten(2, grid), scores))
        rows, columns = math.ceil(height / PATCH), math.ceil(width / PATCH)
        return tuple(sum(maps)[..., :rows, :columns] for maps in zip(*levels, strict=True))

    def _initialise(self) -> None:
        """As ViTs are: linear layers and positions normal, 0.02; prompts normal around 1, cut at ±2."""
        self.apply(init_linear)
        nn.init.trunc_normal_(self.position, std=0.02)
        for prompt in self.prompts.values():
            nn.init.trunc_normal_(prompt, mean=1.0, std=1.0, a=-2.0, b=2.0)
