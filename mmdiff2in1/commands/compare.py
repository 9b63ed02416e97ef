"""Compare: does it help on your data? The same training with and without synthetic samples, over several seeds.

    mmdiff2in1 compare my_config-paste.py --seeds 3
    mmdiff2in1 compare my_mmseg_config.py --self-improving paste --seeds 3
    mmdiff2in1 compare unet_scenes-paste --seeds 0 1 2 --dry-run        which trainings, and where

Three rows of one table: real only (θ_E of the control), real + EMA (θ_C of the control) and Diff-2-in-1 (θ_C). The
control sees as many images per step, all of them real, for as many steps, from the same warm-up. Scores are those of
the test set; differences are paired by seed; the verdict is a sentence. Killed, the same command goes on. At the end
stands the report of the first seed, with its control beside.
"""

import argparse
from pathlib import Path

from .config_arguments import add_config_arguments, load_config, work_dir_of
from .device_arguments import add_process_device
from .recipe_arguments import add_recipe_arguments, recipe_settings, wrapped_config
from .train import tell_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'self-improving, or plain with --self-improving')
    seeds = 'how many seeds, 0 and up, or several seeds by number (3)'
    parser.add_argument('--seeds', type=int, nargs='+', default=[3], help=seeds)
    parser.add_argument('--metric', help='number that is compared (mIoU, else rmse of depth, mean angle of normals)')
    add_process_device(parser)
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/CONFIG-compare')
    parser.add_argument('--dry-run', action='store_true', help='check and list the trainings; nothing is trained')
    add_recipe_arguments(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Makes a list of the seeds; refuses arguments that do not go together, with a message."""
    if len(args.seeds) == 1:
        args.seeds = list(range(args.seeds[0]))
    if not args.seeds or len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        parser.error('--seeds: expected a number of 1 or more, or several different seeds')
    try:
        recipe_settings(args)
    except ValueError as error:
        parser.error(str(error))


def run(args: argparse.Namespace) -> dict | None:
    """Trains all, prints the table and the verdict."""
    from mmengine.dist import is_main_process

    from mmdiff2in1.training.comparison import RESULTS, Comparison, run_comparison, table

    cfg = wrapped_config(args) if args.self_improving else load_config(args)
    asked = Comparison(cfg=cfg, seeds=tuple(args.seeds), metric=args.metric)
    cfg.pop('work_dir', None)
    work_dir = work_dir_of(args, cfg, '-compare')
    if args.dry_run:
        for arm, seed, each, folder in asked.arms(work_dir):
            if seed == asked.seeds[0]:
                asked.check(each, folder)
            batch = each.get('global_batch_size') or each.train_dataloader.get('batch_size')
            print(f'{arm}, seed {seed}: {each.train_cfg.get("max_iters")} steps, {batch} real images each, {folder}')
        print('dry run: nothing was trained')
        return None
    result = run_comparison(asked, work_dir)
    if is_main_process():
        print('\n'.join(['', *table(result), '', result['verdict'], f'all of it: {work_dir / RESULTS}']))
        (_, _, _, control), (_, _, ours, folder), *_ = asked.arms(work_dir)
        tell_report(ours, folder, control)
    return result
