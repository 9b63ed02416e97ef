"""Train: warm-up → synthesis → self-improving → test, in one command.

    python tools/train.py configs/diff2in1/vpd_scenes.py
    python tools/train.py configs/diff2in1/vpd_scenes.py --resume            # after a kill, in any stage
    torchrun --nproc-per-node 8 tools/train.py configs/diff2in1/vpd_scenes.py

Each stage has its folder in the work dir (default: work_dirs/CONFIG): warmup, synthetic, self_improving, test; a
finished stage is skipped. At the end: results.json and curves.png. A config without ``stages`` is trained as mmseg
would train it. What load_from names must fit the model; load_from_may_differ=['decode_head.conv_seg'] in the config
names what need not, the last layer of another class count for instance.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process

from mmdiff2in1.training.chain import train, train_plain


def parse_args() -> argparse.Namespace:
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
    return parser.parse_args()


def main() -> None:
    """Runs the chain, or the plain config."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    work_dir = Path(args.work_dir or cfg.get('work_dir') or Path('work_dirs', Path(args.config).stem))
    if 'stages' in cfg:
        results = train(cfg, work_dir, args.resume)
        if is_main_process():
            print(json.dumps(results, indent=2))
        return
    train_plain(cfg, work_dir, args.resume)


if __name__ == '__main__':
    main()
