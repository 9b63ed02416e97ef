"""Created samples as a model sees them: pictures beside their sources, and whether their labels still hold.

K classes; T: the noise level of a sample. θ_C is the creator.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.inference.perception import Perception
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.tasks import DenseTask

from .errors import in_words, mean_error, pixel_errors, unit_of_errors
from .pictures import Row, Swatch, css, flat, heat, heat_legend, legend, map_picture, photo
from .source_labels import SourceLabels

MOST_LOOKED_AT = 240
"""Samples, the same number of each T."""
ALL, NOT_CREATED = 'all', 'not created'


@dataclass
class Agreement:
    """Of one task at one T: pixels (K, K) by label and prediction, or the mean errors of samples."""

    task: DenseTask
    samples: int = 0
    confusion: np.ndarray | None = None
    errors: list[float] = field(default_factory=list)

    def add(self, found: np.ndarray, label: np.ndarray) -> None:
        """One sample."""
        self.samples += 1
        K = self.task.num_classes
        if not K:
            error = mean_error(pixel_errors(self.task, found, label))
            self.errors += [] if error is None else [error]
            return
        known = self.task.known(label) & (found < K)
        pairs = np.bincount(label[known].astype(int) * K + found[known], minlength=K * K).reshape(K, K)
        self.confusion = pairs if self.confusion is None else self.confusion + pairs

    @property
    def overall(self) -> float | None:
        """Share in [0, 1] of the pixels that agree, or the mean error; None where nothing is known."""
        if self.confusion is None:
            return float(np.mean(self.errors)) if self.errors else None
        return float(self.confusion.trace() / self.confusion.sum()) if self.confusion.any() else None

    def iou(self, k: int) -> float | None:
        """Intersection over union in [0, 1] of label and prediction of a class; None where it does not occur."""
        if self.confusion is None:
            return None
        union = self.confusion[k].sum() + self.confusion[:, k].sum() - self.confusion[k, k]
        return float(self.confusion[k, k] / union) if union else None


@dataclass(frozen=True)
class Consistency:
    """A table: a column for each T, a row for each class, and one for all."""

    task: str
    columns: list[str]
    samples: list[int]
    overall: list[str]
    overall_title: str
    classes: list[tuple[Swatch, list[str]]]


@dataclass(frozen=True)
class Created:
    """`looked_at` of `samples` of a store; `problem`: what could not be read, or ''."""

    rows: list[Row]
    consistency: list[Consistency]
    samples: int
    looked_at: int
    problem: str


def created_samples(
    store: SampleStore, sources: SourceLabels | None, model: Diff2in1Inferencer, count: int, whose: str
) -> Created:
    """Shows `count` samples of a store, spread over T, and compares more of them with their labels.

    Args:
        store: With the samples.
        sources: Of their sources and labels; None: nobody knows.
        model: Sees them.
        count: Rows.
        whose: Name of the model.

    Raises ValueError for an empty or a damaged store.
    """
    records = [record for record in store.records() if record.get('image')]
    if not records:
        raise ValueError(f'{store.folder} holds no samples')
    looked_at = spread_over_levels(records, MOST_LOOKED_AT)
    shown = [record['sample_id'] for record in spread_over_levels(looked_at, count)]
    found: dict[str, dict[str, Agreement]] = {name: {} for name in model.tasks}
    rows, problem = {}, ''
    for record in looked_at:
        path = store.image(record)
        if not path.is_file():
            problem = f'{path} is missing.'
            continue
        (seen,) = model(path)
        labels: Mapping[str, np.ndarray] = {}
        if sources is not None:
            try:
                labels = sources.labels(record, model.tasks, seen.image.shape[:2])
            except (ValueError, OSError) as error:
                problem = str(error)
        for name, label in labels.items():
            for level in (ALL, level_of(record)):
                agreement = found[name].setdefault(level, Agreement(model.tasks[name]))
                agreement.add(seen.maps[name].map, label)
        if record['sample_id'] in shown:
            rows[record['sample_id']] = _row(record, seen, labels, sources, model, whose)
    tables = [_table(name, levels) for name, levels in found.items() if levels]
    return Created([rows[name] for name in shown if name in rows], tables, len(records), len(looked_at), problem)


def spread_over_levels(records: Sequence[dict], count: int) -> list[dict]:
    """At most `count` records, the same number of each T as far as it goes, evenly spread over each."""
    levels = defaultdict(list)
    for record in records:
        levels[level_of(record)].append(record)
    chosen = []
    for number, level in enumerate(sorted(levels, key=_order)):
        own = levels[level]
        share = min(len(own), count // len(levels) + (number < count % len(levels)))
        chosen += [own[round(i)] for i in np.linspace(0, len(own) - 1, share)] if share else []
    return chosen


def level_of(record: Mapping[str, Any]) -> str:
    """The column of a sample."""
    return f'T={record["T"]}' if 'T' in record else NOT_CREATED


def _order(level: str) -> tuple[int, str]:
    """T by number, what has none after it; the column of all in front."""
    number = level.removeprefix('T=')
    return (int(number) if number.isdigit() else -1 if level == ALL else 10**9), level


def _row(
    record: dict,
    seen: Perception,
    labels: Mapping[str, np.ndarray],
    sources: SourceLabels | None,
    model: Diff2in1Inferencer,
    whose: str,
) -> Row:
    source = Path(record['source']).name if record['source'] else ''
    title = f'{source} at {level_of(record)}' if source else f'{record["sample_id"]} ({level_of(record)})'
    text = [f'“{record["caption"]}”'] if record.get('caption') else []
    pictures, swatches = [], []
    image = _source_image(record, sources)
    if image is not None:
        pictures.append(photo(image, 'source', f'source image {source}'))
    pictures.append(photo(seen.image, 'created' if 'T' in record else 'image', f'sample {record["sample_id"]}'))
    for name, task in model.tasks.items():
        of = f' ({name.replace("_", " ")})' if len(model.tasks) > 1 else ''
        own = seen.maps[name]
        maps = [own.map]
        if name in labels:
            maps.append(labels[name])
            whom = 'its own label' if record.get('layout') or not source else 'label of the source'
            pictures.insert(
                1 if image is not None else len(pictures), map_picture(task, labels[name], whom + of, source or title)
            )
            error = mean_error(pixel_errors(task, own.map, labels[name]))
            if error is not None:
                text.append(f'{whose} against that label{of}: {in_words(task, error)}')
        pictures.append(map_picture(task, own.map, f'{whose} sees{of}', record['sample_id']))
        swatches += legend(task, maps)
        if own.confidence is not None:
            mean = float(np.nanmean(own.confidence))
            title_ = f'confidence{of}, mean {mean:.2f}'
            pictures.append(flat(heat(own.confidence, 1.0), title_, f'{title_} of {record["sample_id"]}'))
    if any(seen.maps[name].confidence is not None for name in model.tasks):
        swatches += heat_legend('confidence', 1.0, '')
    return Row(title, text, pictures, swatches)


def _source_image(record: dict, sources: SourceLabels | None) -> np.ndarray | None:
    try:
        return None if sources is None else sources.image(record)
    except (ValueError, OSError):
        return None


def _table(name: str, levels: Mapping[str, Agreement]) -> Consistency:
    # With one T its column and that of all would be the same.
    columns = sorted(levels if len(levels) > 2 else set(levels) - {ALL}, key=_order)
    task = levels[columns[0]].task
    agreements = [levels[column] for column in columns]
    title = 'pixels that agree, %' if task.num_classes else f'mean error, {unit_of_errors(task) or "in its own unit"}'
    classes = []
    for k in range(task.num_classes):
        ious = [agreement.iou(k) for agreement in agreements]
        if any(iou is not None for iou in ious):
            names = getattr(task, 'classes', None)
            colour = css(task.palette[k])  # type: ignore[attr-defined]
            classes.append((Swatch(names[k] if names else f'class {k}', colour), [_percent(iou) for iou in ious]))
    overall = [
        _percent(each.overall) if task.num_classes else '–' if each.overall is None else f'{each.overall:.3g}'
        for each in agreements
    ]
    samples = [agreement.samples for agreement in agreements]
    return Consistency(name.replace('_', ' '), columns, samples, overall, title, classes)


def _percent(share: float | None) -> str:
    return '–' if share is None else f'{100 * share:.1f}'
