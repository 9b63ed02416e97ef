"""What unit depth is stored in, and whether its largest number means a distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .problem import Problem

NEAR, FAR = 0.5, 20.0  # metres: the median depth of an indoor image lies between
FULL = 65535
SATURATED = 0.001  # a share of pixels with the largest number that no scene has by accident


@dataclass(frozen=True)
class DepthFacts:
    """Of one file. `median`: metres, of the pixels with a depth; `full`: share of pixels that hold 65535."""

    median: float
    full: float


def depth_bits_problem(path: str, label: np.ndarray) -> Problem | None:
    """An error for a file of 8 bits, which holds a picture of depth and no depths."""
    if label.dtype != np.uint8:
        return None
    channels = '' if label.ndim == 2 else f' in {label.shape[2]} channels'
    found = f'8 bits per value{channels}: a picture of depth, {len(np.unique(label))} values'
    step = 'Get the 16-bit files of the set, or its .npy files: what a picture has lost cannot be computed back'
    return Problem('error', 'depth-bits', path, found, '16-bit millimetres, or metres as floating point', step)


def depth_facts(label: np.ndarray, metres: np.ndarray) -> DepthFacts | None:
    """Facts of a file (H, W) and its decoded map; None if it holds no depth."""
    full = label == FULL if label.dtype == np.uint16 else np.zeros(label.shape, bool)
    known = (metres > 0) & ~full
    return DepthFacts(float(np.median(metres[known])), float(full.mean())) if known.any() else None


def depth_notes(facts: Sequence[DepthFacts]) -> list[str]:
    """What the maps of a set show, for the report."""
    return [f'depth: median of an image {np.median([fact.median for fact in facts]):.3g} m']


def depth_problems(facts: Sequence[DepthFacts], where: str) -> list[Problem]:
    """Warnings for a unit other than the declared one, and for 65535 in the place of 0.

    Args:
        facts: Of some maps of the set, at least one.
        where: Folder of the maps, for the problems.
    """
    problems = []
    medians = np.array([fact.median for fact in facts])
    strange = (medians < NEAR) | (medians > FAR)
    if strange.mean() > 0.5:
        found = f'a median depth of {np.median(medians):.4g} m; outside in {strange.sum()} of {len(facts)} maps'
        step = "Not millimetres? Set units_per_metre of the pipeline's task, or convert the files; fine outdoors"
        problems.append(Problem('warning', 'depth-unit', where, found, f'{NEAR:g} to {FAR:g} m indoors', step))
    full = float(np.mean([fact.full for fact in facts]))
    if full > SATURATED:
        found = f'{FULL}, the largest number of 16 bits, in {full:.2%} of the pixels'
        step = f'If {FULL} means no measurement, set these pixels to 0; else the distance is cut off there'
        problems.append(Problem('warning', 'depth-full', where, found, '0 where depth is not known', step))
    return problems
