"""Test: the metrics of a checkpoint on the test set of a config, its predictions and pictures of them.

    mmdiff2in1 test CONFIG CHECKPOINT                     θ_C, the model that ships
    mmdiff2in1 test CONFIG CHECKPOINT --model both        θ_C, and θ_E under exploiter/
    mmdiff2in1 test CONFIG CHECKPOINT --out predictions   label maps as PNG, in the encoding of the label files
    mmdiff2in1 test CONFIG CHECKPOINT --show-dir pictures image | ground truth | prediction, one PNG per image
    mmdiff2in1 test CONFIG CHECKPOINT --tta               several scales and mirrored, averaged
    torchrun --nproc-per-node 8 -m mmdiff2in1 test CONFIG CHECKPOINT

CHECKPOINT is that of a self-improving run or of a plain segmentor, CONFIG as well; a plain config takes θ_C out of a
self-improving checkpoint, a self-improving config puts a plain checkpoint into both models. Missing and unexpected keys
are an error. The metrics are printed and written to <work dir>/test/metrics.json; tested.json beside it says of which
checkpoint they are.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .config_arguments import add_config_arguments, load_config, work_dir_of
from .device_arguments import add_process_device
from .scores import metric_table

if TYPE_CHECKING:
    from mmengine.config import Config

TITLES = {'creator': 'θ_C', 'exploiter': 'θ_E', None: 'model'}
MODELS = {'creator': ('creator',), 'exploiter': ('exploiter',), 'both': ('creator', 'exploiter')}


TESTED = 'tested.json'
"""Beside metrics.json: whose they are."""


INPUTS = {'checkpoint': 'checkpoint'}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'with test_dataloader and test_evaluator')
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--model', choices=MODELS, help='of a self-improving config: θ_C (the default), θ_E, or both')
    add_process_device(parser)
    parser.add_argument('--work-dir', type=Path, help='default: work_dir of the config, else work_dirs/CONFIG')
    parser.add_argument('--out', type=Path, help='folder of the predictions; with --model both, a subfolder for each')
    parser.add_argument('--show-dir', type=Path, help='folder of the pictures; both models stand side by side')
    add_overwrite(parser)
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: tta_model, tta_pipeline of the config, else six scales 0.5 … 1.75, mirrored too',
    )


def run(args: argparse.Namespace) -> dict[str, float]:
    """Tests, prints, writes."""
    from mmengine.dist import is_main_process

    from mmdiff2in1.core.atomic_files import write_atomically
    from mmdiff2in1.training.file_digests import sampled_digest
    from mmdiff2in1.training.testing import test_models

    for place in filter(None, (args.out, args.show_dir)):
        check_new(place, args.overwrite)
    cfg = load_config(args)
    models = models_to_test(cfg, args.model)
    folder = work_dir_of(args, cfg) / 'test'
    metrics = test_models(cfg, args.checkpoint, folder, models, args.tta, args.out, args.show_dir)
    if is_main_process():
        text = json.dumps(metrics, indent=2) + '\n'
        write_atomically(folder / 'metrics.json', text.encode())
        mark = sampled_digest(args.checkpoint)
        of = dict(checkpoint=args.checkpoint, digest=mark, config=args.config, models=models, metrics=metrics)
        write_atomically(folder / TESTED, (json.dumps(of, indent=2, ensure_ascii=False) + '\n').encode())
        print('\n'.join(metric_table(metrics, [TITLES[model] for model in models])))
        for what, place in (
            ('metrics', folder / 'metrics.json'),
            ('predictions', args.out),
            ('pictures', args.show_dir),
        ):
            if place:
                print(f'{what}: {place}')
    return metrics


def models_to_test(cfg: 'Config', asked: str | None) -> Sequence[str | None]:
    """'creator', 'exploiter'; None for the one model of a plain config."""
    if cfg.model.type == 'SelfImprovingSegmentor':
        return MODELS[asked or 'creator']
    if asked:
        raise ValueError(
            f'--model {asked}: the config holds one {cfg.model.type}, not θ_C and θ_E; leave --model out, or name the '
            'self-improving config'
        )
    return (None,)
