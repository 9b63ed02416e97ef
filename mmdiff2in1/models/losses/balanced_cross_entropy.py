"""Cross-entropy of two classes of which the rarer weighs more (InvPT's loss of saliency).

B samples; * any shape, such as (H, W).
"""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from .masked_mean import masked_mean
from .pixel_cross_entropy import class_losses


@MODELS.register_module()
class BalancedCrossEntropyLoss(nn.Module):
    """Σ c l / N over the N valid pixels of a batch, c = 1 − r on the background and r on class 1.

    l is the cross-entropy, r the share of the background among these pixels, so both classes get the same sum of
    weights. What divides is the number of pixels, not the sum of their weights.

    Args:
        ignore_index: Of pixels that say nothing.
        loss_weight: Factor of the mean.
        loss_name: Key of the loss; must hold "loss" to be trained on.
    """

    def __init__(self, ignore_index: int = 255, loss_weight: float = 1.0, loss_name: str = 'loss_balanced_ce') -> None:
        super().__init__()
        self.ignore_index, self.loss_weight, self.loss_name = ignore_index, loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel counts.

        Args:
            pred: (B, 2, *) logits.
            target: (B, 1, *) integers 0 and 1, or (B, 2, *) floating-point probabilities, all zero where nothing is
                known.
            weight: (B, 1, *) of the pixels, at least 0, in r as well; None: 1.

        Raises:
            ValueError: Other shapes.
        """
        if pred.shape[1] != 2:
            raise ValueError(f'BalancedCrossEntropyLoss: found logits {tuple(pred.shape)}, expected (B, 2, *)')
        losses, valid = class_losses(pred, target, self.ignore_index)
        background = target[:, 0] if target.is_floating_point() else (target[:, 0] == 0)
        background = background.to(losses.dtype)
        own = None if weight is None else weight[:, 0]
        share = masked_mean(background, valid, own)
        balance = torch.lerp(share, 1 - share, background)
        return self.loss_weight * masked_mean(losses * balance, valid, own)
