"""Mean squared error over samples, with the peak signal-to-noise ratio for images."""

import math

import numpy as np
from mmengine.evaluator import BaseMetric


class MeanSquaredError(BaseMetric):
    """Mean of the ``mse`` that a model gives for each sample.

    Args:
        psnr: Also report ``psnr``, the mean over samples of -10 · log10(mse) in dB; ``mse`` must then be in units of
            the 0 … 1 range of the images.
    """

    default_prefix = 'validation'

    def __init__(self, psnr: bool = False):
        super().__init__()
        self.psnr = psnr

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Keeps the error of each sample."""
        self.results += [float(sample['mse']) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """``mse`` and, where asked for, ``psnr``."""
        metrics = {'mse': float(np.mean(results))}
        if self.psnr:
            metrics['psnr'] = float(np.mean([-10 * math.log10(max(error, 1e-12)) for error in results]))
        return metrics
