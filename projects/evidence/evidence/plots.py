"""The plots of the evidence page: gain over the numbers of labels, gain by seed, and learning curves.

A gain is the difference to the control at the same seed, turned so that more is better.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mmdiff2in1.training.paired import Spread, compare

from .runs import CONTROL, METRICS, SETTINGS, Metric, Run, arms_of, followed_arms, part_of, scores

Band = tuple[list[int], list[float], list[float], list[float]]

CONTROL_COLOUR = '0.45'
# By arm and not by place: an arm looks the same in every plot.
STYLES = {
    'real only': ('#000000', 'x'),
    CONTROL: (CONTROL_COLOUR, 'o'),
    'self-distillation': ('#56b4e9', 'v'),
    'Diff-2-in-1': ('#d55e00', 'o'),
    'Diff-2-in-1, best': ('#e69f00', 's'),
    'Diff-2-in-1, T range': ('#b8a000', '<'),
    'new scenes, T_max': ('#0072b2', '^'),
    'new scenes, T range': ('#7a5cb8', 'D'),
    'unlabelled': ('#009e73', 'P'),
    'unlabelled, best': ('#66c2a5', 'p'),
    'unlabelled, true labels': ('#8c6d31', '*'),
    'synthetic only': ('#cc79a7', 'X'),
}
OTHER_STYLE = ('0.2', 'h')
FAR = 4  # times the median reach of the arms: an arm that goes further would press the others into one line
COLUMNS, MANY_TICKS = 3, 8


def draw_all(runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """Every plot that the runs allow, as PNG in `folder`; returns the files.

    `SET-TASK-range.png` (arms with more than one number of labels), `SET-TASK-LABELS.png` (blocks `main` and
    `camvid`), and `SET-TASK-curves.png` (the same blocks at their lowest number of labels that has curves).
    """
    drawn = []
    for data_set, task in sorted({(run.data_set, run.task) for run in runs}):
        arms = [run for run in runs if (run.data_set, run.task) == (data_set, task) and run.block not in SETTINGS]
        main = [run for run in arms if run.block != 'range']
        figures = {'range': range_plot(arms)}
        for labels in sorted({run.labels for run in main}):
            figures[str(labels)] = gain_plot([run for run in main if run.labels == labels])
        curved = [run for run in main if run.curve[0]]
        if curved:
            first = min(run.labels for run in curved)
            figures['curves'] = curve_plot([run for run in curved if run.labels == first])
        for name, figure in figures.items():
            if figure is not None:
                drawn.append(Path(folder) / f'{data_set}-{task}-{name}.png')
                _save(figure, drawn[-1])
    return drawn


def gains(arm: Mapping[int, float], control: Mapping[int, float], metric: Metric) -> dict[int, float]:
    """Seed → difference of two arms (seed → score), above zero where `arm` is better."""
    sign = -1 if metric.lower_is_better else 1
    return {seed: sign * difference for seed, difference in compare(arm, control).by_seed.items()}


def range_plot(runs: Sequence[Run]) -> Figure | None:
    """Mean gain ± sample standard deviation against the number of labels. None without an arm at two numbers."""
    metric = METRICS[runs[0].task]
    lines: dict[str, dict[int, Spread]] = {}
    for arm in followed_arms(runs):
        for labels in sorted({run.labels for run in runs if run.arm == arm}):
            here = [run for run in runs if run.labels == labels]
            gain = gains(scores(here, arm), scores(here, CONTROL), metric)
            if gain:
                lines.setdefault(arm, {})[labels] = Spread.of(gain.values())
    if not lines:
        return None
    figure, axes = _figure(7.2, 3.6, _title(runs[0], part_of(runs[0].data_set), labels=False))
    axes.axhline(0, color=CONTROL_COLOUR, linewidth=1)
    numbers = sorted({labels for line in lines.values() for labels in line})
    for place, (arm, line) in enumerate(lines.items()):
        colour, marker = STYLES.get(arm, OTHER_STYLE)
        # Error bars of one number of labels stand side by side.
        shift = (numbers[-1] / numbers[0]) ** (0.013 * (place - (len(lines) - 1) / 2))
        axes.errorbar(
            [labels * shift for labels in line],
            [spread.mean for spread in line.values()],
            yerr=[spread.std or 0 for spread in line.values()],
            color=colour, marker=marker, markersize=5, linewidth=1.3, elinewidth=1, capsize=2, label=arm,
        )  # fmt: skip
    axes.set_xscale('log')
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xticks([], minor=True)
    axes.set_xlabel('labelled images\nbars: sample standard deviation over seeds')
    axes.set_ylabel(_gain_label(metric, 'up', '\n'))
    figure.legend(*axes.get_legend_handles_labels(), loc='outside right center', fontsize='small', frameon=False)
    return figure


def gain_plot(runs: Sequence[Run]) -> Figure | None:
    """One row per arm: the gain of each seed (dots) and their mean (bar). None without a pair of runs."""
    metric, control = METRICS[runs[0].task], scores(runs, CONTROL)
    rows = {arm: gains(scores(runs, arm), control, metric) for arm in arms_of(runs) if arm != CONTROL}
    rows = {arm: gain for arm, gain in rows.items() if gain}
    if not rows:
        return None
    far = far_out({arm: max(map(abs, gain.values())) for arm, gain in rows.items()})
    shown = [0.0, *(v for arm, gain in rows.items() if arm not in far for v in gain.values())]
    margin = 0.06 * (max(shown) - min(shown)) or 1.0
    left, right = min(shown) - margin, max(shown) + margin
    figure, axes = _figure(7.2, 1.2 + 0.36 * len(rows), _title(runs[0], part_of(runs[0].data_set)))
    axes.axvline(0, color=CONTROL_COLOUR, linewidth=1)
    seeds = sorted({seed for gain in rows.values() for seed in gain})
    for row, (arm, gain) in enumerate(rows.items()):
        colour, _ = STYLES.get(arm, OTHER_STYLE)
        mean = fmean(gain.values())
        if arm in far:
            edge, inward = (right, -1) if mean > 0 else (left, 1)
            tail = edge + inward * 0.07 * (right - left)
            axes.annotate('', (edge, row), (tail, row), arrowprops=dict(arrowstyle='->', color=colour))
            text = f' off the scale, mean {mean:+.{metric.digits}f} '.replace('-', '−')
            side = 'right' if mean > 0 else 'left'
            white = dict(facecolor='white', edgecolor='none', pad=1)  # the zero line may pass here
            axes.text(tail, row, text, ha=side, va='center', fontsize='small', bbox=white)
            continue
        # A seed has the same height within each row, so that equal gains do not hide one another.
        offsets = [0.36 * ((seeds.index(seed) + 0.5) / len(seeds) - 0.5) for seed in gain]
        heights = [row + offset for offset in offsets]
        axes.plot([mean, mean], [row - 0.34, row + 0.34], color=colour, linewidth=2)
        axes.plot(list(gain.values()), heights, 'o', color=colour, markersize=5.5, markeredgecolor='white')
    axes.set_xlim(left, right)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.grid(axis='y', visible=False)
    axes.set_xlabel(_gain_label(metric, 'right', ' ') + '\ndots: seeds, bar: their mean')
    return figure


def curve_plot(runs: Sequence[Run]) -> Figure | None:
    """One panel per arm: mean over seeds of the val score by step, with a band from minimum to maximum.

    None if the seeds of no arm have a step in common.
    """
    metric = METRICS[runs[0].task]
    curves = {arm: band([run.curve for run in runs if run.arm == arm]) for arm in arms_of(runs)}
    curves = {arm: curve for arm, curve in curves.items() if curve[0]}
    if not curves:
        return None
    arms = list(curves)
    panels = [arm for arm in arms if arm != CONTROL] or arms
    centre = median(curves[CONTROL if CONTROL in arms else arms[0]][1])
    far = far_out({arm: max(abs(v - centre) for v in [*curves[arm][2], *curves[arm][3]]) for arm in panels})
    shared = [v for arm in arms if arm not in far for v in [*curves[arm][2], *curves[arm][3]]]
    room = 0.04 * (max(shared) - min(shared)) or 1.0
    columns, lines = min(COLUMNS, len(panels)), -(-len(panels) // COLUMNS)
    figure = _canvas(max(3.6, 2.5 * columns), 0.9 + 1.75 * lines, _title(runs[0], 'val'))
    grid = figure.subplots(lines, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_axis_off()
            continue
        arm = panels[place]
        if CONTROL in arms:
            _draw_band(axes, curves[CONTROL], CONTROL_COLOUR)
        if arm != CONTROL:
            _draw_band(axes, curves[arm], STYLES.get(arm, OTHER_STYLE)[0])
        if arm not in far:
            axes.set_ylim(min(shared) - room, max(shared) + room)
        axes.set_title(arm + (' (own scale)' if arm in far else ''), fontsize='small', loc='left')
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize='small')
    direction = 'lower' if metric.lower_is_better else 'higher'
    figure.supylabel(f'{metric.name}, {metric.unit} ({direction} is better)', fontsize='medium')
    figure.supxlabel(f'step   (grey: {CONTROL}; band: lowest to highest seed)', fontsize='medium')
    return figure


def band(curves: Iterable[tuple[Sequence[int], Sequence[float]]]) -> Band:
    """Steps that all curves have, and mean, minimum and maximum of the curves there."""
    by_step = [dict(zip(*curve, strict=True)) for curve in curves]
    # Where a seed is missing the mean would jump.
    steps = sorted(set.intersection(*map(set, by_step)))
    values = [[curve[step] for curve in by_step] for step in steps]
    return steps, [fmean(v) for v in values], [min(v) for v in values], [max(v) for v in values]


def far_out(reach: Mapping[str, float]) -> set[str]:
    """The arms that reach more than `FAR` times as far as the median arm."""
    return {arm for arm, value in reach.items() if value > FAR * median(reach.values())}


def _draw_band(axes: Axes, curve: Band, colour: str) -> None:
    steps, mean, low, high = curve
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=colour, linewidth=1.4, marker='.' if len(steps) <= MANY_TICKS else '')


def _gain_label(metric: Metric, better: str, space: str) -> str:
    unit = 'percentage points' if metric.unit == 'percent' else metric.unit
    return f'{metric.name}: gain over "{CONTROL}"{space}({unit}; {better} is better)'


def _title(run: Run, part: str, labels: bool = True) -> str:
    return f'{run.data_set}, {run.task.replace("_", " ")}, ' + (f'{run.labels} labels, ' if labels else '') + part


def _canvas(width: float, height: float, title: str) -> Figure:
    """Without pyplot, which would look for a screen and keep every figure."""
    figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
    figure.suptitle(title, fontsize='medium')
    return figure


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = _canvas(width, height, title)
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # A palette is enough for lines, and makes a third of the file.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    image.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
