"""Binary cross-entropy of edges, which are few (InvPT, TaskPrompter: positive weight 19, divided by 20).

B samples; * any shape, such as (H, W).
"""

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.tasks import Edges

from .masked_mean import at_least_float32, masked_mean


@MODELS.register_module()
class EdgeLoss(nn.Module):
    """Mean over the known pixels of −s y log p − (1 − s) (1 − y) log(1 − p), s the weight of an edge.

    Args:
        edge_share: s in (0, 1).
        loss_weight: Factor of the mean.
        loss_name: Key of the loss; must hold "loss" to be trained on.

    Raises:
        ValueError: s outside (0, 1).
    """

    def __init__(self, edge_share: float = 0.95, loss_weight: float = 1.0, loss_name: str = 'loss_edge') -> None:
        super().__init__()
        if not 0 < edge_share < 1:
            raise ValueError(f'edge_share={edge_share}: expected a weight of edges in (0, 1)')
        self.edge_share, self.loss_weight, self.loss_name = edge_share, loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Scalar; 0 where no pixel counts.

        Args:
            pred: (B, 1, *) logits.
            target: (B, 1, *) probabilities of an edge, 255.0 where nothing is known.
            weight: (B, 1, *) of the pixels, at least 0; None: 1.

        Raises:
            ValueError: Shapes that differ.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f'EdgeLoss: found logits {tuple(pred.shape)} and a target {tuple(target.shape)}, expected (B, 1, *)'
            )
        pred = at_least_float32(pred)
        valid = target != Edges.invalid
        y = target.to(pred.dtype).where(valid, 0)
        losses = -self.edge_share * y * F.logsigmoid(pred) - (1 - self.edge_share) * (1 - y) * F.logsigmoid(-pred)
        return self.loss_weight * masked_mean(losses, valid, weight)
