"""Class-balanced targets: every class gets the same share of a batch, as far as the probabilities allow it."""

import torch
from torch import Tensor

ITERATIONS = 3
"""As SENSE has it."""
LEAST = -87.0
"""Logarithm of the smallest score that counts: of the smallest normal number of 32 bits, in which SENSE computes."""


@torch.no_grad()
def sinkhorn(log_scores: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Assignment of N pixels to K classes under equal class sizes, by Sinkhorn's iterations in the logarithm.

    Classes and pixels are scaled in turn until each class that occurs holds as much as the others, and each pixel 1.
    The pixels come last: their sums are exact after any number of iterations, those of the classes in the limit. The
    odds of two classes in two pixels, q_11 q_22 / (q_12 q_21), stay what they were. (SwAV, arXiv 2006.09882; SENSE
    takes such targets for segmentation.)

    Args:
        log_scores: (N, K) at most 0: log-probabilities over a temperature. Scores below e^-87 are none, so that a class
            which no pixel shows gets no pixels: at SENSE's temperature of 0.05, one that is nowhere above 1.3 %.
        iterations: At least 1.

    Returns:
        (N, K) at least 0; each row has the sum 1, or 0 where all its scores are none.
    """
    log_q = log_scores.double().masked_fill(log_scores < LEAST, -torch.inf)
    for _ in range(iterations):
        for axis in (0, 1):
            total = log_q.logsumexp(axis, keepdim=True)
            log_q = log_q - total.masked_fill(total.isinf(), 0)
    return log_q.exp().to(log_scores.dtype)
