"""Report of a walk over data sets: per set and in all, as a dictionary and as text."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from mmdiff2in1.core.problem import Problem
from mmdiff2in1.core.text_files import printable


@dataclass
class PartReport:
    """Contents of one data set. Pixel shares are of all pixels read, 0 … 1.

    `pairs`: samples of the data set. `read`: samples read, fewer under a limit. `listed`: images of the split file, or
    of the folder where there is none; `expected`: how many these should be and why, or None. `on_disk`: images in the
    folder. `smallest`, `largest`: (H, W) of the images with the fewest and most pixels. `shares`: class name → share of
    those that occur. `known`: of each other task the share of pixels that hold a value. `notes`: what else the maps of
    these tasks show.
    """

    name: str
    dataset: str
    images: str = ''
    pairs: int = 0
    read: int = 0
    listed: int = 0
    on_disk: int = 0
    expected: tuple[int, str] | None = None
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    grey: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    ignored: float = 0.0
    known: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass
class DatasetReport:
    """All parts of a config. `settings`: problems of the config itself."""

    parts: list[PartReport]
    settings: list[Problem] = field(default_factory=list)

    def problems(self, severity: str) -> list[tuple[str, Problem]]:
        """(part, problem), those of the config under the part `config`."""
        everything = [('config', problem) for problem in self.settings]
        everything += [(part.name, problem) for part in self.parts for problem in part.problems]
        return [entry for entry in everything if entry[1].severity == severity]

    def as_dict(self) -> dict:
        """For a JSON file."""
        counts = {f'{severity}s': len(self.problems(severity)) for severity in ('error', 'warning')}
        return counts | asdict(self)


def report_text(report: DatasetReport, files: int = 3) -> str:
    """For the terminal: what each part holds, then the problems by kind with the first `files` of each."""
    lines = [line for part in report.parts for line in (*_part_lines(part), '')]
    for severity in ('error', 'warning'):
        kinds = defaultdict(list)
        for name, problem in report.problems(severity):
            kinds[name, problem.check].append(problem)
        for (name, check), problems in kinds.items():
            lines.append(f'{severity.upper()} {check} in {name}: {len(problems)}')
            for problem in problems[:files]:
                lines += [f'    {problem.file}', f'        {problem.fault}']
            lines += [f'    … and {len(problems) - files} more in report.json'] if len(problems) > files else []
            steps = dict.fromkeys(problem.next_step for problem in problems)
            lines += [f'    → {step}' for step in list(steps)[:files]]
    errors, warnings = (len(report.problems(severity)) for severity in ('error', 'warning'))
    verdict = 'do not train before the errors are mended' if errors else 'ready to train'
    return printable('\n'.join([*lines, f'{errors} errors, {warnings} warnings: {verdict}']))


def _part_lines(part: PartReport) -> Iterable[str]:
    yield f'{part.name}: {part.dataset} {part.images}'
    if not part.pairs:
        yield '    no pairs'
        return
    expected = f', expected {part.expected[0]} ({part.expected[1]})' if part.expected else ''
    listed = f'{part.listed} images listed{expected}, {part.on_disk} in the folder'
    yield f'    {part.pairs} pairs, {part.read} read; {listed}'
    if part.smallest:
        sizes = ' … '.join(dict.fromkeys(f'{h}×{w}' for h, w in (part.smallest, part.largest)))
        yield f'    images of {sizes} (height × width), {part.grey} without colour'
    if part.shares:
        ranked = Counter(part.shares).most_common()
        shares = ', '.join(f'{name} {share:.1%}' for name, share in ranked[:6])
        yield f'    {len(ranked)} of {len(ranked) + len(part.absent)} classes occur: {shares}' + ', …' * (
            len(ranked) > 6
        )
        yield f'    rarest {ranked[-1][0]} {ranked[-1][1]:.2%}; ignored {part.ignored:.1%} of the pixels'
    for task, share in part.known.items():
        yield f'    {task}: {share:.1%} of the pixels hold a value'
    yield from (f'    {note}' for note in part.notes)
