"""Curves of a run as inline SVG: one chart for each unit, in the text colour of the page, so that it may be dark."""

import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mmdiff2in1.visualization.curves import PANELS, SCORES, Curves
from mmdiff2in1.visualization.units import EXPLOITER, unit_of

from .scores import CREATOR, EXPLOITED, better_when

INK = '#808081'
"""Stands in what matplotlib draws for the text colour of the page."""
COLOURS = ('#2f7ed8', '#d95f02', '#1b9e77', '#c2408f', '#8a6fd1', '#a6761d', '#5f8f1a', '#d0455f')
STYLES = dict(solid='-', dashed='--', dotted=':')
SIZE = (5.2, 2.7)
MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """A curve. `dash`: solid, dashed or dotted, as CSS names them."""

    name: str
    steps: list[int]
    values: list[float]
    colour: str
    dash: str = 'solid'


@dataclass(frozen=True)
class Chart:
    """An SVG element and the lines in it; `alone`: curves of one value, which are no curves."""

    title: str
    svg: str
    lines: list[Line]
    alone: list[str]


def charts(curves: Curves, control: Curves, step: str = 'iteration') -> list[Chart]:
    """Charts of losses, kept shares and scores, as far as there are any.

    Args:
        curves: See `read_scalars`.
        control: Those of a control; its scores are dotted lines beside those of the run.
        step: What validations are counted in.
    """
    found = [
        _chart('Losses', '', 'iteration', _losses(curves)),
        _chart(
            'Kept share of pseudo labels',
            'share of pixels',
            'iteration',
            _coloured(_kept_share(curves), curves),
            (0, 1),
        ),
    ]
    groups: dict[tuple[str, str], list[str]] = {}
    for name in _names(curves, SCORES):
        plain = name.removeprefix(EXPLOITER)
        if better_when(plain) or unit_of(plain):  # a threshold, for instance, is no score
            groups.setdefault((plain.rpartition('/')[0], unit_of(plain)), []).append(plain)
    for (task, unit), names in groups.items():
        lines = []
        for colour, name in zip(_colours(), dict.fromkeys(names), strict=False):
            figure = name.rpartition('/')[2]
            both = EXPLOITER + name in curves
            for key, source, whose, dash in (
                (name, curves, CREATOR if both else '', 'solid'),
                (EXPLOITER + name, curves, EXPLOITED, 'dashed'),
                (name, control, 'control', 'dotted'),
            ):
                if key in source:
                    lines.append(Line(f'{figure} {whose}'.strip(), *_finite(*source[key]), colour, dash))
        title = f'Validation: {task.replace("_", " ")}' if task else 'Validation'
        found.append(_chart(f'{title}, {unit}' if unit else title, unit, step, lines))
    return [chart for chart in found if chart is not None]


def _names(curves: Curves, panel: str) -> list[str]:
    return sorted(filter(PANELS[panel], curves))


def _losses(curves: Curves) -> list[Line]:
    """Each loss in one colour: of real images solid, of created ones dashed."""
    lines: list[Line] = []
    colours, chosen = _colours(), dict[str, str]()
    for name in _names(curves, 'losses'):
        kind, _, plain = name.rpartition('/')
        if plain not in chosen:
            chosen[plain] = next(colours)
        whose = dict(real=', real', synthetic=', created').get(kind, '')
        title = 'sum of all' if name == 'loss' else plain.removeprefix('decode.') + whose
        dash = 'dashed' if kind == 'synthetic' else 'solid'
        lines.append(Line(title, *_finite(*curves[name]), chosen[plain], dash))
    return lines


def _kept_share(curves: Curves) -> dict[str, str]:
    return {
        name: name.partition('/')[2].replace('_', ' ') or name for name in _names(curves, 'kept share of pseudo labels')
    }


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _coloured(names: Mapping[str, str], curves: Curves) -> list[Line]:
    pairs = zip(_colours(), names.items(), strict=False)
    return [Line(title, *_finite(*curves[name]), colour) for colour, (name, title) in pairs]


def _finite(steps: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _chart(title: str, unit: str, step: str, lines: list[Line], limits: tuple | None = None) -> Chart | None:
    """None without a curve of two values or more."""
    drawn = [_thinned(line) for line in lines if len(line.values) > 1]
    alone = [f'{line.name} {line.values[0]:.4g}' for line in lines if len(line.values) == 1]
    if not drawn:
        return None
    return Chart(title, _svg(title, unit, step, drawn, limits), drawn, alone)


def _thinned(line: Line) -> Line:
    """Means of neighbours where there are more points than a chart has room for."""
    each = math.ceil(len(line.values) / MOST_POINTS)
    starts = range(0, len(line.values), each)
    values = [sum(part) / len(part) for part in (line.values[start : start + each] for start in starts)]
    steps = [line.steps[min(start + each, len(line.steps)) - 1] for start in starts]
    return Line(line.name, steps, values, line.colour, line.dash)


def _svg(title: str, unit: str, step: str, lines: list[Line], limits: tuple | None) -> str:
    # Here and not above: drawing is the only part that needs matplotlib.
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    settings = {'svg.fonttype': 'none', 'svg.hashsalt': title, 'font.size': 11, 'font.family': 'sans-serif'}
    ink = dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color'), INK)
    with matplotlib.rc_context({**settings, **ink, 'grid.color': INK}):
        figure = Figure(figsize=SIZE, layout='constrained')
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.spines[['top', 'right']].set_visible(False)
        for line in lines:
            marker = 'o' if len(line.values) < 20 else ''
            axes.plot(line.steps, line.values, STYLES[line.dash], color=line.colour, lw=1.8, marker=marker, ms=3)
        axes.set_xlabel(step)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if unit:
            axes.set_ylabel(unit)
        if limits:
            axes.set_ylim(*limits)
        axes.grid(alpha=0.25, lw=0.6)
        stream = io.StringIO()
        none = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
        figure.savefig(stream, format='svg', metadata=none)
    svg = stream.getvalue()
    svg = re.sub(r'\s*<metadata>.*?</metadata>', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    # In a page the namespaces are known, names of groups would stand there several times, and the width is the page's.
    svg = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', '', svg)
    svg = re.sub(r' id="[a-z]+[\d.a-z]*_\d+"', '', svg)
    svg = re.sub(r'<svg ', '<svg role="img" aria-hidden="true" ', svg, count=1)
    return svg.replace(INK, 'currentColor')
