"""The course of a run in one picture: losses, kept share of pseudo labels, EMA updates, scores of θ_C and θ_E.

Read from the JSON lines that mmengine writes (`vis_data/scalars.json` of each start of a run).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

# Curve name → steps (iterations) and values, by rising step.
Curves = dict[str, tuple[list[int], list[float]]]

EXPLOITER = 'exploiter/'
SCORES = 'scores (θ_C solid, θ_E dashed)'
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


def curve_picture(curves: Mapping[str, tuple[list[int], list[float]]], out: str | Path, title: str = '') -> list[str]:
    """Draw the curves of `read_scalars` as a PNG at `out`; returns the titles of the panels that had anything to show.

    Panels: losses on real and synthetic data; the share of pseudo-label pixels that were kept; EMA updates; each
    validation score with θ_C solid and θ_E dashed. One value is no curve: left out, unless there is nothing else.

    Raises ValueError if no curve belongs to a panel.
    """
    # Here and not above: drawing is the only part that needs matplotlib. Agg needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels([name for name, (steps, _) in curves.items() if len(steps) > 1]) or _panels(curves)
    if not panels:
        raise ValueError(f'nothing to draw: found {sorted(curves)}, expected losses, kept_share, EMA updates or scores')
    figure = Figure(figsize=(8.0, sum(max(2.6, 0.18 * len(names)) for names in panels.values())), layout='constrained')
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for axes, (panel, names) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        colours: dict[str, str] = {}
        for name in names:
            score = name.removeprefix(EXPLOITER)
            colour = colours.setdefault(score, f'C{len(colours) % 10}')
            steps, values = curves[name]
            style = '--' if name.startswith(EXPLOITER) else '-'
            axes.plot(
                steps, values, style, color=colour, label=_label(name, curves), marker='.' if len(steps) < 20 else ''
            )
        axes.set_title(panel, loc='left', fontsize='medium')
        axes.set_xlabel('iteration')
        axes.grid(alpha=0.3)
        # Beside the plot: a task may have ten figures.
        axes.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    return list(panels)


def _panels(names: Iterable[str]) -> dict[str, list[str]]:
    """The curves of each panel that has any, by its title."""
    names = list(names)
    found = {title: sorted(filter(belongs, names), key=_order) for title, belongs in PANELS.items()}
    return {title: own for panel, each in found.items() if each for title, own in _by_task(panel, each).items()}


def _by_task(panel: str, names: list[str]) -> dict[str, list[str]]:
    """Scores of several tasks apart: metres and degrees have no common axis. Other panels stay whole."""
    if panel != SCORES:
        return {panel: names}
    groups: dict[str, list[str]] = {}
    for name in names:
        task, _, rest = name.removeprefix(EXPLOITER).partition('/')
        groups.setdefault(task if rest else '', []).append(name)
    return {f'{task}: {panel}' if task else panel: found for task, found in groups.items()}


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
    """A score says whose it is where both are known."""
    if name.startswith(EXPLOITER):
        return f'{name.removeprefix(EXPLOITER)} θ_E'
    return f'{name} θ_C' if EXPLOITER + name in curves else name


PANELS: dict[str, Callable[[str], bool]] = {
    'losses': _is_loss,
    'kept share of pseudo labels': _is_kept_share,
    'EMA updates': _is_updates,
    SCORES: _is_score,
}
