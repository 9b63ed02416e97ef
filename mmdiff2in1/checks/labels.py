"""Which values a class label may hold, and what is wrong with one that holds others. The one truth for it.

K: classes. *Raw* values stand in a label file; *trained* values are what mmseg's `LoadAnnotations` makes of them
(zero-label reduction, then the label map).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmdiff2in1.core.problem import Problem

DARK = (60, 60, 60)
UNKNOWN = (255, 0, 255)  # of values that no class has


@dataclass(frozen=True)
class LabelRules:
    """Which raw values a label may hold.

    `num_classes` (K): None, if nobody knows; then every value is allowed. `backend`: of mmcv, by which the training
    reads the files.
    """

    num_classes: int | None
    ignore_index: int = 255
    reduce_zero_label: bool = False
    label_map: Mapping[int, int] | None = None
    palette: tuple[tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()
    backend: str = 'pillow'

    @classmethod
    def of(cls, dataset, num_classes: int | None, backend: str = 'pillow') -> 'LabelRules':
        """Those of an mmseg dataset; `backend` of mmcv reads its files. Without `num_classes` its class names count.

        What mmseg calls one class is a foreground, 1, on a background, 0: two values.
        """
        metainfo = dataset.metainfo
        K = num_classes or len(metainfo.get('classes') or ())
        return cls(
            max(K, 2) if K else None,
            getattr(dataset, 'ignore_index', 255),
            bool(getattr(dataset, 'reduce_zero_label', False)),
            getattr(dataset, 'label_map', None),
            tuple(tuple(colour) for colour in metainfo.get('palette') or ()),
            tuple(metainfo.get('classes') or ()),
            backend,
        )

    @cached_property
    def trained(self) -> np.ndarray:
        """The trained value of each raw value 0 … 255, (256,) int."""
        values = np.arange(256)
        if self.reduce_zero_label:
            # mmseg's own numbers, whatever the ignore index is: 0 and 255 become 255.
            values = np.where((values == 0) | (values == 255), 255, values - 1)
        reduced = values.copy()
        for old, new in (self.label_map or {}).items():
            values[reduced == old] = new % 256
        return values

    @cached_property
    def allowed(self) -> np.ndarray:
        """Raw values 0 … 255 that become a class or the ignore index, as (256,) bool."""
        if self.num_classes is None:
            return np.ones(256, bool)
        return (self.trained < self.num_classes) | (self.trained == self.ignore_index)

    # Drawn as a `DenseTask` is, values that are no class as well.

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """The trained values (H, W) of a label file.

        Raises:
            ValueError: It holds colours.
        """
        if raw.ndim != 2:
            raise ValueError(f'found {raw.shape[2]} channels, expected one of class indices')
        return self.trained[raw.astype(np.uint8)]

    def known(self, array: np.ndarray) -> np.ndarray:
        """Where trained values (H, W) are not ignored."""
        return array != self.ignore_index

    def colours(self, array: np.ndarray) -> np.ndarray:
        """The palette's, (H, W, 3); values without one stand out."""
        table = np.full((256, 3), UNKNOWN, np.uint8)
        table[: len(self.palette)] = self.palette or table[:0]
        return table[array]

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """Number, name and share of each value that occurs, the most frequent first."""
        counts, lines = np.bincount(array.ravel(), minlength=256), []
        for value in np.argsort(-counts, kind='stable')[: np.count_nonzero(counts)].tolist():
            ignored = value == self.ignore_index
            named = self.classes[value] if value < len(self.classes) else 'no such class'
            colour = DARK if ignored else tuple(self.colours(np.array(value)).tolist())
            lines.append((f'{value} {"ignored" if ignored else named} {counts[value] / array.size:.1%}', colour))
        return lines


def class_pixels(path: str, label: np.ndarray, rules: LabelRules, problems: list[Problem]) -> np.ndarray | None:
    """Pixels per raw value of a label, (256,); None if it holds something else than class indices.

    Args:
        path: Of the label file, for the problems.
        label: Its content, unchanged.
        rules: What it may hold.
        problems: Gets what is wrong with it, at most one.
    """
    if label.ndim != 2:
        problems.append(_colours(path, label, rules))
        return None
    if label.dtype.kind == 'f' or label.size and (label.min() < 0 or label.max() > 255):
        found = f'{label.dtype} values {label.min()} … {label.max()}'
        step = 'Convert them to class indices in 8 bits; mmseg would keep only the lowest 8 bits of each value'
        problems.append(Problem('error', 'label-values', path, found, 'class indices of 8 bits', step))
        return None
    raw = np.bincount(label.astype(np.uint8).ravel(), minlength=256)
    strange = np.flatnonzero((raw > 0) & ~rules.allowed)
    if strange.size:
        problems.append(_strange_values(path, strange, raw, rules))
    elif raw.sum() == raw[rules.trained == rules.ignore_index].sum() and rules.num_classes is not None:
        step = 'Nothing can be learnt from it: leave the pair out, or look whether reduce_zero_label removes its class'
        expected = 'at least one pixel with a class'
        problems.append(Problem('warning', 'all-ignored', path, 'only ignored pixels', expected, step))
    return raw


def _strange_values(path: str, strange: np.ndarray, raw: np.ndarray, rules: LabelRules) -> Problem:
    K, trained = rules.num_classes, sorted(set(rules.trained[strange].tolist()))
    changed = ' after zero-label reduction and label map' if rules.reduce_zero_label or rules.label_map else ''
    if rules.reduce_zero_label and rules.ignore_index != 255:
        step = 'reduce_zero_label turns 0 into 255: set ignore_index=255 as well, or renumber the labels'
    else:
        step = '; '.join(_cures(trained, strange.tolist(), rules)) + '; else renumber the labels'
    found = f'label values {trained[:8]}{" and more" if len(trained) > 8 else ""}{changed}'
    return Problem('error', 'label-values', path, found, f'0 … {K - 1} or {rules.ignore_index} (ignore)', step)


def _cures(trained: list[int], strange: list[int], rules: LabelRules) -> list[str]:
    """What may be meant by trained values that are no class, and the settings that say so; raw they are `strange`.

    What a value means nobody can see: each cure that fits is one part of a sentence.
    """
    K, only, cures = rules.num_classes or 0, trained[0], []
    if trained == list(range(K, K + len(trained))):
        more, them = ('a class is', 'it') if len(trained) == 1 else (f'{len(trained)} classes are', 'them')
        cures.append(f'If {more} missing, add {them} to classes and set num_classes={trained[-1] + 1}')
    else:
        cures.append('If these are grey tones or palette colours, write class numbers instead')
    if trained == [K] and not rules.reduce_zero_label:
        cures.append(f'if 0 means unlabelled and 1 … {K} are the classes, set reduce_zero_label=True')
    if len(trained) == 1:
        ignoring = f'set ignore_index={only} in the data set, the heads and the evaluators'
        cures.append(
            f'if {strange[0]} means unlabelled, {"write 0 in its place" if rules.reduce_zero_label else ignoring}'
        )
    return cures


def _colours(path: str, label: np.ndarray, rules: LabelRules) -> Problem:
    channels = label[..., :3].astype(np.int64).reshape(-1, min(label.shape[-1], 3))
    # One number per pixel: rows are slow to compare.
    packed = np.unique(channels @ (1 << 8 * np.arange(channels.shape[1])))
    colours = packed[:, None] >> 8 * np.arange(channels.shape[1]) & 255
    found = f'{label.shape[-1]} channels with {len(colours)} colours'
    step = 'Colour-coded: convert each colour to its class index with the colour table of the set'
    if (colours == colours[:, :1]).all():
        step = 'All channels are equal: save one of them as an 8-bit grey PNG'
    elif {tuple(colour) for colour in colours.tolist()} <= {*rules.palette, (0, 0, 0)}:
        step = "These are colours of the set's palette: save the index of each colour in METAINFO['palette'] instead"
    return Problem('error', 'label-channels', path, found, 'one channel of class indices', step)
