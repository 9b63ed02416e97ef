"""Scale-invariant logarithmic loss of depth (Eigen et al. 2014), square root of it as VPD trains.

B samples; * any trailing shape: maps or sampled points.
"""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ScaleInvariantLogLoss(nn.Module):
    """√(mean d² - λ (mean d)²) with d = ln target - ln pred, over the valid pixels (target > 0).

    Written as √(var d + (1 - λ) (mean d)²), which rounding cannot make negative. Where the error is zero the root has
    no derivative: its gradient is zero there, where mmseg's `SiLogLoss` gives NaN.

    Args:
        loss_weight: Factor of the loss.
        variance_focus: λ in [0, 1]: 1 forgives a wrong scale altogether, 0 is the RMSE of the logarithm. VPD: 0.5.
        per_image: One root per sample, and the mean over the samples that have valid pixels (mmseg). Otherwise one
            root over the pixels of the batch (VPD).
        eps: Metres; predictions below count as this.
        loss_name: Name of the loss; mmengine differentiates the sum of all whose names contain `loss`.

    Raises:
        ValueError: λ outside [0, 1], or an `eps` that is not positive.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        variance_focus: float = 0.5,
        per_image: bool = False,
        eps: float = 1e-6,
        loss_name: str = 'loss_silog',
    ) -> None:
        super().__init__()
        if not 0 <= variance_focus <= 1:
            raise ValueError(f'variance_focus={variance_focus}: expected a number in [0, 1]')
        if not eps > 0:
            raise ValueError(f'eps={eps}: expected metres above 0')
        self.loss_weight = loss_weight
        self.variance_focus = variance_focus
        self.per_image = per_image
        self.eps = eps
        self.loss_name = loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, a scalar in float32 (float64 for float64); 0 if no pixel is valid.

        Args:
            pred: (B, 1, *) metres.
            target: (B, 1, *) metres, 0 = invalid.
            weight: (B, 1, *) of the pixels in both means, at least 0; None: 1.

        Raises:
            ValueError: Shapes that differ.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f'pred is {tuple(pred.shape)}, target {tuple(target.shape)}: expected one shape (B, 1, …); resize the '
                'prediction to the ground truth first'
            )
        dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
        pred, target = (depth.to(dtype).flatten(1 if self.per_image else 0) for depth in (pred, target))
        valid = target > 0
        # Invalid pixels get d = 0 before the logarithm: NaN times 0 would be NaN in the gradient.
        d = target.where(valid, 1).log() - pred.where(valid, 1).clamp(min=self.eps).log()
        if weight is None:
            counted, count = valid, valid.sum(-1).clamp(min=1)
            mean = d.sum(-1) / count
        else:
            counted = weight.to(dtype).flatten(1 if self.per_image else 0) * valid
            count = counted.sum(-1)
            count = count.where(count > 0, 1)
            mean = (d * counted).sum(-1) / count
        variance = ((d - mean[..., None]).square() * counted).sum(-1) / count
        squared = variance + (1 - self.variance_focus) * mean.square()
        roots = squared.clamp(min=torch.finfo(dtype).tiny).sqrt().where(squared > 0, 0)
        images = (counted > 0).any(-1).sum().clamp(min=1)
        return self.loss_weight * roots.sum() / images
