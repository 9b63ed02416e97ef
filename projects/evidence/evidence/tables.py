"""The tables of the evidence page: which ones the runs allow, and each as Markdown with its caption."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from mmdiff2in1.training.paired import Paired, Spread, compare

from .runs import CONTROL, LOOP, METRICS, REAL_ONLY, SETTINGS, Metric, Run, arms_of, followed_arms, part_of, scores

NOTHING = '–'
MINUS = '−'  # U+2212; a hyphen is shorter than the plus sign above it
TEST_NOTE = 'p: paired two-sided t-test, not corrected for multiple comparisons.'


def tables(runs: Sequence[Run]) -> dict[str, Callable[[], str]]:
    """Name → what makes the Markdown of that table; by set, task, then number of labels.

    `SET-TASK-LABELS` compares the arms, `SET-TASK-range` follows them over the numbers of labels, and
    `SET-TASK-BLOCK-LABELS`, BLOCK one of `SETTINGS`, compares settings on the val part.
    """
    found: dict[str, Callable[[], str]] = {}
    for data_set, task in sorted({(run.data_set, run.task) for run in runs}):
        of_task = [run for run in runs if (run.data_set, run.task) == (data_set, task)]
        name = f'{data_set}-{task}'
        arms = [run for run in of_task if run.block not in SETTINGS]
        for labels in sorted({run.labels for run in arms}):
            here = [run for run in arms if run.labels == labels]
            found[f'{name}-{labels}'] = partial(arms_table, here)
        if followed_arms(arms):
            found[f'{name}-range'] = partial(range_table, arms)
        for block, labels in sorted({(run.block, run.labels) for run in of_task if run.block in SETTINGS}):
            here = [run for run in of_task if (run.block, run.labels) == (block, labels)]
            if {run.arm for run in here} - {CONTROL, REAL_ONLY}:  # a task may have come along for its warm-up alone
                found[f'{name}-{block}-{labels}'] = partial(settings_table, here)
    return found


def arms_table(runs: Sequence[Run]) -> str:
    """Arms as rows: score, and difference to the control. `runs` share set, task and number of labels."""
    metric, part, seeds = METRICS[runs[0].task], part_of(runs[0].data_set), _seeds(runs)
    control, rows = scores(runs, CONTROL), []
    for arm in arms_of(runs):
        ours = scores(runs, arm)
        pair = compare(ours, {} if arm == CONTROL else control)
        difference = [_by_seed(pair, seeds, metric), _signed(pair.spread, metric), _p(pair)]
        rows.append([arm, _plain(Spread.of(ours.values()), metric), *difference, _count(arm, ours, pair)])
    header = ['Arm', metric.name, 'difference by seed', 'mean difference', 'p', 'n']
    unmatched = any(' of ' in row[-1] for row in rows)
    return _markdown(header, rows) + _caption(
        metric,
        f'on {part}',
        f'mean ± sample standard deviation over {_span(seeds)}. Difference: the arm minus "{CONTROL}" of the same '
        f'seed, seeds in rising order; {_better(metric)}. {TEST_NOTE} n: number of seeds'
        + ('; "a of b": b seeds, a of them in the difference.' if unmatched else '.')
        + _weights(rows),
    )


def range_table(runs: Sequence[Run]) -> str:
    """Numbers of labels as rows, the arms that have more than one as columns. `runs` share set and task."""
    metric, part, arms = METRICS[runs[0].task], part_of(runs[0].data_set), followed_arms(runs)
    runs = [run for run in runs if run.arm in (CONTROL, *arms)]
    rows = []
    for labels in sorted({run.labels for run in runs}):
        here = [run for run in runs if run.labels == labels]
        control = scores(here, CONTROL)
        cells = [_cell(compare(scores(here, arm), control), metric) for arm in arms]
        spread = Spread.of(control.values())
        rows.append([str(labels), f'{_plain(spread, metric)} (n {spread.n})' if spread.n else NOTHING, *cells])
    return _markdown(['labels', CONTROL, *arms], rows) + _caption(
        metric,
        f'on {part}',
        f'by the number of labelled images, mean ± sample standard deviation over {_span(_seeds(runs))}. '
        f'First the score of "{CONTROL}", then the difference to it at the same seed; {_better(metric)}. '
        f'{TEST_NOTE} n: number of seeds that both have.' + _weights([arms]),
    )


def settings_table(runs: Sequence[Run]) -> str:
    """Settings as rows, on val, against control and loop. `runs` share set, task, number of labels and block."""
    metric, seeds, rows = METRICS[runs[0].task], _seeds(runs), []
    for arm in arms_of(runs):
        ours, cells = scores(runs, arm, 'val'), []
        for reference in (CONTROL, LOOP):
            pair = compare(ours, {} if arm == reference else scores(runs, reference, 'val'))
            cells += [_by_seed(pair, seeds, metric), _cell(pair, metric)]
        rows.append([arm, _plain(Spread.of(ours.values()), metric), *cells])
    header = ['Arm', metric.name]
    for reference in (CONTROL, LOOP):
        header += [f'to {reference}, by seed', f'to {reference}, mean']
    return _markdown(header, rows) + _caption(
        metric,
        'on val, where settings are chosen',
        f'mean ± sample standard deviation over {_span(seeds)}. "to": the arm minus the one named, of the same seed, '
        f'seeds in rising order; {_better(metric)}. {TEST_NOTE} n: number of seeds that both have.' + _weights(rows),
    )


def _seeds(runs: Iterable[Run]) -> list[int]:
    return sorted({run.seed for run in runs})


def _span(seeds: Sequence[int]) -> str:
    """'seeds 0–4' without gaps, else all of them."""
    if len(seeds) == 1:
        return f'seed {seeds[0]}'
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f'seeds {seeds[0]}–{seeds[-1]}'
    return 'seeds ' + ', '.join(map(str, seeds))


def _plain(spread: Spread, metric: Metric) -> str:
    return NOTHING if spread.mean is None else f'{spread.mean:.{metric.digits}f} ± {_std(spread, metric)}'


def _sign(value: float, metric: Metric) -> str:
    """With its sign, which what rounds to zero does not have."""
    text = f'{value:+.{metric.digits}f}'
    return text.lstrip('+-') if not float(text) else text.replace('-', MINUS)


def _signed(spread: Spread, metric: Metric) -> str:
    return NOTHING if spread.mean is None else f'{_sign(spread.mean, metric)} ± {_std(spread, metric)}'


def _std(spread: Spread, metric: Metric) -> str:
    return NOTHING if spread.std is None else f'{spread.std:.{metric.digits}f}'


def _by_seed(pair: Paired, seeds: Iterable[int], metric: Metric) -> str:
    if not pair.by_seed:
        return NOTHING
    return ', '.join(_sign(pair.by_seed[s], metric) if s in pair.by_seed else NOTHING for s in seeds)


def _p(pair: Paired) -> str:
    if pair.p is None:
        return NOTHING
    return '<0.001' if pair.p < 0.001 else f'{pair.p:.3f}'


def _cell(pair: Paired, metric: Metric) -> str:
    """Mean difference, p and n in one."""
    return f'{_signed(pair.spread, metric)} (p {_p(pair)}, n {pair.spread.n})' if pair.by_seed else NOTHING


def _count(arm: str, ours: dict[int, float], pair: Paired) -> str:
    matched = len(ours) if arm == CONTROL else pair.spread.n
    return str(matched) if matched == len(ours) else f'{matched} of {len(ours)}'


def _better(metric: Metric) -> str:
    return f'{"below" if metric.lower_is_better else "above"} zero the arm is better'


def _weights(rows: Iterable[Sequence[str]]) -> str:
    shown = any(REAL_ONLY in row for row in rows)
    return f' "{REAL_ONLY}" is scored with θ_E, every other arm with θ_C.' if shown else ''


def _caption(metric: Metric, part: str, text: str) -> str:
    direction = 'lower' if metric.lower_is_better else 'higher'
    name = metric.name[0].upper() + metric.name[1:] if metric.name.islower() else metric.name
    return f'\n\n*{name} in {metric.unit} {part}, {direction} is better; {text}*'


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """First column to the left, numbers to the right."""
    lines = [header, [':--', *['--:'] * (len(header) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines)
