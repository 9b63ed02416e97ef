"""The figures of a run with unit and direction, and what they amount to in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmdiff2in1.evaluation.delta_mtl import lower_is_better
from mmdiff2in1.training.scoring import DEFAULT
from mmdiff2in1.visualization.units import EXPLOITER, SHARE_OF_PIXELS, unit_of

from .work_dir import WorkDir

CREATOR, EXPLOITED, WARMUP, CONTROL, PLAIN = 'θ_C', 'θ_E', 'after the warm-up', 'control', 'model'


@dataclass(frozen=True)
class Figure:
    """A score by name. `values`: by whose it is; `better`: higher, lower, or '' where nobody knows."""

    name: str
    unit: str
    better: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Figures of one set of images; `columns` whose they are."""

    title: str
    columns: list[str]
    figures: list[Figure]


def better_when(name: str) -> str:
    """Which way a figure is better: higher, lower, or '' where it is not known."""
    if lower_is_better(name):
        return 'lower'
    return 'higher' if unit_of(name) in ('%', SHARE_OF_PIXELS) else ''


def headlines(metrics: Mapping[str, float]) -> list[str]:
    """The one figure of each task that a verdict is about."""
    own = [name for name in metrics if not name.startswith(EXPLOITER)]
    tasks = dict.fromkeys(name.rpartition('/')[0] for name in own)
    found = []
    for task in tasks:
        of_task = [name for name in own if name.rpartition('/')[0] == task]
        wanted = [DEFAULT[task]] if task in DEFAULT else list(dict.fromkeys(DEFAULT.values()))
        names = [f'{task}/{figure}' if task else figure for figure in wanted]
        found += [name for name in names if name in of_task][:1]
    return found or own[:1]


def tables(run: WorkDir, control: WorkDir | None) -> list[Table]:
    """The test set's figures, then the validation set's."""
    found = [_table('Test set', {**_by_model(run.test, run.chain), CONTROL: _own(control.test if control else {})})]
    columns = {WARMUP: dict(run.stages[0].metrics)} if len(run.stages) > 1 else {}
    columns |= _by_model(run.main.metrics, run.chain)
    columns[CONTROL] = _own(control.main.metrics if control else {})
    found.append(_table('Validation set, last time', columns))
    return [table for table in found if table.figures]


def verdict(run: WorkDir, control: WorkDir | None) -> list[str]:
    """Outcome of a run, in sentences."""
    said = []
    if not run.finished:
        states = '; '.join(f'{stage.title}: {stage.state}' for stage in run.stages)
        missing = '; test: not done' if run.expects_test and not run.test else ''
        said.append(f'This run is not finished ({states}{missing}). Below is what there is.')
    metrics, where = (run.test, 'the test set') if run.test else (run.main.metrics, 'the validation set')
    theirs = (control.test if run.test else control.main.metrics) if control else {}
    if not metrics:
        return [*said, 'There are no scores yet.']
    for name in headlines(metrics):
        said.append(_sentence(name, metrics, theirs, where, run.chain))
    if run.chain:
        said.append(
            'One seed: no difference between these numbers can be claimed without `mmdiff2in1 compare`, which trains '
            'several seeds of each.'
        )
        if control is None:
            said.append('There is no control beside it, a training of as many steps on real images alone.')
    return said


def shown(value: float, unit: str) -> str:
    """As it is read: two digits after the point of percentages and degrees, else four that count."""
    return f'{value:.2f}' if unit in ('%', '°') else f'{value:.4g}'


def _sentence(name: str, metrics: Mapping, control: Mapping, where: str, chain: bool) -> str:
    unit, better = unit_of(name), better_when(name)
    figure = name.replace('/', ' ').replace('_', ' ')
    said = f'{CREATOR if chain else "The model"}: {shown(metrics[name], unit)} {unit} {figure} on {where}'
    if EXPLOITER + name in metrics:
        said += f', {EXPLOITED} {shown(metrics[EXPLOITER + name], unit)}'
    if name in control:
        said += f', control {shown(control[name], unit)}'
    return f'{said} ({better} is better).' if better else f'{said}.'


def _by_model(metrics: Mapping[str, float], chain: bool) -> dict[str, dict[str, float]]:
    theirs = {name.removeprefix(EXPLOITER): v for name, v in metrics.items() if name.startswith(EXPLOITER)}
    return {CREATOR if chain else PLAIN: _own(metrics), EXPLOITED: theirs}


def _own(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(EXPLOITER)}


def _table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    filled = {column: values for column, values in columns.items() if values}
    names: Iterable[str] = dict.fromkeys(name for values in filled.values() for name in values)
    return Table(
        title,
        list(filled),
        [
            Figure(name, unit_of(name), better_when(name), {c: v[name] for c, v in filled.items() if name in v})
            for name in names
        ],
    )
