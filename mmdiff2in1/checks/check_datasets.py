"""Reads every image and label of a config's data sets and collects what is wrong, what is missing, what is in there.

K: classes. Single pairs, files and fields are judged in the files beside; here is what only a whole set shows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmdiff2in1.core.image_loading import own_loader
from mmdiff2in1.core.problem import Problem

from .config_check import config_problems
from .files import count_images, file_problems
from .image_lists import leading_nowhere, listed_twice
from .in_processes import PairReader
from .known_sets import expected_count
from .labels import LabelRules
from .pair import PairFacts, judge_maps
from .parts import DataPart, data_parts, spread
from .report import DatasetReport, PartReport
from .settings import class_head

# So large a share of equal images is no accident of a public set, which may hold a few.
LEAK = 0.01


def check_datasets(
    cfg: Mapping, limit: int | None = None, workers: int | None = None, progress: bool = True
) -> tuple[DatasetReport, list[DataPart]]:
    """Walks the data sets of the train, val and test loaders of a config.

    Args:
        cfg: A config of this package or of mmseg; a model is not needed.
        limit: Read only so many pairs of each set, evenly spread; files are counted and matched all the same.
        workers: Threads that read, processes where they are many and a set is long; None: one for each core that this
            process may use. The report is the same.
        progress: Show a bar with the time left.

    Returns:
        The report, and the sets that were looked at, for pictures of them.
    """
    head, parts = class_head(cfg), data_parts(cfg)
    reports, digests = [], []
    with PairReader(workers, _modules(cfg)) as reader:
        for part in parts:
            report = PartReport(part.name, str(getattr(part.cfg['type'], '__name__', part.cfg['type'])))
            report.problems += part.problems
            reports.append(report)
            digests.append({})
            if part.dataset is not None:
                digests[-1] = seen = _walk(part, report, head.get('num_classes'), limit, reader, progress)
                report.problems += _repeats(seen)
    for part, report, seen in zip(parts, reports, digests, strict=True):
        if part.loader != 'train':
            for other, theirs in zip(parts, digests, strict=True):
                if other.loader == 'train':
                    report.problems += _leaks(seen, theirs, other.name)
    return DatasetReport(reports, config_problems(cfg, parts)), parts


def _walk(
    part: DataPart, report: PartReport, num_classes: int | None, limit: int | None, reader: PairReader, progress: bool
) -> dict[str, list[str]]:
    """Fills in the report of one set; returns pixel hash → image files."""
    dataset, tasks, rules = part.dataset, part.tasks, part.rules(num_classes)
    loader = own_loader(dataset)
    prefix = getattr(dataset, 'data_prefix', {})
    report.images, report.pairs = str(prefix.get('img_path', '')), len(dataset)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    report.listed, report.on_disk = count_images(dataset)
    report.expected = expected_count(dataset, part.loader, report.on_disk) if prefix else None
    report.problems += [*_counts(report), *file_problems(dataset, infos), *listed_twice(dataset, infos)]
    lost = leading_nowhere(dataset, infos)
    report.problems += lost.values()
    infos = [info for info in infos if info['img_path'] not in lost]
    chosen = [infos[index] for index in spread(len(infos), limit)]
    report.read = len(chosen)
    walk = reader.read(chosen, rules, tasks, loader)
    facts = list(tqdm(walk, part.name, len(chosen), unit='pair', disable=None if progress else True))
    _summarise(report, facts, [info['img_path'] for info in chosen])
    raw = sum((fact.raw for fact in facts if fact.raw is not None), np.zeros(256, np.int64))
    if raw.sum():
        report.problems += _class_shares(report, raw, rules)
    notes, problems = judge_maps(facts, chosen, tasks, prefix)
    report.notes += notes
    report.problems += problems
    digests = defaultdict(list)
    for info, fact in zip(chosen, facts, strict=True):
        if fact.digest:
            digests[fact.digest].append(info['img_path'])
    return digests


def _modules(cfg: Mapping) -> list[str]:
    named = (cfg.get('custom_imports') or {}).get('imports') or []
    return [named] if isinstance(named, str) else list(named)


def _counts(report: PartReport) -> Iterable[Problem]:
    if report.expected is not None and report.expected[0] != report.listed:
        number, why = report.expected
        step = 'Fine for a sample; else unpack the set again, or draw the split anew'
        yield Problem('warning', 'count', report.images, f'{report.listed} images', f'{number} ({why})', step)


def _summarise(report: PartReport, facts: Sequence[PairFacts], images: Sequence[str]) -> None:
    """Problems of the single pairs, sizes, colours, shares of known pixels."""
    report.problems += [problem for fact in facts for problem in fact.problems]
    sizes = sorted((fact.size for fact in facts if fact.size), key=lambda size: (size[0] * size[1], size))
    if sizes:
        report.smallest, report.largest = sizes[0], sizes[-1]
    grey = [image for image, fact in zip(images, facts, strict=True) if fact.grey]
    report.grey = len(grey)
    if grey:
        found = f'no colour in {len(grey)} of {len(facts)} images' + (f', also {grey[1]}' if len(grey) > 1 else '')
        step = 'Nothing to do if they are meant to be grey'
        report.problems.append(Problem('warning', 'grey', grey[0], found, 'colour images', step))
    for key in sorted({key for fact in facts for key in fact.known}):
        report.known[key] = float(np.mean([fact.known[key] for fact in facts if key in fact.known]))


def _class_shares(report: PartReport, raw: np.ndarray, rules: LabelRules) -> Iterable[Problem]:
    """Shares of the classes over all labels; raw: (256,) pixels per raw value."""
    pixels = np.bincount(rules.trained, raw, minlength=256) / raw.sum()
    K = rules.num_classes or int(np.flatnonzero(pixels).max()) + 1
    if len(rules.classes) > 1:  # a head of more is a finding of its own
        K = max(len(rules.classes), int(np.flatnonzero(pixels[:K]).max(initial=0)) + 1)
    names = [*rules.classes, *(f'class {index}' for index in range(len(rules.classes), K))]
    report.ignored = float(pixels[rules.ignore_index]) if rules.ignore_index >= K else 0.0
    report.shares = {name: float(share) for name, share in zip(names, pixels, strict=False) if share > 0}
    report.absent = [name for name in names if name not in report.shares]
    if rules.reduce_zero_label and raw[255] and not raw[K]:
        found = f'raw value 255, and none of class {K} ({names[-1]}), the last one before zero-label reduction'
        step = 'If the files are reduced already, set reduce_zero_label=False: a second reduction shifts every class'
        yield Problem('warning', 'reduced-twice', report.images, found, f'raw values 0 … {K}, 0 unlabelled', step)
    # A part of the files, or of the set, says nothing about what is rare.
    if (
        report.absent
        and report.read == report.pairs
        and (report.expected is None or report.expected[0] <= report.pairs)
    ):
        found = f'{len(report.absent)} of {K} classes in no label: {_few(report.absent)}'
        step = 'The model cannot learn or be scored on them; check the class names, and reduce_zero_label'
        if raw[255] and not rules.reduce_zero_label and rules.ignore_index == 255:
            step += '. 255 is ignored: if it is the foreground of your masks, write it as the number of its class'
        yield Problem('warning', 'absent-classes', report.images, found, 'each class at least once', step)


def _repeats(seen: Mapping[str, list[str]]) -> list[Problem]:
    """One problem for all different files of a set that show the same picture."""
    groups = [sorted(set(files)) for files in seen.values() if len(set(files)) > 1]
    if not groups:
        return []
    more = sum(len(group) - 1 for group in groups)
    found = f'the same pixels as {groups[0][1]}; {more} files of the set repeat another one'
    step = 'Remove them, unless they are meant to weigh more; look whether their labels agree'
    return [Problem('warning', 'repeated', groups[0][0], found, 'each picture once', step)]


def _leaks(seen: Mapping[str, list[str]], trained: Mapping[str, list[str]], other: str) -> list[Problem]:
    """Images of a part that have the same pixels as one of the training set `other`."""
    shared = [digest for digest in seen if digest in trained]
    heavy = len(shared) > LEAK * len(seen)
    problems = []
    for digest in shared:
        same_file = Path(seen[digest][0]).resolve() == Path(trained[digest][0]).resolve()
        found = 'the file itself' if same_file else f'the same pixels as {trained[digest][0]}'
        step = 'Take it out of one of the two: scores on images seen in training are worth nothing'
        expected = f'an image that is not in {other}'
        severity = 'error' if heavy or same_file else 'warning'
        problems.append(Problem(severity, 'leak', seen[digest][0], found, expected, step))
    return problems


def _few(names: Sequence[str], most: int = 8) -> str:
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
