"""Bae et al.'s decoder: a coarse prediction, refined pixel by pixel where it is least certain.

"Estimating and Exploiting the Aleatoric Uncertainty in Surface Normal Estimation", ICCV 2021. B samples; C = 4: unit
vector and κ; N points. A scale 1/s is that of the input's size divided by s.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS, TASK_UTILS
from torch import Tensor, nn

from ..losses.masked_mean import at_least_float32
from .bae_blocks import GROUPS, NORMS, PointMLP, SkipFusion
from .dense_task_head import build_losses, input_size, summed_losses, targets
from .uncertainty_sampling import grid_coordinates, nearest_aligned, sample_pixels


@MODELS.register_module()
class BaeNormalHead(BaseDecodeHead):
    """Four outputs of one map each, at scales 1/8, 1/4, 1/2 and 1; in training the finer three are made at points.

    Layers, shapes and initialisation are the published ones, and so is the loss: the first output counts everywhere,
    the others at N = `sampling_ratio` · H · W pixels of their scale, of which `importance_ratio` are the least certain
    with ground truth. Prediction refines all pixels. One thing is ours: which pixels have ground truth is read off the
    very pixel that the loss is taken at; the published mask is resized by another rule, half a pixel beside it.

    Args:
        in_channels: Widths of the five maps at strides 2, 4, 8, 16, 32, fine to coarse. A map of odd size is no
            problem: coarser ones are interpolated to it.
        task: A TASK_UTILS config with a κ: `dict(type='SurfaceNormal', kappa=True)`.
        norm: `GN` (group normalisation with weight standardisation; the published NYUv2 model) or `BN` (ScanNet;
            `sync_bn='torch'` in the config of a distributed run synchronises it, as published).
        sampling_ratio: Share of the pixels of a scale that are trained on, in (0, 1].
        importance_ratio: Share of those that are the least certain, in [0, 1].
        widths: Of the decoder at strides 16, 8, 4, 2.
        point_channels: Hidden width of the point heads.
        loss_decode: One loss or several, on (B, 4, *) and (B, 3, *) of any trailing shape; None: the task's own.

    Raises:
        ValueError: A task without κ, an unknown norm, other than five maps and four widths, or a ratio out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (24, 40, 64, 176, 2048),
        task: dict | None = None,
        norm: str = 'GN',
        sampling_ratio: float = 0.4,
        importance_ratio: float = 0.7,
        widths: Sequence[int] = (1024, 512, 256, 128),
        point_channels: int = 128,
        loss_decode: dict | Sequence[dict] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        dense_task = TASK_UTILS.build(task or dict(type='SurfaceNormal', kappa=True))
        if not getattr(dense_task, 'kappa', False):
            raise ValueError(f'found {dense_task}, expected a task with κ, whose uncertainty guides the sampling: '
                             "task=dict(type='SurfaceNormal', kappa=True)")  # fmt: skip
        if norm not in NORMS:
            raise ValueError(f'unknown norm {norm!r}; known: {", ".join(NORMS)}')
        if len(in_channels) != 5 or len(widths) != 4 or (norm == 'GN' and any(width % GROUPS for width in widths)):
            raise ValueError(
                f'found in_channels={tuple(in_channels)} and widths={tuple(widths)}, expected five maps at strides 2 '
                f'to 32 and four widths, which GN needs to be multiples of {GROUPS}'
            )
        if not (0 < sampling_ratio <= 1 and 0 <= importance_ratio <= 1):
            raise ValueError(f'{sampling_ratio=}, {importance_ratio=}: expected shares, the first of them above 0')
        super().__init__(
            list(in_channels),
            widths[-1],
            num_classes=dense_task.channels,
            dropout_ratio=0,
            in_index=list(range(5)),
            input_transform='multiple_select',
            loss_decode=[],
            align_corners=True,
            init_cfg=init_cfg,
        )
        del self.conv_seg
        self.task, self.sampling_ratio, self.importance_ratio = dense_task, sampling_ratio, importance_ratio
        self.loss_decode = build_losses(loss_decode or dense_task.loss)
        *skips, coarsest = in_channels
        self.bottleneck = nn.Conv2d(coarsest, coarsest, 1)
        inputs = [coarsest, *widths[:-1]]
        self.fusions = nn.ModuleList(
            SkipFusion(before + skip, after, norm)
            for before, skip, after in zip(inputs, reversed(skips), widths, strict=True)
        )
        self.coarse_output = nn.Conv2d(widths[1], dense_task.channels, 3, padding=1)
        self.point_heads = nn.ModuleList(PointMLP(w, point_channels, dense_task.channels) for w in widths[1:])

    def forward(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        """Maps of the backbone or neck → decoder maps at strides 8, 4, 2, and the coarse output (B, C, h, w) of 1/8."""
        *skips, coarsest = self._transform_inputs(inputs)
        x, maps = self.bottleneck(coarsest), []
        for fusion, skip in zip(self.fusions, reversed(skips), strict=True):
            x = fusion(x, skip)
            maps.append(x)
        return dict(maps=maps[1:], coarse=self._activate(self.coarse_output(maps[1])))

    def loss_by_feat(self, outputs: dict[str, Any], batch_data_samples: list) -> dict[str, Tensor]:
        """Losses, summed over the scales; which points they are taken at is drawn anew in every call."""
        target, weight = targets(batch_data_samples, self.task)
        output, size = outputs['coarse'], tuple(target.shape[-2:])
        coarse = self.task.resize_output(output, size, align_corners=True)
        losses = summed_losses(self.loss_decode, coarse, target, weight)
        for head, features, finer in self._scales(outputs):
            output = _resized(output, finer)
            own_target = nearest_aligned(target, finer)
            index = sample_pixels(
                output[:, 3].detach(), self.task.valid(own_target)[:, 0], self.sampling_ratio, self.importance_ratio
            )
            coordinates = grid_coordinates(index, finer).to(features.dtype)
            sampled = F.grid_sample(features, coordinates, mode='bilinear', align_corners=True)[:, :, 0]
            points = self._activate(head(sampled, _at(output, index)))
            own_weight = None if weight is None else _at(nearest_aligned(weight, finer), index)
            for name, value in summed_losses(self.loss_decode, points, _at(own_target, index), own_weight).items():
                losses[name] = losses[name] + value
            # The next scale starts from the refined points, and interpolated values elsewhere.
            places = index[:, None].expand_as(points)
            output = output.flatten(2).scatter(2, places, points).view_as(output)
        return losses

    def predict_by_feat(self, outputs: dict[str, Any], batch_img_metas: list[dict]) -> Tensor:
        """Output (B, C, H, W) at the size of the inputs, every pixel refined at every scale."""
        output = outputs['coarse']
        for head, features, finer in self._scales(outputs):
            refined = head(_resized(features, finer).flatten(2), _resized(output, finer).flatten(2))
            output = self._activate(refined).unflatten(2, finer)
        return self.task.resize_output(output, input_size(batch_img_metas), align_corners=True)

    def _scales(self, outputs: dict[str, Any]) -> list[tuple[nn.Module, Tensor, tuple[int, int]]]:
        """Per refinement: its head, the map that it reads, and the size that it refines to (1/4, 1/2, 1)."""
        maps = outputs['maps']
        height, width = maps[-1].shape[-2:]
        sizes = [tuple(x.shape[-2:]) for x in maps[1:]] + [(2 * height, 2 * width)]
        return list(zip(self.point_heads, map(at_least_float32, maps), sizes, strict=True))

    def _activate(self, raw: Tensor) -> Tensor:
        """Of a map (B, C, h, w) or points (B, C, N), in float32."""
        raw = at_least_float32(raw)
        return self.task.activate(raw) if raw.ndim == 4 else self.task.activate(raw[..., None])[..., 0]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; vectors are not brought back to unit length before a point head reads them, as published."""
    return F.interpolate(maps, size, mode='bilinear', align_corners=True)


def _at(maps: Tensor, index: Tensor) -> Tensor:
    """Maps (B, c, H, W) at pixels (B, N): (B, c, N)."""
    maps = maps.flatten(2)
    return maps.gather(2, index[:, None].expand(-1, maps.shape[1], -1))
