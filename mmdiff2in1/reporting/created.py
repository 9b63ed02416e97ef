"""Created samples as a model sees them: pictures beside their sources, and whether their labels still hold.

T: the noise level of a sample. θ_C is the creator.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.inference.perception import Perception
from mmdiff2in1.synthesis import SampleStore

from .agreement import Agreement
from .errors import in_words, mean_error, pixel_errors, unit_of_errors
from .pictures import Row, Swatch, class_swatch, flat, heat, heat_legend, legend, map_picture, photo
from .source_labels import SourceLabels

MOST_LOOKED_AT = 240
"""Samples, the same number of each T."""
ALL, NOT_CREATED = 'all created', 'not created'


@dataclass(frozen=True)
class Consistency:
    """A table: columns of real images, of all created ones and of each T; a row for each class, and one for all."""

    task: str
    columns: list[str]
    images: list[int]
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
    store: SampleStore,
    sources: SourceLabels | None,
    model: Diff2in1Inferencer,
    count: int,
    whose: str,
    reference: Mapping[str, tuple[str, Agreement]],
) -> Created:
    """Shows `count` samples of a store, spread over T, and compares more of them with their labels.

    Args:
        store: With the samples.
        sources: Of their sources and labels; None: nobody knows.
        model: Sees them.
        count: Rows.
        whose: Name of the model.
        reference: By task what real images are called, and how well the model sees them: to compare with.

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
                found[name].setdefault(level, Agreement(model.tasks[name])).add(seen.maps[name].map, label)
        if record['sample_id'] in shown:
            rows[record['sample_id']] = _row(record, seen, labels, sources, model, whose)
    tables = [_table(name, levels, reference.get(name)) for name, levels in found.items() if levels]
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
    sample, level = record['sample_id'], level_of(record)
    text = [f'“{record["caption"]}”'] if record.get('caption') else []
    image = _source_image(record, sources)
    before = [] if image is None else [photo(image, 'source', f'source image {source}')]
    created = [photo(seen.image, 'created' if level != NOT_CREATED else 'image', f'sample {sample}')]
    whom = 'label of the source' if source and not record.get('layout') else 'its own label'
    several, after, legends = len(model.tasks) > 1, [], []
    for name, task in model.tasks.items():
        of, own = f' ({name.replace("_", " ")})' if several else '', seen.maps[name]
        maps = [own.map]
        if name in labels:
            maps.append(labels[name])
            # Of one task right beside the source; of several all that belongs to a task stands together.
            (after if several else before).append(map_picture(task, labels[name], whom + of, source or sample))
            error = mean_error(pixel_errors(task, own.map, labels[name]))
            text += [] if error is None else [f'{whose} against that label{of}: {in_words(task, error)}']
        after.append(map_picture(task, own.map, f'{whose} sees{of}', sample))
        legends.append(legend(task, maps))
        if own.confidence is not None:
            title = f'confidence{of}, mean {np.nanmean(own.confidence):.2f}'
            after.append(flat(heat(own.confidence, 1.0), title, f'{title} of {sample}'))
    if any(own.confidence is not None for own in seen.maps.values()):
        legends.append(heat_legend('confidence', 1.0, ''))
    return Row(f'{source} at {level}' if source else f'{sample} ({level})', text, [*before, *created, *after], legends)


def _source_image(record: dict, sources: SourceLabels | None) -> np.ndarray | None:
    try:
        return None if sources is None else sources.image(record)
    except (ValueError, OSError):
        return None


def _table(name: str, levels: Mapping[str, Agreement], reference: tuple[str, Agreement] | None) -> Consistency:
    # With one T its column and that of all would be the same.
    columns = sorted(levels if len(levels) > 2 else set(levels) - {ALL}, key=_order)
    agreements = [levels[column] for column in columns]
    if reference is not None:
        columns, agreements = [reference[0], *columns], [reference[1], *agreements]
    task, classes = agreements[0].task, []
    for k in range(task.num_classes):
        ious = [agreement.iou(k) for agreement in agreements]
        if any(iou is not None for iou in ious):
            classes.append((class_swatch(task, k), [_percent(iou) for iou in ious]))
    overall = [each.overall for each in agreements]
    return Consistency(
        task=name.replace('_', ' '),
        columns=columns,
        images=[agreement.images for agreement in agreements],
        overall=[_percent(o) if task.num_classes else '–' if o is None else f'{o:.3g}' for o in overall],
        overall_title='pixels that agree, %'
        if task.num_classes
        else f'mean error, {unit_of_errors(task) or "in its own unit"}',
        classes=classes,
    )


def _percent(share: float | None) -> str:
    return '–' if share is None else f'{100 * share:.1f}'
