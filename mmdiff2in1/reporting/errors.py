"""How far a map is from another, pixel by pixel, for any task: wrong classes, degrees, metres, differences.

H, W image size; K classes.
"""

from collections.abc import Sequence

import numpy as np

from mmdiff2in1.tasks import DenseTask

from .pictures import Swatch, css, heat, heat_legend

RIGHT, WRONG, NOT_KNOWN = (205, 205, 205), (214, 39, 40), (0, 0, 0)


def pixel_errors(task: DenseTask, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float32 (H, W), NaN where one of the two says nothing.

    Classes: 1 where they differ, and where none is found although there is one. Vectors: the angle in degrees. Others:
    the difference in the unit of the task.
    """
    if task.num_classes:
        errors, known = found != truth, task.known(truth)
    else:
        known = task.known(truth) & task.known(found)
        if truth.ndim == 3:
            cosine = (found.astype(np.float64) * truth).sum(-1)
            errors = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        else:
            errors = np.abs(found.astype(np.float64) - truth)
    return np.where(known, errors, np.nan).astype(np.float32)


def mean_error(errors: np.ndarray) -> float | None:
    """Over the pixels that are known; None if there are none."""
    known = np.isfinite(errors)
    return float(errors[known].mean(dtype=np.float64)) if known.any() else None


def unit_of_errors(task: DenseTask) -> str:
    """'' where they have none."""
    return '°' if task.target_channels == 3 else 'm' if task.name == 'depth' else ''


def in_words(task: DenseTask, error: float) -> str:
    """A mean error."""
    if task.num_classes:
        return f'{error:.1%} of the known pixels are wrong'
    return f'mean error {error:.3g} {unit_of_errors(task)}'.strip()


def error_scale(task: DenseTask, errors: Sequence[np.ndarray]) -> float:
    """The largest value of the pictures of some errors, one for all, so that they compare: a round one.

    Nineteen of twenty pixels lie below.
    """
    if task.num_classes:
        return 1.0
    values = np.concatenate([each[np.isfinite(each)] for each in errors])
    high = float(np.quantile(values, 0.95)) if values.size else 0.0
    if high <= 0:
        return 1.0
    digit = 10.0 ** np.floor(np.log10(high))
    round_one = float(np.ceil(high / digit) * digit)
    return min(round_one, 180.0) if task.target_channels == 3 else round_one


def error_colours(task: DenseTask, errors: np.ndarray, most: float) -> np.ndarray:
    """A picture (H, W, 3) of errors."""
    if not task.num_classes:
        return heat(errors, most)
    colours = np.where((np.nan_to_num(errors) > 0)[..., None], np.array(WRONG, np.uint8), np.array(RIGHT, np.uint8))
    return np.where(np.isfinite(errors)[..., None], colours, np.array(NOT_KNOWN, np.uint8))


def error_legend(task: DenseTask, most: float) -> list[Swatch]:
    """Legend of a picture of errors."""
    if not task.num_classes:
        return [*heat_legend('error', most, unit_of_errors(task)), Swatch('not known', css(NOT_KNOWN))]
    kinds = (('right', RIGHT), ('wrong', WRONG), ('not known', NOT_KNOWN))
    return [Swatch('error:', ''), *(Swatch(text, css(colour)) for text, colour in kinds)]
