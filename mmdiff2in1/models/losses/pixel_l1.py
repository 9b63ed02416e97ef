"""Absolute differences summed over the channels, as a mean over known pixels (InvPT's loss of depth and normals).

B samples, c channels; * any shape, such as (H, W).
"""

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .masked_mean import at_least_float32, masked_mean


@MODELS.register_module()
class PixelL1Loss(nn.Module):
    """Σ |pred − target|₁ / N over the N pixels whose target is not zero in all channels.

    Args:
        unit: The prediction is first brought to unit length; the target is taken as it is.
        loss_weight: Factor of the mean.
        loss_name: Key of the loss; must hold "loss" to be trained on.
    """

    def __init__(self, unit: bool = False, loss_weight: float = 1.0, loss_name: str = 'loss_l1') -> None:
        super().__init__()
        self.unit, self.loss_weight, self.loss_name = unit, loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel counts.

        Args:
            pred: (B, c, *) metres, or vectors.
            target: (B, c, *), zero in all channels where nothing is known.
            weight: (B, 1, *) of the pixels, at least 0; None: 1.

        Raises:
            ValueError: Shapes that differ.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f'PixelL1Loss: found a prediction {tuple(pred.shape)} and a target {tuple(target.shape)}, expected one '
                'shape (B, c, *)'
            )
        pred = at_least_float32(pred)
        pred = F.normalize(pred, dim=1) if self.unit else pred
        difference = (pred - target).abs().sum(1)
        return self.loss_weight * masked_mean(
            difference, (target != 0).any(1), None if weight is None else weight[:, 0]
        )
