"""Facts about somebody's own images and masks: names, sizes, class numbers, and which are held out.

H, W: height and width of the images.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdiff2in1.core.folders import images_below
from mmdiff2in1.core.label_files import lossy_container, read_classes
from mmdiff2in1.core.photos import masks_beside, photos_below
from mmdiff2in1.core.randomness import derived_seed

IGNORED = 255
LOOKED_AT = 200
"""Masks that are opened, evenly spread."""
HELD_OUT = 0.2
LARGEST = 512
STRIDE = 32


@dataclass(frozen=True)
class OwnData:
    """Facts that were found.

    Attributes:
        images, masks: Folders.
        image_suffix, mask_suffix: Of the files in them.
        train, val: Names of the images, relative, without suffix.
        classes: Names, in the order of the numbers in the masks.
        values: Number in the masks → share of the pixels.
        size: Median (H, W).
        zero_is_ignored: The masks count from 1, and 0 is no class.
    """

    images: Path
    masks: Path
    image_suffix: str
    mask_suffix: str
    train: list[str]
    val: list[str]
    classes: list[str]
    values: dict[int, float]
    size: tuple[int, int]
    zero_is_ignored: bool

    def crop(self, multiple: int = STRIDE) -> tuple[int, int]:
        """(H, W) that is trained on: the median size or `LARGEST`, multiples of a model's stride."""
        height, width = (max(multiple, min(side, LARGEST) // multiple * multiple) for side in self.size)
        return height, width


def study(images: Path, masks: Path, classes: Sequence[str], zero_is_ignored: bool = False) -> OwnData:
    """Looks at folders of images and masks.

    Args:
        images: Folder of images, searched recursively, all with one suffix; masks beside them are left out, see
            `masks_beside`.
        masks: Folder of masks with the same names: one channel, class numbers, 255 is ignored. The same folder: the
            masks beside the images.
        classes: Their names, the first is that of 0.
        zero_is_ignored: The first name is that of 1, and 0 is no class.

    Raises:
        FileNotFoundError: No such folder, or no pairs in them.
        ValueError: Several suffixes, masks that hold no class numbers, or others than `classes` has names for.
    """
    names, image_suffix = _names(images, 'images')
    marks, mask_suffix = _beside(images) if images.resolve() == masks.resolve() else _names(masks, 'masks')
    both = sorted(set(names) & set(marks))
    if not both:
        raise FileNotFoundError(
            f'{images} and {masks} have no name in common: found {names[0]}{image_suffix} and {marks[0]}{mask_suffix}; '
            'expected a mask of the same name, but for the suffix, for each image'
        )
    values, sizes, holders = _values(masks, mask_suffix, both)
    _check_numbers(masks, values, holders, len(sizes), classes, zero_is_ignored)
    order = sorted(both, key=lambda name: derived_seed(0, 'held out', name))
    held = max(1, round(HELD_OUT * len(both))) if len(both) > 1 else 0
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    return OwnData(
        images.absolute(),
        masks.absolute(),
        image_suffix,
        mask_suffix,
        sorted(order[held:]),
        sorted(order[:held]),
        list(classes),
        values,
        (height, width),
        zero_is_ignored,
    )


def _names(folder: Path, what: str) -> tuple[list[str], str]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of {what}')
    files = [Path(name) for name in (photos_below if what == 'images' else images_below)(folder)]
    suffixes = Counter(file.suffix for file in files)
    if len(suffixes) != 1:
        kinds = ', '.join(f'{count} {suffix}' for suffix, count in suffixes.most_common()) or 'no image files'
        raise ValueError(f'{folder}: found {kinds}; expected {what} of one kind, as mmseg takes one suffix for a set')
    (suffix,) = suffixes
    return [file.with_suffix('').as_posix() for file in files], suffix


def _beside(folder: Path) -> tuple[list[str], str]:
    """Names of the images that have a mask beside them, and what the masks have in the place of their suffix."""
    pairs = [
        (Path(mask), Path(image).with_suffix('').as_posix())
        for mask, image in masks_beside(images_below(folder)).items()
    ]
    endings = Counter(mask.as_posix().removeprefix(image) for mask, image in pairs)
    if len(endings) != 1:
        kinds = (
            ', '.join(f'{count} {ending}' for ending, count in endings.most_common()) or 'no masks beside the images'
        )
        raise ValueError(
            f'{folder}: found {kinds}; expected one mask beside each image, a.png beside a.jpg, or a_mask.png beside '
            'a.jpg or a.png'
        )
    return [image for _, image in pairs], next(iter(endings))


def _values(
    masks: Path, suffix: str, names: Sequence[str]
) -> tuple[dict[int, float], list[tuple[int, int]], dict[int, list[str]]]:
    """Numbers in some of the masks with their share of the pixels, the sizes, and the files in which a number is."""
    counts: Counter[int] = Counter()
    sizes = []
    holders: dict[int, list[str]] = {}
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        path = str(masks / f'{name}{suffix}')
        container = lossy_container(path)
        if container is not None:
            raise ValueError(
                f'{path}: is {container}, which changes class numbers; expected PNG: export the masks again as PNG '
                '(converting these keeps the changed numbers), or are --images and --masks the wrong way round?'
            )
        array = read_classes(path)
        if array.ndim != 2:
            raise ValueError(
                f'{path}: found colours {array.shape}, expected one channel of class numbers; write the masks as '
                'numbers first (one colour → one number)'
            )
        sizes.append(array.shape)
        for value, count in zip(*np.unique(array, return_counts=True), strict=True):
            counts[int(value)] += int(count)
            holders.setdefault(int(value), []).append(path)
    total = sum(counts.values())
    return {value: count / total for value, count in sorted(counts.items())}, sizes, holders


def _check_numbers(
    masks: Path,
    values: Iterable[int],
    holders: dict[int, list[str]],
    looked_at: int,
    classes: Sequence[str],
    zero_is_ignored: bool,
) -> None:
    """Raises ValueError where a mask holds a number that has no name; says in how many masks, and names one."""
    allowed = len(classes) - (0 if zero_is_ignored else 1)
    strays = [value for value in sorted(values) if value > allowed and value != IGNORED]
    if not strays:
        return
    files = sorted({file for value in strays for file in holders[value]})
    numbers = ', '.join(map(str, sorted(values)))
    unnamed = ', '.join(map(str, strays))
    first = 1 if zero_is_ignored else 0
    ways = [f'Name all {strays[-1] + 1 - first} classes in the order of their numbers', f'map {unnamed} to {IGNORED}']
    if strays == [len(classes)]:
        ways.append('say --zero-ignored if 0 is no class and the first name is that of 1')
    raise ValueError(
        f'{masks}: found the class numbers {numbers}, and {len(classes)} names; expected numbers 0 … {allowed} (and '
        f'{IGNORED}, which is ignored); {unnamed} in {len(files)} of {looked_at} masks, as {files[0]}. '
        f'{", ".join(ways[:-1])}, or {ways[-1]}'
    )
