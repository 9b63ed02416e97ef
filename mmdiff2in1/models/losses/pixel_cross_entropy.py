"""Cross-entropy as a mean over the pixels that say something (InvPT: sum / number of valid pixels).

B samples, K classes; * any shape, such as (H, W).
"""

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .masked_mean import at_least_float32, masked_mean


@MODELS.register_module()
class PixelCrossEntropyLoss(nn.Module):
    """Σ −log p(class) / N over the N pixels with a class, at least 1; mmseg's divides by all pixels.

    Args:
        ignore_index: Of pixels that say nothing.
        loss_weight: Factor of the mean.
        loss_name: Key of the loss; must hold "loss" to be trained on.
    """

    def __init__(self, ignore_index: int = 255, loss_weight: float = 1.0, loss_name: str = 'loss_pixel_ce') -> None:
        super().__init__()
        self.ignore_index, self.loss_weight, self.loss_name = ignore_index, loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel counts.

        Args:
            pred: (B, K, *) logits.
            target: (B, 1, *) integer classes, or (B, K, *) floating-point probabilities, all zero where nothing is
                known.
            weight: (B, 1, *) of the pixels, at least 0; None: 1.

        Raises:
            ValueError: Other shapes.
        """
        losses, valid = class_losses(pred, target, self.ignore_index)
        return self.loss_weight * masked_mean(losses, valid, None if weight is None else weight[:, 0])


def class_losses(pred: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy (B, *) of each pixel, 0 where the target says nothing, and where it says something, bool (B, *).

    Args:
        pred: (B, K, *) logits.
        target: See `PixelCrossEntropyLoss.forward`.
        ignore_index: Of pixels that say nothing.

    Raises:
        ValueError: Other shapes, or one-hot integers.
    """
    soft = target.is_floating_point()
    if target.shape != (len(pred), pred.shape[1] if soft else 1, *pred.shape[2:]):
        raise ValueError(
            f'found logits {tuple(pred.shape)} and a target {tuple(target.shape)} of {target.dtype}, expected '
            '(B, K, *) and integer classes (B, 1, *) or floating-point probabilities (B, K, *)'
        )
    pred = at_least_float32(pred)
    if soft:
        return F.cross_entropy(pred, target.to(pred.dtype), reduction='none'), (target != 0).any(1)
    classes = target[:, 0].long()
    return F.cross_entropy(pred, classes, ignore_index=ignore_index, reduction='none'), classes != ignore_index
