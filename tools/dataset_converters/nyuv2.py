"""Write the official NYUv2 file as images and depth maps: 795 training and 654 test pairs, in mmsegmentation's layout.

    python tools/dataset_converters/nyuv2.py nyu_depth_v2_labeled.mat splits.mat --out data/nyu
    python tools/dataset_converters/nyuv2.py nyu_depth_v2_labeled.mat splits.mat --depth filled --dry-run

Both files come from the NYU Depth Dataset V2 page (2.8 GB and 3 KB). Needs h5py (pip install h5py).

    OUT/images/{train,test}/bathroom_00045.jpg         the kind of scene and the number in the file, from 0
    OUT/annotations/{train,test}/bathroom_00045.png    16-bit millimetres, 0 = not measured

The white frame of the images (rows 0-6 and 474-479, columns 0-6 and 632-639) is made black, as VPD and mmsegmentation
do. --depth raw is what the sensor measured, which depth is scored on; --depth filled has its holes painted in.

A pair that is there is kept; killed at any moment, run it again. Surface normals cannot be had from this file: those
that are scored on were computed by others (GeoNet, Bae et al.); see NYUv2NormalDataset for the packs.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told
from mmdiff2in1.core.arguments import Arguments

with told('tools/dataset_converters/nyuv2.py'):
    import cv2
    import numpy as np
    from scipy.io import loadmat
    from tqdm import tqdm

    from mmdiff2in1.core.atomic_files import write_atomically
    from mmdiff2in1.tasks import Depth

DEPTHS = {'raw': 'rawDepths', 'filled': 'depths'}
FRAME = (slice(7, 474), slice(7, 632))  # the pixels inside the white frame
SPLITS = {'train': 'trainNdxs', 'test': 'testNdxs'}
CONVERSION = 'conversion.json'  # which depth a folder holds
BYTES = 420_000  # of a pair, about


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Arguments(description=__doc__)
    parser.add_argument('mat', type=Path, help='nyu_depth_v2_labeled.mat')
    parser.add_argument('splits', type=Path, help='splits.mat')
    parser.add_argument('--out', type=Path, default=Path('data/nyu'), help='folder of the set (default: %(default)s)')
    parser.add_argument('--depth', choices=DEPTHS, default='raw', help='which depth (default: %(default)s)')
    parser.add_argument('--dry-run', action='store_true', help='say what would be written, then stop')
    return parser.parse_args(arguments)


def read_splits(path: Path) -> dict[str, list[int]]:
    """Part → numbers in the big file, from 0 (the file counts from 1).

    Raises:
        ValueError: Another file, or a number in both parts.
    """
    if not path.is_file():
        raise ValueError(f'{path}: found no such file, expected splits.mat of the NYUv2 page')
    try:
        content = loadmat(path)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f'{path}: expected the splits.mat of NYUv2, found: {error}') from error
    missing = [key for key in SPLITS.values() if key not in content]
    if missing:
        there = ', '.join(key for key in content if not key.startswith('__')) or 'nothing'
        raise ValueError(f'{path}: found {there}, expected trainNdxs and testNdxs; get the splits.mat of NYUv2')
    parts = {part: [int(number) - 1 for number in content[key].ravel()] for part, key in SPLITS.items()}
    for part, numbers in parts.items():
        if not numbers or min(numbers) < 0:
            found = f'number {min(numbers) + 1}' if numbers else 'no numbers'
            raise ValueError(f'{path}: found {found} in {SPLITS[part]}, expected numbers from 1 on')
    both = set(parts['train']) & set(parts['test'])
    if both:
        raise ValueError(f'{path}: found {len(both)} numbers in both parts, e.g. {min(both) + 1}, expected none')
    return parts


def open_mat(path: Path, depth: str) -> Any:
    """The big file, open for reading.

    Raises:
        ValueError: h5py is not there, or the file holds something else.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError('reading nyu_depth_v2_labeled.mat, an HDF5 file, needs h5py: pip install h5py') from error
    if not path.is_file():
        raise ValueError(f'{path}: found no such file, expected nyu_depth_v2_labeled.mat of the NYUv2 page')
    try:
        file = h5py.File(path, 'r')
    except OSError as error:
        raise ValueError(f'{path}: expected a whole HDF5 file, found: {error}; download it again') from error
    missing = [key for key in ('images', DEPTHS[depth], 'sceneTypes') if key not in file]
    if missing:
        there = ', '.join(sorted(file)) or 'nothing'
        raise ValueError(f'{path}: found {there}, expected {", ".join(missing)} as well; is it the labeled data set?')
    return file


def names_of(file: Any) -> list[str]:
    """`bathroom_00045` for each image of the big file."""
    references = np.ravel(file['sceneTypes'])
    kinds = [''.join(chr(int(letter)) for letter in np.ravel(file[reference])) for reference in references]
    return [f'{kind}_{number:05d}' for number, kind in enumerate(kinds)]


def missing_pairs(out: Path, parts: dict[str, list[int]], names: list[str]) -> Iterator[tuple[int, Path, Path]]:
    """(number, image, depth map) of the pairs that are not there yet."""
    for part, numbers in parts.items():
        for number in numbers:
            image = out / 'images' / part / f'{names[number]}.jpg'
            depth = out / 'annotations' / part / f'{names[number]}.png'
            if not (image.exists() and depth.exists()):
                yield number, image, depth


def check_kind(out: Path, kind: str) -> None:
    """Refuses to go on with another kind of depth than a folder was begun with.

    Raises:
        ValueError: That.
    """
    path = out / CONVERSION
    if path.is_file():
        begun = json.loads(path.read_text())['depth']
        if begun != kind:
            raise ValueError(
                f'{out} was made with --depth {begun}, asked for {kind}; choose another --out, or remove it'
            )


def convert(file: Any, number: int, image: Path, depth: Path, kind: str) -> None:
    """Write one pair. MATLAB's arrays come with their axes reversed: (3, W, H) and (W, H)."""
    rgb, black = file['images'][number].T, np.zeros((480, 640, 3), np.uint8)
    metres = file[DEPTHS[kind]][number].T
    if rgb.shape != black.shape or metres.shape != black.shape[:2]:
        raise ValueError(
            f'image {number} has the shape {rgb.shape}, its depth {metres.shape}; expected 480 × 640. Is it the '
            'labeled data set?'
        )
    black[FRAME] = rgb[FRAME]
    try:
        encoded = Depth().encode(metres)
    except ValueError as error:
        raise ValueError(f'image {number + 1} of the file, {DEPTHS[kind]}: {error}') from error
    for path, array in ((depth, encoded), (image, black[..., ::-1])):
        written, data = cv2.imencode(path.suffix, array)
        if not written:
            raise OSError(f'{path}: could not be encoded')
        write_atomically(path, data.tobytes())


def main(arguments: list[str] | None = None) -> int:
    """Reads, writes what is missing, prints."""
    args = parse_args(arguments)
    try:
        parts = read_splits(args.splits)
        with open_mat(args.mat, args.depth) as file:
            names = names_of(file)
            largest = max(max(numbers) for numbers in parts.values())
            if largest >= len(names):
                raise ValueError(
                    f'{args.splits} names image {largest + 1}, {args.mat} holds {len(names)}; a wrong file?'
                )
            check_kind(args.out, args.depth)
            todo = list(missing_pairs(args.out, parts, names))
            counts = ', '.join(f'{len(numbers)} {part}' for part, numbers in parts.items())
            print(f'{args.mat}: {counts} pairs, {args.depth} depth')
            print(f'{args.out}: {len(todo)} pairs to write, about {len(todo) * BYTES / 2**20:.0f} MiB')
            if not args.dry_run:
                write_atomically(args.out / CONVERSION, json.dumps(dict(depth=args.depth)).encode())
                for number, image, depth in tqdm(todo, 'NYUv2', unit='pair'):
                    convert(file, number, image, depth, args.depth)
                print(f"done: dict(type='NYUv2DepthDataset', data_root='{args.out}', part='train')")
    except (ValueError, OSError) as error:
        print(f'nyuv2: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
