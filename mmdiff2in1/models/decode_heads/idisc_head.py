"""iDisc's head: a pyramid discretised into a few representations per image, and read off them again by every pixel.

Piccinelli et al., "iDisc: Internal Discretization for Monocular Depth Estimation", CVPR 2023. B batch; K channels of
the task; L levels; h × w the finest of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS, TASK_UTILS
from torch import Tensor, nn

from mmdiff2in1.tasks import DenseTask, SurfaceNormal

from .adaptive_feature_partitioning import AdaptiveFeaturePartitioning
from .deformable_pixel_decoder import DeformablePixelDecoder
from .dense_task_head import input_size, summed_losses, targets
from .internal_structured_discretization import InternalStructuredDiscretization


@MODELS.register_module()
class IDiscHead(BaseDecodeHead):
    """Pixel decoder, partitioning and discretisation; the activated outputs of the finest maps are averaged.

    The defaults are those of the published normals model. It reads any pyramid, e.g. Swin's at strides 4 to 32 or a
    U-Net's at 8 to 64: the output has the size of the finest map and is interpolated to that of the image with aligned
    corners, in training as in prediction: normals bicubically, as published, all else bilinearly. (For depth the
    published code takes the exponential of its output where ours follows the task.)

    Args:
        in_channels: Widths of the L maps, fine to coarse.
        task: Task to predict; `SurfaceNormal` with `kappa=True` as published.
        loss_decode: Losses; None: the task's own.
        in_index: Which of the backbone's maps these are; None: the first L.
        channels: Channels of the pixel decoder.
        layers: Layers of the deformable transformer.
        heads: Its heads.
        points: Its points per head and level.
        resolutions: How many maps, from the finest, are discretised and averaged.
        idrs: Internal discrete representations of each resolution.
        idr_channels: Their channels.
        iterations: Rounds in which they come about.
        decoder_layers: Layers in which pixels read them.
        idr_heads: Heads of both attentions.
        expansion: Hidden width of all linear layers, in their input.
        norm_cfg: Normalisation of the convolutions; None: batch normalisation.
        init_cfg: See mmengine.

    Raises:
        ValueError: Fewer maps than `resolutions`, or no resolution.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        task: dict,
        loss_decode: dict | Sequence[dict] | None = None,
        in_index: Sequence[int] | None = None,
        channels: int = 256,
        layers: int = 4,
        heads: int = 4,
        points: int = 4,
        resolutions: int = 3,
        idrs: int = 32,
        idr_channels: int = 128,
        iterations: int = 2,
        decoder_layers: int = 2,
        idr_heads: int = 1,
        expansion: int = 4,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not 1 <= resolutions <= len(in_channels):
            raise ValueError(
                f'resolutions={resolutions}: expected 1 to {len(in_channels)}, the number of maps in in_channels='
                f'{list(in_channels)}'
            )
        built: DenseTask = TASK_UTILS.build(task)
        losses = loss_decode or built.loss
        super().__init__(
            list(in_channels),
            channels,
            num_classes=built.channels,
            threshold=0.0,  # mmseg warns about one channel without it; a task has no threshold
            dropout_ratio=0,
            norm_cfg=norm_cfg,
            in_index=list(range(len(in_channels)) if in_index is None else in_index),
            input_transform='multiple_select',
            loss_decode=[losses] if isinstance(losses, dict) else losses,
            align_corners=True,
            init_cfg=init_cfg,
        )
        del self.conv_seg
        self.task = built
        self.resolutions = resolutions
        self.pixel_decoder = DeformablePixelDecoder(
            list(in_channels)[::-1], channels, layers, heads, points, expansion, norm_cfg
        )
        self.partitioning = AdaptiveFeaturePartitioning(
            resolutions, channels, idrs, idr_channels, iterations, idr_heads, expansion
        )
        self.decoders = nn.ModuleList(
            InternalStructuredDiscretization(
                channels, idr_channels, built.channels, decoder_layers, idr_heads, expansion
            )
            for _ in range(resolutions)
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of the backbone → mean of the activated outputs, (B, K, h, w); vectors are not at unit length."""
        features = self._transform_inputs(inputs)[::-1]
        maps, encoded = (pyramid[-self.resolutions :] for pyramid in self.pixel_decoder(features))
        idrs = self.partitioning(encoded)
        size = maps[-1].shape[-2:]
        outputs = [
            self.task.activate(F.interpolate(decode(x, own).float(), size, mode='bilinear', align_corners=True))
            for decode, x, own in zip(self.decoders, maps, idrs, strict=True)
        ]
        return torch.stack(outputs).mean(dim=0)

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses, by their names, of outputs (B, K, h, w) against the targets of the samples, at the targets' size."""
        target, weight = targets(batch_data_samples, self.task)
        output = self._resized(outputs, tuple(target.shape[-2:]))
        return summed_losses(self.loss_decode, output, target, weight)

    def predict_by_feat(self, outputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Output of the task (B, K, H, W) at the size of the input."""
        output = self._resized(outputs, input_size(batch_img_metas))
        # A cubic overshoots, and no κ is negative; the published loss takes what it gets.
        return torch.cat([output[:, :3], output[:, 3:].clamp(min=0)], dim=1) if self._cubic else output

    @property
    def _cubic(self) -> bool:
        return isinstance(self.task, SurfaceNormal)

    def _resized(self, outputs: Tensor, size: tuple[int, int]) -> Tensor:
        if self._cubic and tuple(outputs.shape[-2:]) != size:
            outputs = F.interpolate(outputs, size, mode='bicubic', align_corners=True)
        return self.task.resize_output(outputs, size, self.align_corners)
