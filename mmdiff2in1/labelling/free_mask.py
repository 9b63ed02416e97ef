"""FreeMask (Yang et al. 2023): created images keep the label that they were created under, where they show it.

A pixel counts if its loss under that label, of a segmentor trained on real images, is at most 1.25 times the mean loss
of its class on the real images; the others are ignored. The filtered label is stored with the sample, and a training
with `labels='stored'` and `GivenLabel` is taught it. How hard a layout is follows from the same class means.

H, W: image size; K classes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from tqdm import tqdm

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import LabelMaps, SampleStore
from mmdiff2in1.tasks import SemanticSegmentation

from .class_losses import TASK, ClassMeans, LossMeter, mean_by_mask, real_pairs

MARGIN = 1.25
REPORT = 'free_mask.json'
NAME = 'FreeMask('
"""Beginning of the marks of its labels."""


def filtered(label: np.ndarray, losses: np.ndarray, means: np.ndarray, margin: float, ignore_index: int) -> np.ndarray:
    """The label (H, W), ignored where the loss (H, W) is above `margin` times the mean (K,) of the class."""
    limits = np.full(256, np.inf)
    limits[: len(means)] = margin * means
    return np.where(losses > limits[label], ignore_index, label).astype(label.dtype)


def free_mask(
    cfg: Config,
    checkpoint: str | Path,
    store: SampleStore | None = None,
    scores: str | Path | None = None,
    margin: float = MARGIN,
    model: str = 'creator',
    device: str | None = None,
    batch_size: int = 8,
) -> dict:
    """Filters the labels of a store, writes how hard each layout is, or both.

    A sample whose label was filtered by the same segmentor, means and margin is passed over, so a killed run goes on.
    One process; nobody else may write to the store meanwhile.

    Args:
        cfg: Of the segmentor; its training set is the real labelled one that the samples were created from.
        checkpoint: Of the segmentor, see `Diff2in1Inferencer`.
        store: Whose samples are filtered, or None.
        scores: File for `hardness_scores`, or None.
        margin: Of the loss of a pixel, see `filtered`.
        model: θ_C, `creator`, or θ_E, `exploiter`, of a self-improving config.
        device: None: a GPU if there is one.
        batch_size: Images per forward pass.

    Returns:
        `margin`, `teacher` (hash of the segmentor), `class_means`, and with a store `samples`, `filtered` (share of
        each class's pixels), `filtered_in_all`. Also in the store's ``free_mask.json``.

    Raises:
        ValueError: A margin of 0 or below, a segmentor of other classes, samples of other sources, or samples with
            labels of their own or of a teacher, in the place of which those of their sources would be written.
        FileNotFoundError: No such store or checkpoint.
    """
    if margin <= 0:
        raise ValueError(f'margin is {margin}, expected more than 0 (FreeMask: {MARGIN})')
    records: Sequence[dict] = [] if store is None else store.records()
    inferencer = Diff2in1Inferencer(cfg, checkpoint, model, device)
    meter = LossMeter(inferencer, batch_size)
    maps = LabelMaps(inferencer.cfg, TASK, meter.task.ignore_index)
    task = _classes(maps)
    if task.num_classes != meter.task.num_classes:
        raise ValueError(
            f'the segmentor predicts {meter.task.num_classes} classes, the training set has {task.num_classes}'
        )
    _check_labels(store, records)
    maps.check([record['source'] for record in records])
    means, own = _on_real_images(meter, maps)
    names = task.classes or [str(k) for k in range(task.num_classes)]
    report: dict[str, Any] = dict(
        margin=margin, teacher=meter.digest(), class_means=dict(zip(names, means.tolist(), strict=True))
    )
    if scores is not None:
        lines = [json.dumps(score) for score in hardness_scores(maps, means, own)]
        write_atomically(Path(scores), '\n'.join([*lines, '']).encode())
    if store is None:
        return report
    digest = hashlib.sha256(means.tobytes()).hexdigest()
    by = f'{NAME}margin={margin:g}, teacher={report["teacher"][:12]}, class_means={digest[:12]})'
    with store.writing('filtering labels'):
        _filter(store, records, meter, maps, means, margin, by)
        report |= _shares(store, maps, names)
        write_atomically(store.folder / REPORT, (json.dumps(report, indent=2) + '\n').encode())
    return report


def hardness_scores(maps: LabelMaps, means: np.ndarray, own: Sequence[float]) -> Iterator[dict]:
    """For each source `hardness`, the mean over its mask of its classes' mean losses (FreeMask's), and `loss`, that of
    its own image (`own`, in the order of `maps.names`); for `resample=dict(type='hard')`."""
    for name, loss in zip(maps.names, own, strict=True):
        label = maps.map(name)
        values = np.append(means, np.zeros(256 - len(means)))[label]
        yield dict(source=name, hardness=mean_by_mask(label, values, _classes(maps).ignore_index), loss=loss)


def _check_labels(store: SampleStore | None, records: Sequence[dict]) -> None:
    labelled = [record for record in records if TASK in record.get('labels', {})]
    others = [record for record in labelled if not record['labels'][TASK].get('by', '').startswith(NAME)]
    if store is not None and others:
        raise ValueError(
            f'{len(others)} of {len(records)} samples in {store.folder} have labels of their own, as a layout composes '
            f"them, or a teacher's ({others[0]['sample_id']}): FreeMask would write those of their sources in their "
            'place; use a store of samples that were created under the labels of their sources'
        )


def _on_real_images(meter: LossMeter, maps: LabelMaps) -> tuple[np.ndarray, list[float]]:
    """Mean loss by class (K,), and of each image."""
    means, own = ClassMeans(meter.task), []
    labels = (maps.map(name) for name in maps.names)
    losses = tqdm(meter.losses(real_pairs(maps)), total=len(maps.names), desc='real images', unit='img')
    for label, loss in zip(labels, losses, strict=True):
        means.add(label, loss)
        own.append(mean_by_mask(label, loss, _classes(maps).ignore_index))
    return means.values, own


def _filter(
    store: SampleStore,
    records: Sequence[dict],
    meter: LossMeter,
    maps: LabelMaps,
    means: np.ndarray,
    margin: float,
    by: str,
) -> None:
    todo = [r for r in records if r.get('labels', {}).get(TASK, {}).get('by') != by or not store.is_whole(r)]
    print_log(f'{store.folder}: {len(todo)} of {len(records)} samples are to be filtered', 'current')

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for record in todo:
            image = read_image(store.image(record))
            yield image, maps.map(record['source'], image.shape[:2])

    for record, losses in zip(
        todo, tqdm(meter.losses(pairs()), total=len(todo), desc='filtering', unit='img'), strict=True
    ):
        label = filtered(maps.map(record['source'], losses.shape), losses, means, margin, _classes(maps).ignore_index)
        store.label(record, {TASK: maps.task.encode(label)}, by)
    store.merge()


def _shares(store: SampleStore, maps: LabelMaps, names: Sequence[str]) -> dict:
    """Shares that were ignored, by class and in all."""
    given, left = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for record in store.records():
        label = read_png(store.labels(record)[TASK])
        given += np.bincount(maps.map(record['source'], label.shape).ravel(), minlength=256)
        left += np.bincount(label.ravel(), minlength=256)
    given, left = given[: len(names)], left[: len(names)]
    lost = 1 - left / np.maximum(given, 1)
    shares = {name: float(share) for name, share, count in zip(names, lost, given, strict=True) if count}
    return dict(
        samples=len(store.records()), filtered=shares, filtered_in_all=float(1 - left.sum() / max(given.sum(), 1))
    )


def _classes(maps: LabelMaps) -> SemanticSegmentation:
    assert isinstance(maps.task, SemanticSegmentation)
    return maps.task
