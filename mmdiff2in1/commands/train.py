"""Train: warm-up → synthesis → self-improving → test, in one command.

    mmdiff2in1 train vpd_scenes                          a built-in config, from any folder
    mmdiff2in1 train my_config.py --resume               after a kill, in any stage
    mmdiff2in1 train YOUR_MMSEG_CONFIG.py --self-improving careful --generator WEIGHTS --load-from YOURS.pth
    torchrun --nproc-per-node 8 -m mmdiff2in1 train my_config.py

Each stage has its folder in the work dir (default: work_dirs/CONFIG): warmup, synthetic, self_improving, test; a
finished stage is skipped, an unfinished one asks for --resume or --restart. At the end: results.json, curves.png and
report.html. A config without ``stages`` is trained as mmseg would train it; with --self-improving it becomes a chain,
whose whole config is written to the work dir and changed by --cfg-options. What load_from names must fit the model;
load_from_may_differ=['decode_head.conv_seg'] in the config names what need not, the last layer of another class count
for instance.
"""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .config_arguments import add_config_arguments, load_config, work_dir_of
from .device_arguments import add_process_device
from .recipe_arguments import add_recipe_arguments, recipe_settings, wrapped_config
from .trackers import add_tracker_arguments, check_trackers, use_trackers

if TYPE_CHECKING:
    from mmengine.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of any mmseg segmentor, plain or self-improving')
    parser.add_argument('--work-dir', help='default: work_dir of the config, else work_dirs/CONFIG')
    begun = parser.add_mutually_exclusive_group()
    begun.add_argument('--resume', action='store_true', help='an unfinished stage goes on from its last checkpoint')
    begun.add_argument('--restart', action='store_true', help='an unfinished stage begins anew, even with resume=True')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    add_process_device(parser)
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='check all, and say what cached_views would take of disk and time; nothing is trained',
    )
    parser.add_argument('--no-report', action='store_true', help='without report.html at the end')
    add_tracker_arguments(parser)
    add_recipe_arguments(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments that do not go together, with a message."""
    try:
        recipe_settings(args)
        check_trackers(args)
    except (ValueError, ImportError) as error:
        parser.error(str(error))


def run(args: argparse.Namespace) -> None:
    """Runs the chain, or the plain config."""
    from mmengine.dist import is_main_process

    from mmdiff2in1.core.config_file import config_of_run
    from mmdiff2in1.training.chain import train, train_plain, unfinished

    from .scores import score_table
    from .wrap import summary

    cfg = wrapped_config(args) if args.self_improving else load_config(args)
    if args.restart:
        for place in (cfg, (cfg.get('stages') or {}).get('warmup') or {}):
            if place.get('resume'):
                place['resume'] = False
    work_dir = work_dir_of(args, cfg, '-self-improving' if args.self_improving else '')
    if args.dry_run:
        from mmdiff2in1.training.chain import dry_run

        for line in dry_run(cfg, work_dir):
            print(line)
        print('dry run: nothing was trained')
        return
    use_trackers(cfg, args)
    if args.amp:
        use_mixed_precision(cfg)
    held = None if args.resume or args.restart or cfg.get('resume') else unfinished(cfg, work_dir)
    if held is not None:
        raise ValueError(f'{held}; --resume goes on from there, --restart begins it anew')
    if args.self_improving and is_main_process():
        print('added to the plain config:')
        print('\n'.join(f'  {line}' for line in summary(cfg)), flush=True)
    if 'stages' in cfg:
        results = train(cfg, work_dir, args.resume)
        if is_main_process():
            print('\n'.join(score_table(results)))
            print(f'all of it: {work_dir / "results.json"}')
            place, options = args.config, args.cfg_options
            if args.self_improving:
                place, options = str(config_of_run(work_dir)), {}
                print(f'the whole config, for the other commands: {place}')
            print('\n'.join(next_steps(place, options, results['self_improving']['checkpoint'])))
    else:
        train_plain(cfg, work_dir, args.resume)
    if is_main_process() and not args.no_report:
        tell_report(cfg, work_dir)


def next_steps(config: str, options: Mapping[str, str], checkpoint: str) -> list[str]:
    """The commands that show a trained model at work, and hand it on."""
    changed = f' --cfg-options {shlex.join(f"{key}={value}" for key, value in options.items())}' if options else ''
    model, config = shlex.quote(checkpoint), shlex.quote(config)
    return [
        'next:',
        f'  mmdiff2in1 test {config} {model} --show-dir PICTURES{changed}',
        f'  mmdiff2in1 export {model} --config {config} --folder FOLDER{changed}',
    ]


def tell_report(cfg: 'Config', work_dir: Path, control: Path | None = None) -> None:
    """Writes report.html, with the scores of a control's work dir beside those of the run.

    The training is done, so that what keeps the page from being made is told and no more.
    """
    from mmdiff2in1.reporting import write_report

    try:
        print(f'look at {write_report(cfg, work_dir, control=control)}')
    except Exception as error:
        print(f'no report.html: {type(error).__name__}: {error}; mmdiff2in1 report {work_dir} --debug says more')


def use_mixed_precision(cfg: 'Config') -> None:
    """Puts the optimizer steps of a config, and of its warm-up, under autocast."""
    import torch

    from mmdiff2in1.core.bf16 import computes_bf16

    if not torch.cuda.is_available() and not computes_bf16(torch.device('cpu')):
        raise ValueError(
            '--amp: this processor does not compute in bfloat16, and would be many times slower; leave it out'
        )
    kind = 'AmpOptimWrapper' if torch.cuda.is_available() else 'BF16OptimWrapper'
    places = [cfg, (cfg.get('stages') or {}).get('warmup') or {}]
    for place in places:
        wrapper = place.get('optim_wrapper')
        if wrapper is None:
            continue
        if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', kind):
            raise ValueError(f'--amp: optim_wrapper.type is {wrapper.type!r} already; expected OptimWrapper')
        wrapper.type = kind
