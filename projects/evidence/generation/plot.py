"""The plot of what a noise level T costs and buys: agreement with the source's label, and distances, over T."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

UNITS = {'grey_levels': 'distance (RMSE), grey levels', 'features': 'distance of features'}


def level_plot(out: Path, cost: Mapping[str, Any], gains: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a PNG at `out`.

    Args:
        out: The file.
        cost: What `label_cost` returns, or nothing that was measured.
        gains: What `novelty` returns, by a name of `UNITS`; one panel each.
    """
    figure = Figure(figsize=(4.4 * (1 + len(gains)), 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(gains), squeeze=False)[0]
    if 'created' in cost:
        _cost(panels[0], cost)
    else:
        panels[0].text(0.5, 0.5, 'not measured', ha='center', transform=panels[0].transAxes)
    panels[0].set_title('what T costs', loc='left', fontsize='medium')
    panels[0].set_ylabel('mIoU with the source’s label, %')
    for axes, (name, gain) in zip(panels[1:], gains.items(), strict=True):
        _gain(axes, gain)
        axes.set_title('what T buys', loc='left', fontsize='medium')
        axes.set_ylabel(UNITS[name])
    for axes in panels:
        axes.set_xlabel('T (0: autoencoder alone; last: noise alone)')
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def _cost(axes: Axes, cost: Mapping[str, Any]) -> None:
    levels = [row['T'] for row in cost['created']]
    axes.plot(levels, [row['mIoU'] for row in cost['created']], 'C0.-', label='created images')
    axes.axhline(cost['real']['mIoU'], color='C2', linestyle='--', label='their real sources')
    axes.set_xticks(levels)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize='small')


def _gain(axes: Axes, gain: Mapping[str, Any]) -> None:
    levels = [row['T'] for row in gain['created']]
    lines = {'nearest_labelled': ('C0', '.-'), 'own_source': ('C1', '.--')}  # where they are equal both are seen
    for name, (colour, style) in lines.items():
        found = [row[name] for row in gain['created']]
        axes.plot(
            levels, [each['median'] for each in found], style, color=colour, label=f'created → {name.replace("_", " ")}'
        )
        axes.fill_between(levels, [e['q25'] for e in found], [e['q75'] for e in found], color=colour, alpha=0.2, lw=0)
    real = gain['new_real']['nearest_labelled']
    axes.axhline(real['median'], color='C2', linestyle='--', label='new real → nearest labelled')
    axes.axhspan(real['q25'], real['q75'], color='C2', alpha=0.1, lw=0)
    axes.set_xticks(levels)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize='small')
