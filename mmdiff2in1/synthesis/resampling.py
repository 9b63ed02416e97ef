"""Hard and rare layouts are created more often than others: a weight per source for `make_plan`.

K classes; N sources.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmdiff2in1.core.text_files import json_value, lines_of
from mmdiff2in1.tasks import SemanticSegmentation

from .label_maps import LabelMaps
from .recipe import stable_hash

KINDS: dict[str, dict[str, Any]] = dict(
    hard=dict(scores=None, by='hardness', most=20), rare=dict(task='semantic_segmentation', threshold=1.0)
)
"""Keys of `stages.synthesis.resample` by its type, and what they are without."""


def source_weights(cfg: Config, given: Mapping[str, Any], sources: Sequence[str]) -> dict[str, float]:
    """How often each source is created from compared with the others, by `stages.synthesis.resample`.

    Raises what the functions below raise.
    """
    settings = resample_settings(given)
    if settings['type'] == 'hard':
        return hard_weights(read_scores(settings['scores'], settings['by']), sources, settings['most'])
    return rare_weights(LabelMaps(cfg, settings['task']), sources, settings['threshold'])


def resample_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`stages.synthesis.resample` with all its keys.

    `dict(type='hard', scores=FILE, by='hardness', most=20)`: see `hard_weights`; mmdiff2in1 free-mask
    writes FILE.
    `dict(type='rare', threshold=1.0)`: see `rare_weights`.

    Raises:
        ValueError: Another type, unknown keys, or hard without scores.
    """
    settings = dict(given) if isinstance(given, Mapping) else {}
    kind = settings.pop('type', None)
    if kind not in KINDS:
        raise ValueError(f'resample has type {kind!r}; known: {", ".join(KINDS)}')
    unknown = sorted(set(settings) - set(KINDS[kind]))
    if unknown:
        raise ValueError(f'unknown keys in resample: {", ".join(unknown)}; known: {", ".join(KINDS[kind])}')
    settings = dict(type=kind) | KINDS[kind] | settings
    if kind == 'hard' and not settings['scores']:
        raise ValueError(
            "resample of type 'hard' lacks scores; expected the file that mmdiff2in1 free-mask --scores writes"
        )
    return settings


def read_scores(path: str | Path, by: str) -> dict[str, float]:
    """Source → its score `by`, from lines of JSON with `source` and numbers.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line without source or that score; both with the number of the line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'scores {path}: no such file; write it with mmdiff2in1 free-mask CONFIG CHECKPOINT --scores'
        )
    scores = {}
    for number, line in enumerate(lines_of(path), 1):
        try:
            record = json_value(line)
            scores[record['source']] = float(record[by])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path}:{number}: {line[:60]!r}, expected JSON with source and {by}') from error
    return scores


def hard_weights(scores: Mapping[str, float], sources: Sequence[str], most: int = 20) -> dict[str, float]:
    """FreeMask's shares (Yang et al. 2023, re-sampling of harder masks), by the rank p of a source among N.

    The easiest has rank 1; the share is min(1 + round(p / N · most), most).

    Raises:
        ValueError: Sources without a score, or `most` below 1.
    """
    missing = [source for source in sources if source not in scores]
    if missing:
        raise ValueError(f'{len(missing)} of {len(sources)} sources have no score ({missing[0]}); score this set anew')
    if most < 1:
        raise ValueError(f'most is {most}, expected 1 or more: how often the hardest layout comes for one easiest')
    ranked = sorted(sources, key=lambda source: (scores[source], source))
    return {source: min(1 + round(rank / len(ranked) * most), most) for rank, source in enumerate(ranked, 1)}


def rare_weights(maps: LabelMaps, sources: Sequence[str], threshold: float = 1.0) -> dict[str, float]:
    """Repeat factors (Gupta et al. 2019, LVIS, Sec. 5.1), from the labels alone.

    The largest max(1, √(threshold / f_c)) of the classes c that a source shows; f_c is the share of the sources that
    show c.

    Raises:
        ValueError: A threshold outside (0, 1], sources without a label, or labels without classes.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f'threshold is {threshold}, expected a share in (0, 1] below which a class is rare')
    task = maps.task
    if not isinstance(task, SemanticSegmentation):
        raise ValueError(f"resample of type 'rare' counts classes, but {task.name} has none; use type='hard'")
    maps.check(sources)
    occurs = np.stack([np.bincount(maps.map(s).ravel(), minlength=256)[: task.num_classes] > 0 for s in sources])
    share = occurs.mean(0)
    factor = np.sqrt(np.maximum(threshold / np.where(share > 0, share, 1), 1))
    return {source: float(factor[row].max(initial=1)) for source, row in zip(sources, occurs, strict=True)}


def weighted_order(names: Sequence[str], weights: Mapping[str, float], seed: int) -> Iterator[tuple[str, int]]:
    """(name, seed) without end: at each place of it a name has come in proportion to its weight, to within one.

    The k-th sample of a name stands at (k + u) / weight, u in [0, 1) a hash of the name and seed + k. With equal
    weights these are the rounds of `make_plan`, and its order. A beginning of it is the beginning of every longer one.

    Raises:
        ValueError: A weight that is not above 0.
    """
    wrong = [name for name in names if not weights[name] > 0]
    if wrong:
        raise ValueError(f'source {wrong[0]} has the weight {weights[wrong[0]]}, expected more than 0')

    def place(name: str, count: int) -> tuple[float, str, int]:
        u = (stable_hash('draw', name, seed + count) >> 204) / (1 << 52)
        return (count + u) / weights[name], name, count

    heap = [place(name, 0) for name in names]
    heapq.heapify(heap)
    while heap:
        _, name, count = heap[0]
        yield name, seed + count
        heapq.heapreplace(heap, place(name, count + 1))
