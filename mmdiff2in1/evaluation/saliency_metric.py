"""maxF of saliency: the largest F-measure over thresholds, of counts pooled over the set. T thresholds."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS

from mmdiff2in1.tasks import Saliency

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""0.05 … 0.95, as ATRC and InvPT have them."""
BETA_SQUARED = 0.3
PROTOCOLS = {
    'plain': 'probabilities of the softmax',
    'invpt': "the sigmoid of the softmax's probabilities, as InvPT and TaskPrompter score them",
}


@METRICS.register_module()
class SaliencyMetric(BaseMetric):
    """F = (1 + β²) P R / (β² P + R), β² = 0.3, at the best threshold of the set; salient is what reaches it.

    Protocols:
        plain: The probability p of the salient class. The default.
        invpt: sigmoid(p). InvPT hands the softmax's probability to a meter that was written for logits, so its scores
            lie in [0.5, 0.731] and of the 19 thresholds four do anything: p = 0.20, 0.41, 0.62, 0.85. Published figures
            of InvPT and TaskPrompter are these.

    Figures: `maxF` in percent, and `threshold`. An image leaves behind integers, so any number of processes gives the
    figures of one.

    Args:
        protocol: `plain` or `invpt`.
        thresholds: T of them, rising, in (0, 1).
        collect_device: See mmengine's `BaseMetric`.
        prefix: Of the names of the figures, `saliency` unless given.
        collect_dir: See mmengine's `BaseMetric`.

    Raises:
        ValueError: An unknown protocol, impossible thresholds; when used: maps of different sizes, or no valid pixel.
    """

    default_prefix = 'saliency'

    def __init__(
        self,
        protocol: str = 'plain',
        thresholds: Sequence[float] = THRESHOLDS,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if protocol not in PROTOCOLS:
            raise ValueError(f'unknown protocol {protocol!r}; known: {", ".join(PROTOCOLS)}')
        rising = all(low < high for low, high in zip((0, *thresholds), (*thresholds, 1), strict=True))
        if not thresholds or not rising:
            raise ValueError(f'thresholds={tuple(thresholds)}: expected rising numbers in (0, 1)')
        self.protocol, self.thresholds = protocol, tuple(thresholds)
        self.task = Saliency()

    @property
    def figures(self) -> list[str]:
        """Names of the figures, without prefix."""
        return ['maxF', 'threshold']

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts of each sample, int64 (3, T); one without ground truth counts for nothing."""
        for sample in data_samples:
            logits = sample[self.task.logits_key]['data']
            if self.task.field not in sample:
                self.results.append(torch.zeros(3, len(self.thresholds), dtype=torch.int64))
                continue
            target = sample[self.task.field]['data'].to(logits.device)
            if logits.ndim != 3 or len(logits) != 2 or target.shape != (1, *logits.shape[1:]):
                raise ValueError(
                    f'{self.task.logits_key} is {tuple(logits.shape)}, {self.task.field} {tuple(target.shape)}, '
                    'expected (2, H, W) and (1, H, W) of one size: predictions have the size of the original image, so '
                    'in a test pipeline LoadDenseAnnotation must stand after the resizing'
                )
            valid = self.task.valid(target)[0]
            score = logits[:, valid].double().softmax(0)[1].nan_to_num(0)
            score = score.sigmoid() if self.protocol == 'invpt' else score
            salient = target[0, valid] == 1
            self.results.append(torch.stack([self._reached(score[salient]), self._reached(score), self._all(salient)]))

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """The figures, from the counts of each image: salient pixels that were found, all found, all salient."""
        right, found, salient = torch.stack(results).sum(0).double().numpy()
        if not salient.any():
            raise ValueError(
                f'none of the {len(results)} samples has a salient pixel in {self.task.field}; check the label files '
                '(1 is salient, 255 says nothing) and that LoadDenseAnnotation stands in the test pipeline'
            )
        print_log(f'saliency: {PROTOCOLS[self.protocol]}, {len(self.thresholds)} thresholds, pooled', 'current')
        precision, recall = right / np.maximum(found, 1), right / salient
        below = BETA_SQUARED * precision + recall
        measure = (1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1)
        best = int(measure.argmax())
        return dict(maxF=100 * float(measure[best]), threshold=self.thresholds[best])

    def _reached(self, score: torch.Tensor) -> torch.Tensor:
        """int64 (T,): how many scores (N,) are at least each threshold."""
        bounds = torch.tensor(self.thresholds, dtype=torch.float64, device=score.device)
        passed = torch.bucketize(score, bounds, right=True)  # thresholds that a score reaches
        counts = torch.bincount(passed, minlength=len(bounds) + 1)
        return counts.flip(0).cumsum(0).flip(0)[1:].cpu()

    def _all(self, salient: torch.Tensor) -> torch.Tensor:
        return salient.sum().cpu().expand(len(self.thresholds))
