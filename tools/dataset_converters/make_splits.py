"""Draw split files from a seed: which images count as labelled in a data-efficiency experiment, or with few labels.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training \
        --percent 10 20 30 40 50 60 70 80 90
    python tools/dataset_converters/make_splits.py my_set/train_jpg --count 50 200 --seed 1 --out my_set/splits

Writes OUT/10pct-seed0.txt ... and OUT/50images-seed1.txt ...: one image per line, its path below the folder without the
suffix, sorted. A config reads one with ann_file='splits/10pct-seed0.txt' (below data_root).

The splits of one seed are nested: what is in 10 % is in 20 %, and in any --count that is larger. They depend on the
names and the seed alone, not on the order of files on disk. The number of images is percent * N / 100, a half rounded
up: 10 % of ADE20K's 20210 are 2021. A file that is there is kept; one with other content stops the script.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told
from mmdiff2in1.core.arguments import Arguments

with told('tools/dataset_converters/make_splits.py'):
    from mmdiff2in1.datasets.splits import make_splits, names_of_folder, write_splits


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Arguments(description=__doc__)
    parser.add_argument('images', type=Path, help='folder of the training images; folders below it count as well')
    parser.add_argument('--percent', nargs='+', type=float, default=[], help='share of the images, e.g. 10 20 30')
    parser.add_argument('--count', nargs='+', type=int, default=[], help='numbers of images, e.g. 50 200')
    parser.add_argument('--seed', type=int, default=0, help='another seed draws other images (default: %(default)s)')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for the split files (default: splits, beside the folder images that holds them)',
    )
    parser.add_argument(
        '--suffix', help="the data set's img_suffix, e.g. _leftImg8bit.png (default: the one found in the folder)"
    )
    parser.add_argument('--dry-run', action='store_true', help='say what would be written, then stop')
    args = parser.parse_args(arguments)
    if args.out is None:
        beside = next((folder for folder in (args.images, *args.images.parents) if folder.name == 'images'), None)
        if beside is None:
            parser.error(f'{args.images} is not below a folder named images: say with --out where the files go')
        args.out = beside.parent / 'splits'
    if not args.percent and not args.count:
        parser.error('nothing to draw: name --percent or --count')
    wrong = [percent for percent in args.percent if not 0 < percent <= 100]
    if wrong:
        parser.error(f'--percent {wrong[0]:g}: expected more than 0 and at most 100')
    return args


def main(arguments: list[str] | None = None) -> int:
    """Draws, writes, prints."""
    args = parse_args(arguments)
    try:
        names, suffix = names_of_folder(args.images, args.suffix)
        splits = make_splits(names, args.seed, args.percent, args.count)
        print(f'{args.images}: {len(names)} images (*{suffix})')
        new = [] if args.dry_run else write_splits(args.out, splits)
    except (ValueError, OSError) as error:
        print(f'make_splits: {error}', file=sys.stderr)
        return 1
    for file, chosen in splits.items():
        path = args.out / file
        state = 'written' if path in new else 'there already' if path.exists() else 'would be written'
        print(f'{path}: {len(chosen)} images, {state}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
