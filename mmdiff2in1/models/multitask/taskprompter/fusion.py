"""Features of each task from the patches of one block, weighed by the scores of the task's prompt.

B batch; T tasks; C channels of the patches, A heads; h × w patches; F channels of a task's feature.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ...recomputing import recomputed
from .block import PromptScores
from .channel_windows import over_windows


class TaskFeature(nn.Module):
    """The feature of one task. What is cheap to compute is not kept for the backward pass, see `recomputed`.

    Args:
        width: C.
        embed_channels: Channels of the features weighed by places and by channels, before they are joined.
        channels: F.
        norm_cfg: The batch norm.
    """

    def __init__(self, width: int, embed_channels: int, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, embed_channels, 1)
        self.channel = nn.Conv2d(width, embed_channels, 1)
        self.join = nn.Conv2d(2 * embed_channels, channels, 1)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        self.refine = nn.Sequential(
            build_norm_layer(norm_cfg, channels)[1], nn.GELU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, patches: Tensor, places: Tensor, channels: Tensor) -> Tensor:
        """Patches (B, C, h, w), scores of the places (B, A, h, w) and of the channels (B, C, s, s) → (B, F, h, w)."""
        by_place, by_channel = (
            recomputed(self._by_place, patches, places),
            recomputed(self._by_channel, patches, channels),
        )
        weighed = torch.cat([by_place, by_channel], dim=1)
        return recomputed(self.refine, self.smooth(self.join(weighed)))

    def _by_place(self, patches: Tensor, scores: Tensor) -> Tensor:
        """Each head's slice of the channels times that head's map, added to the patches."""
        slices = patches.unflatten(1, (scores.shape[1], -1))  # (B, A, d, h, w)
        return self.spatial(torch.addcmul(slices, slices, scores[:, :, None]).flatten(1, 2))

    def _by_channel(self, patches: Tensor, scores: Tensor) -> Tensor:
        """Each channel times its score in the window, added to the patches."""
        size = (int(patches.shape[2]), int(patches.shape[3]))
        return self.channel(torch.addcmul(patches, patches, over_windows(scores, size)))


class PromptFusion(nn.Module):
    """The features of all tasks at one depth.

    Args:
        tasks: Their names.
        width: C.
        heads: A.
        embed_channels: See `TaskFeature`.
        channels: F.
        reweighted: Each feature becomes a sum of those of all tasks, weighed by the scores between their prompts.
        norm_cfg: The batch norms.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        width: int,
        heads: int,
        embed_channels: int,
        channels: int,
        reweighted: bool,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.features = nn.ModuleDict({task: TaskFeature(width, embed_channels, channels, norm_cfg) for task in tasks})
        self.mixing = None
        if reweighted:
            self.mixing = nn.ModuleDict(
                {task: nn.Sequential(nn.Linear(heads, heads), nn.GELU(), nn.Linear(heads, 1)) for task in tasks}
            )

    def forward(self, patches: Tensor, scores: PromptScores) -> list[Tensor]:
        """Patches (B, C, h, w) and the scores of their block → (B, F, h, w) for each task."""
        found = [
            feature(patches, scores.patches[:, :, t], scores.channels[:, t])
            for t, feature in enumerate(self.features.values())
        ]
        if self.mixing is None:
            return found
        weights = torch.cat(  # (B, T, T): of each task for all of them; the scores (B, A, T) of its row, heads last
            [mix(scores.prompts[:, :, t].mT).mT for t, mix in enumerate(self.mixing.values())], dim=1
        )
        return list(torch.einsum('bts,sbfhw->tbfhw', weights, torch.stack(found)))
