"""Angular error of surface normals, pooled over all pixels of all images without keeping a pixel.

N valid pixels of an image; angles in degrees.
"""

import math
from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from torch import Tensor

BINS_PER_DEGREE = 1000
BINS = 180 * BINS_PER_DEGREE


@METRICS.register_module()
class SurfaceNormalMetric(BaseMetric):
    """Mean, median and RMSE of the angle to the ground truth, and shares of pixels below thresholds (Bae et al.).

    Read are `pred_normal_map` (3 or more, H, W), of which the first three channels count, at any length, and
    `gt_normal_map` (3, H, W), where the zero vector is invalid. Each valid pixel of the set weighs the same. Angles are
    2·atan2(|p - g|, |p + g|) in float64, accurate at 0° and 180° too. A prediction of length zero is 90° off, one that
    is not finite 180°.

    Figures: `mean`, `median`, `rmse` in degrees; `below_<threshold>`, angle < threshold, in percent of the pixels.

    An image leaves behind its sums; mmengine collects them, drops what the sampler padded, and they are added exactly
    rounded (`math.fsum`) in whatever order they come. The median is read from counts of angles in bins of 0.001°,
    int64, 1.4 MB whatever the number of images, which the processes add up: it is the centre of the bin (for even
    counts, of the two) that holds the true median, hence at most 0.0005° off. Any number of processes gives the
    figures of one.

    Args:
        thresholds: Degrees. 11.25 is the usual one, which iDisc replaces by 11.5: `below_11.25` and `below_11.5`.
        per_image_rmse: Also give `rmse_per_image`, the mean over images of each one's RMSE (iDisc).
        collect_device: See mmengine's `BaseMetric`.
        prefix: Of the names of the figures, `normal` unless given.
        collect_dir: See mmengine's `BaseMetric`.

    Raises:
        ValueError: Thresholds outside (0, 180]; when used: maps of different sizes, no valid pixel in the whole set, or
            a sampler that pads otherwise than mmengine's `DefaultSampler`.
    """

    default_prefix = 'normal'

    def __init__(
        self,
        thresholds: Sequence[float] = (5, 7.5, 11.25, 22.5, 30),
        per_image_rmse: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        wrong = [threshold for threshold in thresholds if not 0 < threshold <= 180]
        if wrong:
            raise ValueError(f'thresholds={tuple(thresholds)}: expected degrees in (0, 180], found {wrong}')
        self.thresholds = tuple(thresholds)
        self.per_image_rmse = per_image_rmse
        # The last image is kept apart until it is known whether it was padding.
        self._counts, self._counts_of_last = _no_counts(), _no_counts()

    @property
    def figures(self) -> list[str]:
        """Names of the figures, without prefix."""
        return [
            *('mean', 'median', 'rmse'),
            *(['rmse_per_image'] if self.per_image_rmse else []),
            *(f'below_{threshold:g}' for threshold in self.thresholds),
        ]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts the angles of each sample and keeps its sums; one without ground truth counts for nothing."""
        for sample in data_samples:
            if not self.results:
                self._counts, self._counts_of_last = _no_counts(), _no_counts()
            predicted = sample['pred_normal_map']['data']
            target = sample['gt_normal_map']['data'] if 'gt_normal_map' in sample else torch.zeros_like(predicted[:3])
            angles = angular_errors(predicted, target)
            below = [(angles < threshold).sum().double() for threshold in self.thresholds]
            # One transfer for all of them.
            sums = torch.stack([angles.sum(), angles.square().sum(), *below]).tolist()
            self.results.append((angles.numel(), *sums))
            self._counts += self._counts_of_last
            bins = (angles * BINS_PER_DEGREE).long().clamp(max=BINS - 1)
            self._counts_of_last = torch.bincount(bins, minlength=BINS).cpu()

    def evaluate(self, size: int) -> dict[str, float]:
        """Figures of the first `size` samples over all processes; the same in each."""
        rank, world_size = get_dist_info()
        padding = sum(position * world_size + rank >= size for position in range(len(self.results)))
        if padding > 1:
            raise ValueError(
                f'process {rank} of {world_size} saw {len(self.results)} samples of a set of {size}, {padding} of them '
                "twice: expected at most one. Use sampler=dict(type='DefaultSampler', shuffle=False) to evaluate"
            )
        if self.results and not padding:
            self._counts += self._counts_of_last
        all_reduce(self._counts)
        return super().evaluate(size)

    def compute_metrics(self, results: list[tuple[float, ...]]) -> dict[str, float]:
        """The figures, from the sums of each image and the counts of all."""
        pixels, sums, squares, *below = zip(*results, strict=True)
        total = sum(pixels)
        if total == 0:
            raise ValueError(
                f'none of the {len(results)} normal maps has a valid pixel (all are zero vectors); check the label '
                'files, and that LoadDenseAnnotation stands in the test pipeline'
            )
        if total != int(self._counts.sum()):
            raise ValueError(
                f'{total} pixels in the collected results, {int(self._counts.sum())} in the counts: call '
                'evaluate(size), and give each dataset an evaluator of its own'
            )
        figures = dict(
            mean=math.fsum(sums) / total,
            median=_median(self._counts, total),
            rmse=math.sqrt(math.fsum(squares) / total),
        )
        if self.per_image_rmse:
            of_images = [math.sqrt(square / n) for square, n in zip(squares, pixels, strict=True) if n]
            figures['rmse_per_image'] = math.fsum(of_images) / len(of_images)
        for threshold, counted in zip(self.thresholds, below, strict=True):
            figures[f'below_{threshold:g}'] = 100 * sum(counted) / total
        return figures


def angular_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Angles (N,) in degrees, float64, where the target is not the zero vector.

    Args:
        predicted: (3 or more, H, W).
        target: (3, H, W).

    Raises:
        ValueError: Maps of different sizes, or fewer than three channels.
    """
    if predicted.ndim != 3 or len(predicted) < 3 or target.shape != (3, *predicted.shape[1:]):
        raise ValueError(
            f'pred_normal_map is {tuple(predicted.shape)}, gt_normal_map {tuple(target.shape)}, expected (3 or more, '
            'H, W) and (3, H, W) of one size: predictions have the size of the original image, so in a test pipeline '
            'LoadDenseAnnotation must stand after the resizing'
        )
    target = target.to(predicted.device)
    valid = (target != 0).any(dim=0)
    p, g = (_normalised(vectors[:3, valid].double()) for vectors in (predicted, target))
    angles = 2 * torch.atan2((p - g).norm(dim=0), (p + g).norm(dim=0))
    return torch.rad2deg(angles).nan_to_num(180)


def _normalised(vectors: Tensor) -> Tensor:
    """Unit vectors (3, N); zero stays zero, and what is not finite becomes NaN."""
    length = vectors.norm(dim=0)
    return vectors / length.where(length != 0, 1)


def _no_counts() -> Tensor:
    return torch.zeros(BINS, dtype=torch.int64)


def _median(counts: Tensor, total: int) -> float:
    """Mean of the centres of the bins of the two middle angles, which are one and the same if `total` is odd."""
    middle = torch.tensor([(total - 1) // 2, total // 2])
    bins = torch.searchsorted(counts.cumsum(0), middle, right=True)
    return float((bins.double() + 0.5).mean()) / BINS_PER_DEGREE
