"""Train: warm-up → synthesis → self-improving → test, in one command.

    python tools/train.py configs/diff2in1/vpd_scenes.py
    python tools/train.py configs/diff2in1/vpd_scenes.py --resume            # after a kill, in any stage
    torchrun --nproc-per-node 8 tools/train.py configs/diff2in1/vpd_scenes.py

Each stage has its folder in the work dir (default: work_dirs/CONFIG): warmup, synthetic, self_improving, test; a
finished stage is skipped. At the end: results.json and curves.png. A config without ``stages`` is trained as mmseg
would train it.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import init_default_scope

from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.engine.distributed import launcher_of_environment
from mmdiff2in1.training.chain import build_runner, check_weights, resume_where_possible, train
from mmdiff2in1.training.global_batch import split_global_batch


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
        help='changes to the config, e.g. stages.synthesis.T=400 model.min_confidence=0.8',
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
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    check_weights(cfg)
    check_data(cfg)
    cfg.work_dir = str(work_dir)
    if args.resume:
        resume_where_possible(cfg)
    launcher_of_environment()
    split_global_batch(cfg, get_world_size())
    build_runner(cfg).train()


if __name__ == '__main__':
    main()
