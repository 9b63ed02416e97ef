"""The course of a run in one picture: losses, kept share of pseudo labels, EMA updates, scores of θ_C and θ_E.

Read from the JSON lines that mmengine writes (`vis_data/scalars.json` of each start of a run).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .units import EXPLOITER, SHARE_OF_PIXELS, unit_of

# Curve name → steps (iterations) and values, by rising step.
Curves = dict[str, tuple[list[int], list[float]]]

SCORES = 'scores'
IN_A_COLUMN = 4
"""Panels below each other; more of them stand in two columns."""
NOT_A_SCORE = ('lr', 'base_lr', 'time', 'data_time', 'memory', 'grad_norm', 'epoch', 'iter', 'step', 'loss')


def read_scalars(path: str | Path) -> Curves:
    """All curves of a run: `path` is a JSON-lines file or a work dir, whose starts are joined in time order.

    Where a resumed run repeats a step, the later value counts. Lines that are cut off are left out.

    Raises FileNotFoundError if there is nothing to read.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{path}: expected a scalars.json or a work dir with */vis_data/scalars.json in it')
    points: dict[str, dict[int, float]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            step = entry.get('step', entry.get('iter')) if isinstance(entry, dict) else None
            if step is None:
                continue
            for name, value in entry.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    points.setdefault(name, {})[int(step)] = float(value)
    return {
        name: ([step for step, _ in sorted(of_name.items())], [value for _, value in sorted(of_name.items())])
        for name, of_name in points.items()
    }


def curve_picture(
    curves: Mapping[str, tuple[list[int], list[float]]],
    out: str | Path,
    title: str = '',
    control: Mapping[str, tuple[list[int], list[float]]] | None = None,
) -> list[str]:
    """Draw the curves of `read_scalars` as a PNG at `out`; returns the titles of the panels that had anything to show.

    Panels: losses on real and synthetic data; the share of pseudo-label pixels that were kept; EMA updates; validation
    scores, those of one task and unit in one panel: θ_C solid, θ_E dashed, and dotted those of a control. One value is
    no curve: left out, unless there is nothing else.

    Args:
        curves: Of the run.
        out: The file.
        title: Above the panels.
        control: Curves of a training on real images alone, of whose scores those are drawn that the run has.

    Raises ValueError if no curve belongs to a panel.
    """
    # Here and not above: drawing is the only part that needs matplotlib. Agg needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels([name for name in curves if _is_curve(curves[name])]) or _panels(curves)
    if not panels:
        raise ValueError(f'nothing to draw: found {sorted(curves)}, expected losses, kept_share, EMA updates or scores')
    scores = {name: each for name, each in (control or {}).items() if _is_score(name) and _is_curve(each)}
    beside = {name: each for name, each in scores.items() if not name.startswith(EXPLOITER)}
    columns = 1 if len(panels) <= IN_A_COLUMN else 2
    rows = math.ceil(len(panels) / columns)
    tallest = max(0.18 * len([*names, *(name for name in names if name in beside)]) for names in panels.values())
    figure = Figure(figsize=(8.0 * columns, rows * max(2.6, tallest)), layout='constrained')
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    places = figure.subplots(rows, columns, squeeze=False).T.flatten()
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    for axes, (panel, names) in zip(places, panels.items(), strict=False):
        colours: dict[str, str] = {}
        for name in names:
            score = name.removeprefix(EXPLOITER)
            colour = colours.setdefault(score, f'C{len(colours) % 10}')
            _draw(axes, curves[name], '--' if name.startswith(EXPLOITER) else '-', colour, _label(name, curves))
            if name in beside:
                _draw(axes, beside[name], ':', colour, f'{_figure(name)} control')
        axes.set_title(panel, loc='left', fontsize='medium')
        axes.set_xlabel('iteration')
        unit = _unit(names[0])
        axes.set_ylabel(unit)
        if unit == SHARE_OF_PIXELS:
            axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        # Beside the plot: a task may have ten figures.
        axes.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5), handlelength=4)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    return list(panels)


def _draw(axes: Any, curve: tuple[list[int], list[float]], style: str, colour: str, label: str) -> None:
    steps, values = curve
    axes.plot(steps, values, style, color=colour, label=label, marker='.' if len(steps) < 20 else '')


def _is_curve(curve: tuple[list[int], list[float]]) -> bool:
    return len(curve[0]) > 1


def _panels(names: Iterable[str]) -> dict[str, list[str]]:
    """The curves of each panel that has any, by its title."""
    names = list(names)
    found = {title: sorted(filter(belongs, names), key=_order) for title, belongs in PANELS.items()}
    return {title: own for panel, each in found.items() if each for title, own in _by_unit(panel, each).items()}


def _by_unit(panel: str, names: list[str]) -> dict[str, list[str]]:
    """Scores of several tasks and units apart: metres and degrees have no common axis. Other panels stay whole."""
    if panel != SCORES:
        return {panel: names}
    groups: dict[str, list[str]] = {}
    for name in names:
        task = name.removeprefix(EXPLOITER).rpartition('/')[0]
        unit = unit_of(name)
        of_task = f'{task}: ' if task else ''
        # Of a figure whose unit nobody knows, nobody knows what it may stand beside.
        groups.setdefault(of_task + (f'{panel}, {unit}' if unit else _figure(name)), []).append(name)
    return groups


def _unit(name: str) -> str:
    """What the axis of a curve is labelled with."""
    if _is_kept_share(name):
        return SHARE_OF_PIXELS
    return unit_of(name) if _is_score(name) else ''


def _is_loss(name: str) -> bool:
    return name == 'loss' or name.startswith(('real/', 'synthetic/')) and 'loss' in name


def _is_kept_share(name: str) -> bool:
    return 'kept_share' in name.split('/')


def _is_updates(name: str) -> bool:
    return name.rsplit('/', 1)[-1] in ('ema_updates', 'self_improving_updates')


def _is_score(name: str) -> bool:
    """True if validation logs it: everything that training and the clock do not."""
    plain = name.removeprefix(EXPLOITER)
    training = plain.startswith(('real/', 'synthetic/', 'decode.', 'aux_', 'lr', 'base_lr')) or 'loss' in plain
    return not (training or plain in NOT_A_SCORE or _is_kept_share(plain) or _is_updates(plain))


def _order(name: str) -> tuple[str, bool]:
    """θ_E's score right after θ_C's."""
    return name.removeprefix(EXPLOITER), name.startswith(EXPLOITER)


def _label(name: str, curves: Mapping) -> str:
    """A score says whose it is where both are known; its task stands above the panel."""
    if not _is_score(name):
        return name
    if name.startswith(EXPLOITER):
        return f'{_figure(name)} θ_E'
    return f'{_figure(name)} θ_C' if EXPLOITER + name in curves else _figure(name)


def _figure(name: str) -> str:
    """Of a score, without its task."""
    return name.rpartition('/')[2]


PANELS: dict[str, Callable[[str], bool]] = {
    'losses': _is_loss,
    'kept share of pseudo labels': _is_kept_share,
    'EMA updates': _is_updates,
    SCORES: _is_score,
}
