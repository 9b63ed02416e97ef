"""Split files: which images of a folder are the labelled ones, drawn from a seed.

N: images of the folder. A split file holds one name per line, without suffix, as mmseg's `ann_file` wants it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.folders import files_below, images_below
from mmdiff2in1.core.list_files import list_bytes
from mmdiff2in1.core.randomness import derived_seed


def percent_count(percent: float, total: int) -> int:
    """`percent` of `total` images, a half rounded up."""
    return int(Fraction(str(percent)) * total / 100 + Fraction(1, 2))


def split_name(seed: int, percent: float | None = None, count: int | None = None) -> str:
    """`10pct-seed0.txt` or `200images-seed0.txt`."""
    return (f'{percent:g}pct' if count is None else f'{count}images') + f'-seed{seed}.txt'


def asked_by_name(name: str, total: int) -> int | None:
    """How many of `total` images a split file of this name is to hold; None if it is not one of `split_name`."""
    match = re.fullmatch(r'([\d.]+)(pct|images)-seed\d+\.txt', name)
    if match is None:
        return None
    return percent_count(float(match.group(1)), total) if match.group(2) == 'pct' else int(float(match.group(1)))


def image_names(folder: str | Path, suffix: str) -> list[str]:
    """Paths of the images below `folder`, relative, without the suffix, with `/`, sorted; hidden files are left out."""
    return sorted(name.removesuffix(suffix) for name in files_below(folder, suffix))


def names_of_folder(folder: Path, suffix: str | None = None) -> tuple[list[str], str]:
    """`image_names` of a folder, and the suffix; None: that of the images in it, which are then of one kind.

    Raises:
        ValueError: No folder, no images, or images of several kinds.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder}: found no such folder, expected the folder of the training images')
    if suffix is None:
        found = Counter(Path(name).suffix for name in images_below(folder))
        if len(found) != 1:
            kinds = ', '.join(f'{count} {kind}' for kind, count in sorted(found.items())) or 'no images'
            raise ValueError(f"{folder}: found {kinds}, expected images of one kind; name the data set's with --suffix")
        (suffix,) = found
    names = image_names(folder, suffix)
    if not names:
        raise ValueError(f'{folder}: found no files that end in {suffix}; correct --suffix or the folder')
    return names, suffix


def draw_names(names: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of the names, sorted. The draw of one seed is nested: a smaller one is contained in a larger one.

    By hash of each name, so neither the order of the names nor NumPy's version matters.

    Raises:
        ValueError: `count` is not in 1 … N, or a name stands twice.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise ValueError(f'{len(names)} names, of which only {len(set(names))} differ; expected each once')
    if not 1 <= count <= len(names):
        raise ValueError(f'{count} images asked for, expected 1 to {len(names)}, the number of images there are')
    return sorted(sorted(names, key=lambda name: derived_seed(seed, 'split', name))[:count])


def make_splits(
    names: Sequence[str], seed: int, percents: Iterable[float] = (), counts: Iterable[int] = ()
) -> dict[str, list[str]]:
    """File name → its names, for each percentage and count.

    Raises:
        ValueError: A split would be empty or larger than the folder.
    """
    plan = {split_name(seed, percent): percent_count(percent, len(names)) for percent in percents}
    plan |= {split_name(seed, count=count): count for count in counts}
    return {file: draw_names(names, count, seed) for file, count in plan.items()}


def write_splits(folder: str | Path, splits: dict[str, list[str]]) -> list[Path]:
    """Writes the files that are not there yet; returns those.

    Raises:
        FileExistsError: A file of that name holds another split; then none is written.
        ValueError: A name that no list can hold.
    """
    contents = {Path(folder, file): list_bytes(names) for file, names in splits.items()}
    others = [str(file) for file, content in contents.items() if file.exists() and file.read_bytes() != content]
    if others:
        raise FileExistsError(
            f'{", ".join(others)}: found another split than the one to be written, expected none or the same. The '
            'images or the suffix have changed; move the file away, or choose another --out'
        )
    new = [file for file in contents if not file.exists()]
    for file in new:
        write_atomically(file, contents[file])
    return new
