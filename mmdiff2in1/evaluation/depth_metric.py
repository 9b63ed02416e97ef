"""Errors of depth maps under a named protocol: pooled pixels (NYUD-MT) or image by image (Eigen, VPD).

d depth in metres; N valid pixels of an image.
"""

import math
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from torch import Tensor

AVERAGES = ('pixels', 'images')
EIGEN_CROP = slice(45, 471), slice(41, 601)
"""Rows and columns of NYUv2's 480 × 640 that Eigen et al. score."""


@METRICS.register_module()
class PooledDepthMetric(BaseMetric):
    """The usual errors of `pred_depth_map` against `gt_depth_map`, both (1, H, W) in metres.

    Scored are pixels whose true depth lies between `min_depth` and `max_depth`, both excluded; 0 is invalid.
    Predictions are clamped to the same range, as Eigen's protocol does; what is no number counts as `min_depth`. (VPD
    replaces infinite values and NaN only; its sigmoid keeps to the range by itself.) With p predicted, g true, and
    e = ln p - ln g:

    `rmse` √mean (p - g)²; `rmse_log` √mean e²; `abs_rel` mean |p - g| / g; `sq_rel` mean (p - g)² / g; `log10` mean
    |log10 p - log10 g|; `silog` √(mean e² - (mean e)² / 2), as VPD and mmseg define it; `d1`, `d2`, `d3` share of
    max(p / g, g / p) < 1.25, 1.25², 1.25³, in 0 … 1.

    An image leaves behind ten sums, which mmengine collects, dropping what the sampler padded; they are added exactly
    rounded, so that any number of processes gives the figures of one.

    Protocols:
        NYUD-MT (InvPT, TaskPrompter): the defaults with `max_depth=80`, TaskPrompter's limit; InvPT has none.
        Eigen / VPD on NYUv2: `average='images', crop='eigen'`; agrees with mmseg's `DepthMetric(crop_type='nyu_crop',
            min_depth_eval=1e-3, max_depth_eval=10)`.

    Args:
        min_depth: Metres, > 0.
        max_depth: Metres.
        crop: None, or `eigen`: rows 45 to 470 and columns 41 to 600 of maps of 480 × 640.
        average: `pixels`: all pixels of the set weigh the same. `images`: the mean of each image's figures; images
            without a valid pixel are left out.
        collect_device: See mmengine's `BaseMetric`.
        prefix: Of the names of the figures, `depth` unless given.
        collect_dir: See mmengine's `BaseMetric`.

    Raises:
        ValueError: An impossible setting; when used: maps of another size than expected, or no valid pixel in the set.
    """

    default_prefix = 'depth'

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        crop: str | None = None,
        average: str = 'pixels',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if not 0 < min_depth < max_depth:
            raise ValueError(f'min_depth={min_depth}, max_depth={max_depth}: expected 0 < min_depth < max_depth')
        if crop not in (None, 'eigen'):
            raise ValueError(f"unknown crop {crop!r}; known: None, 'eigen'")
        if average not in AVERAGES:
            raise ValueError(f'unknown average {average!r}; known: {", ".join(AVERAGES)}')
        self.min_depth, self.max_depth, self.crop, self.average = min_depth, max_depth, crop, average

    @property
    def protocol(self) -> str:
        """Meaning of the figures, in words; it is logged with them."""
        kind = 'all valid pixels pooled' if self.average == 'pixels' else 'mean over images of the figures of each'
        where = f'{self.crop} crop' if self.crop else 'no crop'
        return f'{kind}, {where}, true depth in ({self.min_depth:g}, {self.max_depth:g}) m, predictions clamped to it'

    @property
    def figures(self) -> list[str]:
        """Names of the figures, without prefix."""
        return list(_figures([1.0] * 10))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps the sums of each sample; one without ground truth counts for nothing."""
        for sample in data_samples:
            predicted = sample['pred_depth_map']['data']
            target = sample['gt_depth_map']['data'] if 'gt_depth_map' in sample else torch.zeros_like(predicted)
            p, g = self._scored(predicted, target)
            self.results.append((g.numel(), *_sums(p, g)))

    def compute_metrics(self, results: list[tuple[float, ...]]) -> dict[str, float]:
        """The figures, from the sums of each image."""
        seen = [entry for entry in results if entry[0]]
        if not seen:
            raise ValueError(
                f'none of the {len(results)} depth maps has a valid pixel ({self.protocol}); check the unit of the '
                'label files (metres after loading) and max_depth'
            )
        print_log(f'depth: {self.protocol}', 'current')
        if self.average == 'pixels':
            return _figures([math.fsum(column) for column in zip(*seen, strict=True)])
        of_images = [_figures(entry) for entry in seen]
        return {name: math.fsum(image[name] for image in of_images) / len(of_images) for name in of_images[0]}

    def _scored(self, predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true depths (N,), float64, of the pixels that count."""
        if predicted.shape != target.shape or predicted.ndim != 3 or len(predicted) != 1:
            raise ValueError(
                f'pred_depth_map is {tuple(predicted.shape)}, gt_depth_map {tuple(target.shape)}, expected (1, H, W) '
                'of one size: predictions have the size of the original image, so in a test pipeline '
                'LoadDenseAnnotation must stand after the resizing'
            )
        if self.crop == 'eigen':
            if predicted.shape[1:] != (480, 640):
                raise ValueError(
                    f"crop='eigen' is defined on NYUv2's maps of 480 × 640, found {tuple(predicted.shape[1:])}; use "
                    'crop=None, or leave the labels at their own size (LoadDenseAnnotation after the resizing)'
                )
            predicted, target = (depth[0][EIGEN_CROP] for depth in (predicted, target))
        target = target.to(predicted.device).double()
        valid = (target > self.min_depth) & (target < self.max_depth)
        scored = predicted[valid].double().nan_to_num(self.min_depth, torch.inf, -torch.inf)
        return scored.clamp(self.min_depth, self.max_depth), target[valid]


def _sums(p: Tensor, g: Tensor) -> list[float]:
    """Sums over an image that the figures are made of."""
    difference, e, ratio = (p - g).abs(), p.log() - g.log(), torch.maximum(p / g, g / p)
    terms = (
        difference.square(),
        e.square(),
        e,
        difference / g,
        difference.square() / g,
        (p.log10() - g.log10()).abs(),
        *(ratio < 1.25**power for power in (1, 2, 3)),
    )
    return torch.stack([term.sum().double() for term in terms]).tolist()


def _figures(sums: Sequence[float]) -> dict[str, float]:
    """From the number of pixels and what :func:`_sums` gives."""
    squares, squared_e, e, abs_rel, sq_rel, log10, d1, d2, d3 = (value / sums[0] for value in sums[1:])
    return dict(
        rmse=math.sqrt(squares),
        rmse_log=math.sqrt(squared_e),
        abs_rel=abs_rel,
        sq_rel=sq_rel,
        log10=log10,
        silog=math.sqrt(squared_e - e * e / 2),
        d1=d1,
        d2=d2,
        d3=d3,
    )
