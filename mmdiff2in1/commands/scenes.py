"""Make the Scenes set: small rendered rooms with exact classes, depth, normals and captions. Needs no download.

what is written
  OUT/meta.json                       seed, size, counts, class names, palette
  OUT/PART/images/000000.png          RGB
  OUT/PART/captions.jsonl             {"image": "000000.png", "caption": "a red bed and two balls in a room with ..."}
  OUT/PART/semantic/000000.png        class index, 8 bit                         }
  OUT/PART/depth/000000.png           millimetres along the optical axis, 16 bit } not for
  OUT/PART/normal/000000.png          (n + 1) / 2 * 65535 as RGB, 16 bit         } the part
  OUT/PART/saliency/000000.png        1 on what stands in the room, 8 bit        } unlabelled
  OUT/PART/edge/000000.png            255 on the borders of things, 8 bit        }

The parts never share a scene. The same seed gives the same files, whatever the number of workers. A part that is
there is kept, and gets labels that it lacks; one that was interrupted is made anew.

examples
  mmdiff2in1 scenes                          all parts, 1.5 minutes on two cores
  mmdiff2in1 scenes --parts train val        only these two
  mmdiff2in1 scenes --out data/tiny --counts train=20 val=10
"""

import argparse
from pathlib import Path

# Mean size of the files of one scene at 64 x 64, in bytes, measured over the default set.
BYTES = {'unlabelled': 6_900, 'labelled': 13_000}
COUNTS = 'unlabelled=10000 train=600 val=200 test=400'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('--out', default='data/scenes', type=Path, help='folder of the set (default: %(default)s)')
    parser.add_argument(
        '--counts', nargs='+', metavar='PART=N', type=_count, default=None,
        help=f'scenes per part; parts that are not named are not made (default: {COUNTS})',
    )  # fmt: skip
    parser.add_argument(
        '--parts', nargs='+', metavar='PART', default=None,
        help='make only these parts of --counts, separated by spaces or commas (default: all)',
    )  # fmt: skip
    parser.add_argument('--size', type=int, default=64, help='side of the images in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other scenes (default: %(default)s)')
    parser.add_argument('--workers', type=int, help='processes (default: one per core that may be used)')
    parser.add_argument('--dry-run', action='store_true', help='say what would be written and how large, then stop')


def _count(text: str) -> tuple[str, int]:
    part, _, number = text.partition('=')
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form PART=N, e.g. train=600")
    return part, int(number)


def run(args: argparse.Namespace) -> None:
    """Says what would be written, and writes it."""
    from mmdiff2in1.datasets.scenes import DEFAULT_COUNTS, make_scenes
    from mmdiff2in1.datasets.scenes.write import check_plan, missing_folders

    counts = dict(args.counts) if args.counts else dict(DEFAULT_COUNTS)
    if args.parts:
        wanted = [part for group in args.parts for part in group.split(',') if part]
        unknown = [part for part in wanted if part not in counts]
        if unknown:
            raise ValueError(f'--parts {" ".join(unknown)}: not among the counts; known parts: {", ".join(counts)}')
        counts = {part: counts[part] for part in wanted}
    check_plan(args.out, counts, args.size, args.seed)
    for part, count in counts.items():
        each = BYTES['unlabelled' if part == 'unlabelled' else 'labelled'] * (args.size / 64) ** 2
        missing = missing_folders(args.out / part, part)
        state = f'about {count * each / 2**20:.1f} MiB'
        if 'images' not in missing:
            state = f'there already, lacks {", ".join(missing)}' if missing else 'there already'
        print(f'{args.out / part}: {count} scenes of {args.size} x {args.size}, {state}')
    if not args.dry_run:
        make_scenes(args.out, counts, args.size, args.seed, args.workers)
        print(f'done: {args.out}')
