"""Negative log-likelihood of a normal under the angular von Mises-Fisher distribution (Bae et al., ICCV 2021).

B samples, * any shape: (H, W) of maps or N of sampled points; μ predicted, n true direction, κ concentration (1/rad).
"""

import math

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .masked_mean import at_least_float32, masked_mean


@MODELS.register_module()
class AngularVMFLoss(nn.Module):
    """Mean over pixels of −log(κ² + 1) + κθ + log(1 + e^(−κπ)), θ the angle between μ and n (Bae et al., Eq. 6).

    That is −log p(n) for p = (κ² + 1) e^(−κθ) / (2π (1 + e^(−κπ))) on the sphere, without the constant log 2π.

    Args:
        loss_weight: Factor of the mean.
        drop_aligned: Pixels with |cos θ| of at least this carry no loss and do not count, as published: arccos has no
            finite gradient there. None: all pixels count; θ is computed in a form whose gradient is finite everywhere.
        loss_name: Key of the loss; must hold "loss" to be trained on.

    Raises:
        ValueError: `drop_aligned` outside (0, 1].
    """

    def __init__(
        self, loss_weight: float = 1.0, drop_aligned: float | None = 0.999, loss_name: str = 'loss_angular_vmf'
    ):
        super().__init__()
        if drop_aligned is not None and not 0 < drop_aligned <= 1:
            raise ValueError(f'drop_aligned={drop_aligned}: expected a cosine in (0, 1], or None to keep all pixels')
        self.loss_weight, self.drop_aligned, self.loss_name = loss_weight, drop_aligned, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel counts.

        Args:
            pred: (B, 4, *), μ of any length and κ ≥ 0, as a task with κ activates it.
            target: (B, 3, *), unit vectors, zero where not known.
            weight: (B, 1, *) of the pixels, at least 0; None: 1.

        Raises:
            ValueError: Other shapes.
        """
        if pred.shape[1] != 4 or target.shape[1] != 3 or pred.shape[2:] != target.shape[2:]:
            raise ValueError(
                f'AngularVMFLoss: found a prediction {tuple(pred.shape)} and a target {tuple(target.shape)}, expected '
                '(B, 4, *) and (B, 3, *); the task of the head must be dict(type="SurfaceNormal", kappa=True)'
            )
        pred = at_least_float32(pred)
        target = target.to(pred.dtype)
        vectors, kappa = F.normalize(pred[:, :3], dim=1), pred[:, 3]
        cosine = (vectors * target).sum(1)
        counts = (target != 0).any(1) & (vectors != 0).any(1)
        if self.drop_aligned is not None:
            counts = counts & (cosine.detach().abs() < self.drop_aligned)
        # atan2(0, 0) has no gradient; in a torch that gives nan there a mask afterwards would not help: 0 · nan.
        cosine = torch.where(counts, cosine, 1)
        sine = torch.linalg.vector_norm(torch.linalg.cross(vectors, target, dim=1), dim=1)
        theta = torch.atan2(sine, cosine)
        # hypot squares nothing, softplus raises nothing: both stay finite for every κ.
        loss = kappa * theta - 2 * torch.hypot(kappa, torch.ones_like(kappa)).log() + F.softplus(-math.pi * kappa)
        return self.loss_weight * masked_mean(loss, counts, None if weight is None else weight[:, 0])
