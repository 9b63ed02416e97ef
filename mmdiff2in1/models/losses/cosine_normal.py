"""One minus the cosine between predicted and true normals, for heads that predict no κ."""

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .masked_mean import at_least_float32, masked_mean


@MODELS.register_module()
class CosineNormalLoss(nn.Module):
    """Mean over pixels of 1 − cos θ.

    Args:
        loss_weight: Factor of the mean.
        loss_name: Key of the loss; must hold "loss" to be trained on.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_cosine_normal'):
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel is known.

        Args:
            pred: (B, 3, *), vectors of any length.
            target: (B, 3, *), unit vectors, zero where not known.
            weight: (B, 1, *) of the pixels, at least 0; None: 1.

        Raises:
            ValueError: Other shapes.
        """
        if pred.shape != target.shape or pred.shape[1] != 3:
            raise ValueError(
                f'CosineNormalLoss: found a prediction {tuple(pred.shape)} and a target {tuple(target.shape)}, '
                'expected (B, 3, *) for both; a head with κ needs AngularVMFLoss'
            )
        pred = at_least_float32(pred)
        distance = 1 - (F.normalize(pred, dim=1) * target).sum(1)
        return self.loss_weight * masked_mean(distance, (target != 0).any(1), None if weight is None else weight[:, 0])
