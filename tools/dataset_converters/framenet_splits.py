"""Turn FrameNet's train_test_split.pkl into text lists that ScanNetNormalDataset reads as ann_file.

    python tools/dataset_converters/framenet_splits.py data/scannet/train_test_split.pkl
    python tools/dataset_converters/framenet_splits.py data/scannet/train_test_split.pkl --usage test --every 200

Writes OUT/train.txt, OUT/test.txt …: a line scene0000_00/frame-000000 per image, in the order of the file; the prefix
of the machine that it was made on is cut off. With --every 200 each 200th entry from the first on, the subset that
FrameNet and others test on: OUT/test-every200.txt.

The pickle is read without running any code in it: only lists, dictionaries and strings.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told
from mmdiff2in1.core.arguments import Arguments

with told('tools/dataset_converters/framenet_splits.py'):
    from mmdiff2in1.core.atomic_files import write_atomically
    from mmdiff2in1.core.list_files import list_bytes
    from mmdiff2in1.datasets.framenet_splits import image_names, read_split


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Arguments(description=__doc__)
    parser.add_argument('pkl', type=Path, help="FrameNet's train_test_split.pkl")
    parser.add_argument('--usage', nargs='+', help='parts to write (default: all in the file)')
    parser.add_argument('--every', type=int, default=1, help='only each so-many-th entry (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='folder for the lists (default: splits, beside the pickle)')
    parser.add_argument('--dry-run', action='store_true', help='say what would be written, then stop')
    args = parser.parse_args(arguments)
    if args.every < 1:
        parser.error(f'--every {args.every}: expected at least 1')
    args.out = args.out or args.pkl.parent / 'splits'
    return args


def main(arguments: list[str] | None = None) -> int:
    """Reads, writes, prints."""
    args = parse_args(arguments)
    try:
        content = read_split(args.pkl)
        unknown = [part for part in args.usage or [] if part not in content]
        if unknown:
            raise ValueError(f'--usage {" ".join(unknown)}: found no such part; known parts: {", ".join(content)}')
        for part in args.usage or content:
            names = image_names(content[part][:: args.every])
            file = args.out / (f'{part}.txt' if args.every == 1 else f'{part}-every{args.every}.txt')
            if not args.dry_run:
                write_atomically(file, list_bytes(names))
            print(f'{file}: {len(names)} of {len(content[part])} images{", not written" if args.dry_run else ""}')
    except (ValueError, OSError) as error:
        print(f'framenet_splits: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
