"""Write the self-improving form of a plain mmseg config: one file that stands alone.

    mmdiff2in1 wrap MY_CONFIG.py --generator WEIGHTS --captions captions.jsonl --load-from my.pth --out new.py
    mmdiff2in1 wrap MY_CONFIG.py --self-improving paste --out new.py
    mmdiff2in1 train new.py     # or mmseg's own tools/train.py, once mmdiff2in1 synthesize new.py has created

Your file stays as it is. Hooks, schedule, optimizer, loops, pipelines and backends of it stay as well; what is added is
printed.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .config_arguments import add_config_arguments
from .recipe_arguments import add_recipe_arguments, wrapped_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of a plain segmentor, of mmseg or your own')
    add_recipe_arguments(parser, required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='NEW.py', help='where the whole config is written')
    add_overwrite(parser)


def run(args: argparse.Namespace) -> None:
    """Writes the file and says what is new in it."""
    from mmdiff2in1.core.config_file import write_config

    check_new(args.out, args.overwrite)
    cfg = wrapped_config(args)
    write_config(cfg, args.out)
    print(f'written: {args.out}')
    for line in summary(cfg):
        print(f'  {line}')


def summary(cfg: Mapping[str, Any]) -> list[str]:
    """Lines on what a self-improving config adds to a plain one, one for each addition."""
    model, dataset = cfg['model'], cfg['train_dataloader']['dataset']
    hook = next(each for each in cfg['custom_hooks'] if each['type'] == 'SelfImprovingHook')
    stages = cfg.get('stages') or {}
    creation = stages.get('synthesis') or {}
    average = ', '.join(f'{key}={value}' for key, value in hook.items() if key != 'type')
    lines = [
        f'model: {model["segmentor"]["type"]} twice, θ_E that is trained and θ_C, its average ({average})',
        f'training set: the data set that it had, and samples of {dataset["store"] or "the store of the run"}, '
        f'mix={dataset["mix"]}',
        f'labels of samples: {model.get("label_rule") or "θ_C"}; loss: normalize_by={model.get("normalize_by")!r}, '
        f'synthetic_weight={model.get("synthetic_weight", 1.0)}',
    ]
    if creation:
        lines.append('samples: ' + ', '.join(f'{key}={value}' for key, value in creation.items()))
    if stages.get('warmup') is not None:
        lines.append('first: your own training, as the warm-up of θ_C (a checkpoint of it in load_from would do)')
    else:
        lines.append(f'from: load_from={cfg.get("load_from")}')
    return lines
