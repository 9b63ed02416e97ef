"""Test: the metrics of a checkpoint on the test set of a config, its predictions and pictures of them.

    python tools/test.py CONFIG CHECKPOINT                     θ_C, the model that ships
    python tools/test.py CONFIG CHECKPOINT --model both        θ_C, and θ_E under exploiter/
    python tools/test.py CONFIG CHECKPOINT --out predictions   label maps as PNG, in the encoding of the label files
    python tools/test.py CONFIG CHECKPOINT --show-dir pictures image | ground truth | prediction, one PNG per image
    python tools/test.py CONFIG CHECKPOINT --tta               several scales and mirrored, averaged
    torchrun --nproc-per-node 8 tools/test.py CONFIG CHECKPOINT

CHECKPOINT is that of a self-improving run or of a plain segmentor, CONFIG as well; a plain config takes θ_C out of a
self-improving checkpoint, a self-improving config puts a plain checkpoint into both models. Missing and unexpected keys
are an error. The metrics are printed and written to <work dir>/test/metrics.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.training.testing import TTA_SCALES, test_models

MODELS = {'creator': ('creator',), 'exploiter': ('exploiter',), 'both': ('creator', 'exploiter')}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with test_dataloader and test_evaluator')
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--model', choices=MODELS, help='of a self-improving config (default: creator, i.e. θ_C)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dir of the config, else work_dirs/CONFIG')
    parser.add_argument('--out', type=Path, help='folder of the predictions; with --model both, a subfolder for each')
    parser.add_argument('--show-dir', type=Path, help='folder of the pictures; both models stand side by side')
    parser.add_argument(
        '--tta',
        action='store_true',
        help=f'test-time augmentation: tta_model, tta_pipeline of the config, else scales {TTA_SCALES}, mirrored too',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='replace any entry of the config: a.b=c'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    args = parse_args(arguments)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    models = models_to_test(cfg, args.model)
    work_dir = Path(args.work_dir or cfg.get('work_dir') or Path('work_dirs', Path(args.config).stem))
    metrics = test_models(cfg, args.checkpoint, work_dir / 'test', models, args.tta, args.out, args.show_dir)
    if is_main_process():
        text = json.dumps(metrics, indent=2) + '\n'
        write_atomically(work_dir / 'test' / 'metrics.json', text.encode())
        print(text, end='')
        for what, folder in (('predictions', args.out), ('pictures', args.show_dir)):
            if folder:
                print(f'{what}: {folder}')
    return metrics


def models_to_test(cfg: Config, asked: str | None) -> Sequence[str | None]:
    """'creator', 'exploiter'; None for the one model of a plain config."""
    if cfg.model.type == 'SelfImprovingSegmentor':
        return MODELS[asked or 'creator']
    if asked:
        raise SystemExit(
            f'--model {asked}: the config holds one {cfg.model.type}, not θ_C and θ_E; leave --model out, or name the '
            'self-improving config'
        )
    return (None,)


if __name__ == '__main__':
    main()
