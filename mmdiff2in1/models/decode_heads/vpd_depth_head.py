"""VPDDepthDecodeHead: VPD's depth head for images of any size, its output on the pixels of the input.

B samples; H, W the input; cells: features at a quarter of the finest level's resolution, 32 pixels wide on SD.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import VPDDepthHead
from mmseg.registry import MODELS, TASK_UTILS
from torch import Tensor

from mmdiff2in1.tasks import DenseTask

from .dense_task_head import build_losses, input_size, summed_losses, targets


@MODELS.register_module()
class VPDDepthDecodeHead(VPDDepthHead):
    """The layers of mmseg's VPDDepthHead, under the same names, as a head for the task depth.

    Four levels are brought to the cells; three deconvolutions and two doublings make each cell 32 × 32 values. The
    output therefore lies on the pixels from the top left corner on, without a resize on SD; what reaches beyond the
    input, padding, is cut off. mmseg's head stretches the output onto the ground truth instead, which misses it
    wherever the two cover different areas, and needs sides of an even number of cells.

    VPD pads images of 480 × 480 with zeros to 512 × 512, aggregates features of all, and cuts the last row and column
    of cells off before it decodes: `feature=dict(preset='vpd_depth')` of the backbone, whose pyramid keeps the padding,
    and `fmap_border=1`. With `fmap_border=0` it decodes the padding too and cuts later, for inputs of changing sizes.

    Args:
        task: `dict(type='Depth', …)`.
        stride: Pixels per value of the finest level: the downscaling of the VAE, 8 on SD.
        loss_decode: One loss or several; None: the task's own.
        **head: Arguments of mmseg's VPDDepthHead, among them `fmap_border`, cells (rows, columns) to cut off.

    Raises:
        ValueError: A task without exactly one channel; when used: `fmap_border` cuts off part of the input.
    """

    def __init__(
        self, task: dict, stride: int = 8, loss_decode: dict | Sequence[dict] | None = None, **head: Any
    ) -> None:
        built: DenseTask = TASK_UTILS.build(task)
        if built.channels != 1:
            raise ValueError(f'VPDDepthDecodeHead puts out one channel, {built!r} has {built.channels}')
        # VPD starts its last layers like the decoder, near zero; mmseg's head starts them with a deviation of 0.02.
        last = dict(type='Normal', name='depth_pred_layer', std=0.001)
        init_cfg = dict(type='TruncNormal', std=0.02, layer=['Conv2d', 'Linear'], override=last)
        super().__init__(**{'init_cfg': init_cfg, **head})
        self.task = built
        self.loss_decode = build_losses(loss_decode or built.loss)
        self.cell = 4 * stride

    def extra_repr(self) -> str:
        """Beside the layers; mmseg's asks for what this head has not."""
        return f'task={self.task!r}, fmap_border={self.fmap_border}'

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Four feature maps, fine to coarse, each of half the sides of the one before, rounded up → raw output."""
        finest, fine, coarse, coarsest = inputs
        rows, columns = coarse.shape[-2:]
        coarsest = F.interpolate(coarsest, scale_factor=2)[..., :rows, :columns]
        cells = self.conv_aggregation(torch.cat([self.conv1(finest), self.conv2(fine), coarse, coarsest], dim=1))
        below, right = self.fmap_border
        return self.depth_pred_layer(self.decoder(cells[..., : rows - below, : columns - right].contiguous()))

    def loss_by_feat(self, pred_depth_map: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of the metres on the pixels of the ground truth."""
        target, weight = targets(batch_data_samples, self.task)
        depth = self._on_pixels(pred_depth_map, tuple(target.shape[-2:]))
        return summed_losses(self.loss_decode, depth, target, weight)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Metres (B, 1, H, W)."""
        return self._on_pixels(seg_logits, input_size(batch_img_metas))

    def _on_pixels(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Raw output (B, 1, *, *), a grid from the top left corner on → metres (B, 1, *size)."""
        depth = self.task.activate(raw.float())
        per_cell = 4 * 2 ** len(self.decoder.deconv_layers[::3])
        if per_cell != self.cell:
            covered = tuple(side * self.cell // per_cell for side in depth.shape[-2:])
            depth = self.task.resize_output(depth, covered)
        height, width = size
        if depth.shape[-2] < height or depth.shape[-1] < width:
            needed = tuple(math.ceil(side / self.cell) for side in size)
            found = tuple(side // self.cell for side in depth.shape[-2:])
            raise ValueError(
                f'VPDDepthDecodeHead: {found} cells of {self.cell} pixels were decoded, an input of {size} has '
                f'{needed}; fmap_border={tuple(self.fmap_border)} must cut padding alone, and stride be that of the '
                'finest features'
            )
        return depth[..., :height, :width]
