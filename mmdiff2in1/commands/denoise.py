"""Denoise: a config's model learns from images without labels first, by seeing through noise.

    mmdiff2in1 denoise unet_scenes --images photos/                  your own images, none of them labelled
    mmdiff2in1 denoise CONFIG --images photos/ more/*.jpg --iters 8000
    mmdiff2in1 denoise CONFIG --dry-run
    mmdiff2in1 train CONFIG --cfg-options load_from=work_dirs/CONFIG-denoise/denoiser.pth      then train as ever
    mmdiff2in1 train CONFIG --self-improving paste --load-from work_dirs/CONFIG-denoise/denoiser.pth

CONFIG is that of any mmseg segmentor whose decode head ends in conv_seg, from random weights; its own crops and
augmentation are used. The whole network learns to remove noise from the images of --images and of the training set,
as a diffusion model does; labels play no part. The result is a checkpoint for load_from without the last layer. It pays
where labels are few and the model starts from random weights: docs/evidence.md. Killed at any time, --resume goes on.
"""

import argparse
import math
from pathlib import Path

from .config_arguments import add_config_arguments, load_config
from .device_arguments import add_process_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of the model')
    parser.add_argument(
        '--images', nargs='+', help='folders, files or patterns of images without labels (default: the labelled ones)'
    )
    parser.add_argument('--iters', type=int, default=4000, help='steps (%(default)s)')
    parser.add_argument('--batch-size', type=int, default=32, help='images per step and process (%(default)s)')
    parser.add_argument('--lr', type=float, help="peak learning rate (default: the config's)")
    parser.add_argument(
        '--noise',
        type=float,
        nargs='+',
        default=[0.3],
        help='standard deviation, half the range of an image being 1; or the lowest and the highest (0.3)',
    )
    add_process_device(parser)
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/CONFIG-denoise')
    parser.add_argument('--dry-run', action='store_true', help='check all, and say what would be done')
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint of an unfinished run')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses numbers that cannot be, with a message."""
    for name in ('iters', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: expected 1 or more')
    if args.lr is not None and not 0 < args.lr < math.inf:
        parser.error(f'--lr {args.lr}: expected a number > 0')
    if len(args.noise) > 2 or not 0 < args.noise[0] <= args.noise[-1] <= 1:
        given = ' '.join(map(str, args.noise))
        parser.error(f'--noise {given}: expected a number in (0, 1], or the lowest and the highest')


def run(args: argparse.Namespace) -> None:
    """Trains, and says how to go on."""
    from mmengine.dist import is_main_process

    from mmdiff2in1.training.denoising import (
        CURVES,
        PICTURE,
        Denoising,
        check_denoising,
        pretrain_as_denoiser,
    )

    cfg = load_config(args)
    asked = Denoising(
        images=args.images,
        iters=args.iters,
        batch_size=args.batch_size,
        lr=args.lr,
        noise=args.noise[0] if len(args.noise) == 1 else tuple(args.noise),
    )
    work_dir = args.work_dir or Path('work_dirs') / f'{Path(args.config).stem}-denoise'
    if args.dry_run:
        found = check_denoising(cfg, asked, work_dir)
        print(f'{found} images without labels beside the training set, {args.iters} steps of {args.batch_size}')
        print('dry run: nothing was written')
        return
    checkpoint = pretrain_as_denoiser(cfg, asked, work_dir, args.resume)
    if is_main_process():
        print(f'written: {checkpoint}; {work_dir / PICTURE}, {work_dir / CURVES}')
        print(f'next: mmdiff2in1 train {args.config} --cfg-options load_from={checkpoint}')
