"""Train: warm-up → synthesis → self-improving → test, in one command.

    python tools/train.py configs/diff2in1/vpd_scenes.py
    python tools/train.py configs/diff2in1/vpd_scenes.py --resume            # after a kill, in any stage
    torchrun --nproc-per-node 8 tools/train.py configs/diff2in1/vpd_scenes.py
    python tools/train.py YOUR_MMSEG_CONFIG.py --self-improving careful --generator WEIGHTS --load-from YOURS.pth

Each stage has its folder in the work dir (default: work_dirs/CONFIG): warmup, synthetic, self_improving, test; a
finished stage is skipped. At the end: results.json and curves.png. A config without ``stages`` is trained as mmseg
would train it; with --self-improving it becomes a chain, whose whole config is written to the work dir and changed by
--cfg-options. What load_from names must fit the model; load_from_may_differ=['decode_head.conv_seg'] in the config
names what need not, the last layer of another class count for instance.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process

from mmdiff2in1.commands.recipe_arguments import add_recipe_arguments, recipe_settings
from mmdiff2in1.commands.wrap import summary, write_config
from mmdiff2in1.training.chain import train, train_plain
from mmdiff2in1.training.wrapping import wrap_config


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='default: work_dir of the config, else work_dirs/CONFIG')
    parser.add_argument('--resume', action='store_true', help='continue the unfinished stage from its last checkpoint')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='changes to the config, e.g. stages.synthesis.T=400 model.synthetic_weight=0.5',
    )
    add_recipe_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs the chain, or the plain config."""
    args = parse_args(arguments)
    cfg, name = Config.fromfile(args.config), Path(args.config).stem
    settings = recipe_settings(args)
    if args.self_improving:
        cfg, name = wrap_config(cfg, args.self_improving, **settings), f'{name}-self-improving'
    cfg.merge_from_dict(args.cfg_options)
    work_dir = Path(args.work_dir or cfg.get('work_dir') or Path('work_dirs', name))
    if args.self_improving and is_main_process():
        whole = work_dir / f'{name}.py'
        write_config(cfg, whole)
        print(f'the whole config, for tools/test.py, tools/synthesize.py and the like: {whole}')
        print('\n'.join(f'  {line}' for line in summary(cfg)), flush=True)
    if 'stages' in cfg:
        results = train(cfg, work_dir, args.resume)
        if is_main_process():
            print(json.dumps(results, indent=2))
        return
    train_plain(cfg, work_dir, args.resume)


if __name__ == '__main__':
    main()
