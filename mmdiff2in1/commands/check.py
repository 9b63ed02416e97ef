"""Check the data sets of a config before a training: every image, every label, what is missing, what does not fit.

    mmdiff2in1 check configs/diff2in1/vpd_scenes.py
    mmdiff2in1 check my_mmseg_config.py --limit 200         # a quick look, evenly spread
    mmdiff2in1 check my_mmseg_config.py --cfg-options val_dataloader.dataset.data_root=/my/data

Walks the sets of the train, val and test loaders, inside SyntheticSampleDataset and mmengine's wrappers too. Looks for
missing folders and split files, counts other than the official ones, images without label and labels without image,
files that cannot be read to the end, sizes that differ, colour-coded labels, values that are no class (a forgotten
reduce_zero_label, another ignore index), labels without any class, images of val or test that are in train as well,
classes that never occur, fields of the config that contradict the data, labels that a pipeline loads and no set gives.
Other labels than classes are read as their tasks store them: vectors that have no unit length, normals in another frame
than the data set declares (which one fits, of all 48), depth of 8 bits, in another unit, with 65535 in the place of 0,
edges in lines of two pixels, MATLAB files without what they are read for, labels that only some images have.
Synthetic samples are not read here: mmdiff2in1 synthesize CONFIG --out STORE --verify does that.

Writes OUT/report.json (everything) and OUT/overlays.png (labels over images, with the classes: look at it). Files are
only read. Exit status 0: no errors, there may be warnings; 1: errors.
"""

import argparse
import json
import sys
from pathlib import Path

from .config_arguments import add_config_arguments, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'whose data sets are read; its model is not built')
    parser.add_argument('--out', type=Path, help='default: work_dirs/check_dataset/CONFIG')
    parser.add_argument('--limit', type=int, help='read only so many pairs of each set, evenly spread (default: all)')
    parser.add_argument('--pictures', type=int, default=8, help='pairs drawn; 0: no picture (default: %(default)s)')
    parser.add_argument('--workers', type=int, help='that read at once (default: one for each core that may be used)')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses numbers out of their range, with a message."""
    for name in ('limit', 'workers'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} {getattr(args, name)}: expected at least 1')
    if args.pictures < 0:
        parser.error(f'--pictures {args.pictures}: expected 0 or more')


def run(args: argparse.Namespace) -> int:
    """Reads, prints, writes."""
    from mmengine.registry import init_default_scope
    from PIL import Image

    from mmdiff2in1.checks.check_datasets import check_datasets
    from mmdiff2in1.checks.pictures import dataset_pictures
    from mmdiff2in1.checks.report import report_text
    from mmdiff2in1.checks.settings import class_head
    from mmdiff2in1.core.atomic_files import write_atomically

    cfg = load_config(args)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    try:
        class_head(cfg)
    except (TypeError, ValueError) as error:
        print(f'{args.config}: model: {error}', file=sys.stderr)
        return 1
    out = args.out or Path('work_dirs', 'check_dataset', Path(args.config).stem)
    report, parts = check_datasets(cfg, args.limit, args.workers)
    if not parts:
        print(f'{args.config}: found no train, val or test dataloader, expected at least one', file=sys.stderr)
        return 1
    print(report_text(report))
    write_atomically(out / 'report.json', (json.dumps(report.as_dict(), indent=2) + '\n').encode())
    print(f'written: {out / "report.json"}')
    sheet = dataset_pictures(parts, class_head(cfg).get('num_classes'), args.pictures) if args.pictures else None
    if sheet is not None:
        Image.fromarray(sheet).save(out / 'overlays.png')
        print(f'written: {out / "overlays.png"}')
    return int(bool(report.problems('error')))
