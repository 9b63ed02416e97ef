"""SpectralConv2d: a convolution whose weight is divided by an estimate of its largest singular value.

W: the weight as a matrix, one row per output channel; u a left, v a right singular vector.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv2d(nn.Conv2d):
    """nn.Conv2d with spectral normalisation (Miyato et al. 2018), estimated as in BigGAN's PyTorch code.

    One step of power iteration per forward pass: v = uW / |uW|, u' = vWᵀ / |vWᵀ|, σ = v Wᵀ u'ᵀ = |W vᵀ|. In training u
    becomes u'. torch's own keeps v as well and starts from it, which gives other numbers from the same u.

    Args:
        *conv: See nn.Conv2d.
        eps: Least length that a vector is divided by.
        **settings: See nn.Conv2d.
    """

    u: Tensor

    def __init__(self, *conv, eps: float = 1e-4, **settings) -> None:
        super().__init__(*conv, **settings)
        self.eps = eps
        # It starts at random and is not at unit length; the first step makes it so.
        self.register_buffer('u', torch.randn(1, self.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) → (B, out_channels, h', w')."""
        return self._conv_forward(x, self.weight / self.singular_value(), self.bias)

    def singular_value(self) -> Tensor:
        """σ, 0-dim, differentiable in the weight; in training the estimate goes one step on."""
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            right = F.normalize(self.u @ matrix, eps=self.eps)
            left = F.normalize(right @ matrix.T, eps=self.eps)
            if self.training:
                self.u.copy_(left)
        return (right @ matrix.T @ left.T).squeeze()
