"""odsF of edges: the F-measure at the best threshold of the whole set. H, W: image size; T thresholds."""

import pathlib
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from tqdm import tqdm

from mmdiff2in1.core.folders import without_image_suffix
from mmdiff2in1.core.list_files import ListLine, list_entries
from mmdiff2in1.core.processes import usable_cores

from .edge_counts import THRESHOLDS, counts_of_image

AHEAD = 4
"""Images per process that may wait; then the model waits, and memory is bounded."""

NOT_SCORED = np.zeros((0, 4), np.int64)


@METRICS.register_module()
class EdgeMetric(BaseMetric):
    """The protocol of InvPT and TaskPrompter (SEISM's, with HED's thresholds), in Python.

    `pred_edge` (1, H, W), probabilities, times 255 and cut off as in a PNG → non-maximum suppression → 101 thresholds →
    thinning → a maximum matching with the thinned region borders of a label image → counts, summed over the set. With R
    the share of true pixels that have a partner and P that of predicted ones, F = 2 P R / (P + R).

    Figures, in percent, at the threshold with the largest F: `odsF`, `odsR`, `odsP`; and `threshold` in 0 … 1. An image
    leaves behind integers, which mmengine collects: any number of processes gives the figures of one.

    Contours of a label image: NYUD-MT takes the edge map itself as one, so a line of one pixel stays a line and a wider
    one becomes two. PASCAL-Context takes the full `LabelMap`, in which 255 is a label (`ignore_index=None`), a distance
    of 0.0075 and 2,498 of its images (`image_list`).

    Args:
        max_distance: Share of the image diagonal within which pixels match: 0.0075, NYUD-MT 0.011.
        labels: Key of the label image (1, H, W) in a sample.
        ignore_index: Its value where nothing is known; borders to it are none, and predictions there do not count.
            None: every value is a label.
        thresholds: T, in [0, 1).
        image_list: File with the names of the images to score, one a line, with or without folder and suffix;
            None: all.
        workers: Processes that match, beside this one; None: all cores, shared among the processes of a distributed
            test. 0: this process.
        collect_device: See mmengine's `BaseMetric`.
        prefix: Of the names of the figures, `edge` unless given.
        collect_dir: See mmengine's `BaseMetric`.

    Raises:
        ValueError: An impossible setting; when used: maps of another size than expected, no image with a label, images
            of the list that were not there.
    """

    default_prefix = 'edge'

    def __init__(
        self,
        max_distance: float = 0.0075,
        labels: str = 'gt_edge',
        ignore_index: float | None = 255,
        thresholds: Sequence[float] = THRESHOLDS,
        image_list: str | None = None,
        workers: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if not 0 < max_distance < 1:
            raise ValueError(f'max_distance={max_distance}: expected a share of the diagonal in (0, 1)')
        if not thresholds or not all(0 <= threshold < 1 for threshold in thresholds):
            raise ValueError(f'thresholds={tuple(thresholds)}: expected numbers in [0, 1)')
        self.max_distance, self.labels, self.ignore_index = max_distance, labels, ignore_index
        self.thresholds = tuple(thresholds)
        self.names = None if image_list is None else frozenset(map(_listed_name, list_entries(image_list)))
        self.workers = max(1, usable_cores() // get_world_size()) if workers is None else workers
        self._pool: ProcessPoolExecutor | None = None

    @property
    def figures(self) -> list[str]:
        """Names of the figures, without prefix."""
        return ['odsF', 'odsR', 'odsP', 'threshold']

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Gives each sample to a process that counts; one without a label counts for nothing."""
        for sample in data_samples:
            arguments = self._arguments(sample)
            if arguments is None:
                self.results.append(NOT_SCORED)
            elif self.workers == 0:
                self.results.append(counts_of_image(*arguments))
            else:
                self._pool = self._pool or ProcessPoolExecutor(self.workers, get_context(_method()))
                self.results.append(self._pool.submit(counts_of_image, *arguments))
                _finished(self.results[: -AHEAD * self.workers][-1:])

    def evaluate(self, size: int) -> dict[str, float]:
        """Waits for the counts, then the figures of the first `size` samples over all processes."""
        try:
            waiting = [result for result in self.results if isinstance(result, Future) and not result.done()]
            if waiting:
                hidden = not is_main_process()
                _finished(tqdm(waiting, f'{self.prefix}: matching', unit='image', disable=hidden))
            self.results[:] = [each.result() if isinstance(each, Future) else each for each in self.results]
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None
        return super().evaluate(size)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The figures, from the counts (T, 4) of each image, (0, 4) of one that is not scored."""
        seen = [counts for counts in results if len(counts)]
        if not seen:
            raise ValueError(
                f'none of the {len(results)} samples has a known pixel in {self.labels!r}, or none is in the list; '
                "check that dict(type='LoadDenseAnnotation', task=dict(type='Edges')) stands in the test pipeline"
            )
        if self.names is not None and len(seen) != len(self.names):
            raise ValueError(f'image_list names {len(self.names)} images, {len(seen)} of them were scored')
        kind = f'{len(seen)} images, contours of {self.labels}, within {self.max_distance:g} of the diagonal'
        print_log(f'edge: odsF of {kind}, {len(self.thresholds)} thresholds', 'current')
        found, true, used, predicted = np.sum(seen, axis=0).T
        recall = np.divide(found, true, out=np.ones(len(found)), where=true > 0)
        precision = np.divide(used, predicted, out=np.ones(len(found)), where=predicted > 0)
        total = recall + precision
        measure = np.divide(2 * recall * precision, total, out=np.zeros(len(found)), where=total > 0)
        best = int(measure.argmax())
        figures = dict(odsF=measure[best], odsR=recall[best], odsP=precision[best])
        return {name: 100 * float(value) for name, value in figures.items()} | dict(threshold=self.thresholds[best])

    def _arguments(self, sample: dict) -> tuple[Any, ...] | None:
        """Of `counts_of_image`; None: this sample is not scored."""
        name = pathlib.Path(sample.get('img_path', '')).stem
        if sample.get(self.labels) is None or (self.names is not None and name not in self.names):
            return None
        predicted, labels = sample['pred_edge']['data'], sample[self.labels]['data']
        if predicted.shape != labels.shape or predicted.ndim != 3 or len(predicted) != 1:
            raise ValueError(
                f'pred_edge is {tuple(predicted.shape)}, {self.labels} {tuple(labels.shape)}, expected (1, H, W) of '
                'one size: predictions have the size of the original image, so in a test pipeline the labels must be '
                'loaded after the resizing'
            )
        labels = labels[0].cpu().numpy()
        known = None if self.ignore_index is None else labels != self.ignore_index
        if known is not None and not known.any():
            return None
        written = (predicted[0].float().nan_to_num(0).clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
        return written, labels, known, self.max_distance, self.thresholds


def _listed_name(line: ListLine) -> str:
    """Of an image without folder and suffix, which a list may have or lack; columns behind an image are not read."""
    first = line.text.split()[0]
    path = first if without_image_suffix(first) != first else line.text
    return without_image_suffix(pathlib.PurePosixPath(path).name)


def _finished(futures: Any) -> None:
    for future in futures:
        if isinstance(future, Future):
            future.result()


def _method() -> str:
    # What is counted is NumPy's, which a fork does not disturb; a fresh process would load torch first.
    return 'fork' if 'fork' in get_all_start_methods() else 'spawn'
