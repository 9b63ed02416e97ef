"""Write one page about a run: scores, curves, created images, what the model sees, the recipe and the versions.

    mmdiff2in1 report work_dirs/my_config                     a finished or unfinished work dir
    mmdiff2in1 report work_dirs/my_config --config my.py      where the work dir holds no whole config
    mmdiff2in1 report work_dirs/my_config --control DIR       with a training on real images alone beside

The page is WORK_DIR/report.html, one file that needs no network. With a control, WORK_DIR/curves.png is drawn anew.
"""

import argparse
from pathlib import Path

INPUTS = {
    'work_dir': 'folder; expected the work dir of a training',
    'checkpoint': 'checkpoint',
    'control': 'folder; expected the work dir of a control',
    'features': 'file of a feature network',
}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('work_dir', type=Path, help='of a training')
    parser.add_argument('--config', help='of the training (default: the one that lies in the work dir)')
    parser.add_argument('--checkpoint', type=Path, help='default: the last one of the run')
    parser.add_argument('--control', type=Path, help='work dir of as many steps on real images alone')
    parser.add_argument('--features', type=Path, help='TorchScript file of a feature network, for FID and KID')
    parser.add_argument('--num-images', type=int, default=6, help='pictures of each kind (%(default)s)')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses numbers out of their range, with a message."""
    if args.num_images < 1:
        parser.error(f'--num-images {args.num_images}: expected 1 or more')


def run(args: argparse.Namespace) -> Path:
    """Reads the run, writes the page, says where it is."""
    from mmdiff2in1.core.config_file import read_config
    from mmdiff2in1.reporting import write_report
    from mmdiff2in1.training.chain import draw_curves

    cfg = read_config(args.config or config_in(args.work_dir))
    page = write_report(
        cfg, args.work_dir, args.checkpoint, images=args.num_images, control=args.control, features=args.features
    )
    if args.control is not None:
        draw_curves(args.work_dir, args.control)
    print(f'written: {page}')
    return page


def config_in(work_dir: Path) -> Path:
    """The config that a training left in its work dir: the whole one, or that of its last stage.

    Raises:
        FileNotFoundError: There is none.
    """
    from mmdiff2in1.core.config_file import config_of_run

    whole = config_of_run(work_dir)
    if whole.is_file():
        return whole
    for folder in (work_dir, work_dir / 'self_improving'):
        files = sorted(folder.glob('*.py'), key=lambda file: file.stat().st_mtime)
        if files:
            return files[-1]
    raise FileNotFoundError(f'{work_dir} holds no config of a training; name it with --config')
