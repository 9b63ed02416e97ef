"""Export a trained model: as a folder that can be handed on, or as one file that mmseg's own tools load.

    mmdiff2in1 export CHECKPOINT --config CONFIG --folder FOLDER     config.json, model.safetensors, README.md
    mmdiff2in1 export CHECKPOINT --config CONFIG --folder FOLDER --metrics work_dirs/…/test/metrics.json --license MIT
    mmdiff2in1 export CHECKPOINT --out creator.pth                   θ_C under plain names
    mmdiff2in1 export CHECKPOINT --out exploiter.pth --model exploiter

A folder is what mmdiff2in1.Diff2in1.from_pretrained(FOLDER) reads: of a self-improving or of a plain checkpoint, with
classes and palette, a card that says what is known of the model, and nothing that is run. One file is for a
self-improving checkpoint, and fits the segmentor that was wrapped: your config, not the one that wraps it. Both hold no
optimizer. For a diffusers folder: mmdiff2in1 convert to_diffusers.
"""

import argparse
import json
from pathlib import Path

from .config_arguments import add_config_options, add_overwrite
from .convert import convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--model', choices=('creator', 'exploiter'), default='creator', help='θ_C (default) or θ_E')
    result = parser.add_mutually_exclusive_group(required=True)
    result.add_argument('--folder', type=Path, help='folder to write; needs --config')
    result.add_argument('--out', metavar='FILE', help='.pth or .safetensors file to write')
    add_overwrite(parser)
    folder = parser.add_argument_group('of a folder')
    folder.add_argument('--config', help='of the checkpoint; a file, or the name of a built-in config')
    add_config_options(folder)
    folder.add_argument('--metrics', type=Path, help='metrics.json that `mmdiff2in1 test` wrote, for the card')
    folder.add_argument('--license', default='', help='of the weights, for the card: MIT, CC-BY-4.0 …')
    folder.add_argument('--note', default='', help='for the card: what it was trained and tested on, how many seeds')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What the arguments say together."""
    if args.folder and not args.config:
        parser.error('--folder needs --config: the config that the checkpoint was trained with')
    given = [name for name in ('config', 'cfg_options', 'metrics', 'license', 'note') if getattr(args, name)]
    if args.out and given:
        parser.error(f'--{given[0].replace("_", "-")} belongs to --folder; a single file has no place for it')


def run(args: argparse.Namespace) -> None:
    """Reads, takes one model out, writes."""
    from mmdiff2in1.core.overwriting import check_new

    check_new(args.out or args.folder, args.overwrite)
    if args.out:
        replace = ['--overwrite'] if args.overwrite else []
        own = [args.checkpoint, '--out', args.out, '--model', args.model, *replace]
        convert('to_mmseg', own, 'mmdiff2in1 export')
    else:
        _write_folder(args)


def _write_folder(args: argparse.Namespace) -> None:
    from mmdiff2in1.inference import Claims, Diff2in1Inferencer

    from .config_arguments import load_config

    scores = {} if args.metrics is None else _read_metrics(args.metrics)
    cfg = load_config(args)
    two = cfg.model.type == 'SelfImprovingSegmentor'
    model = Diff2in1Inferencer(cfg, args.checkpoint, args.model if two else 'creator', device='cpu')
    folder = model.save_pretrained(args.folder, Claims(scores=scores, license=args.license, note=args.note))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f'{folder}: {size:.1f} MB; mmdiff2in1.Diff2in1.from_pretrained({str(folder)!r}) reads it')


def _read_metrics(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON ({error}); expected the metrics.json of `mmdiff2in1 test`') from error
    numbers = isinstance(found, dict) and all(isinstance(each, int | float) for each in found.values())
    if not numbers:
        raise ValueError(f'{path}: expected metrics and their values, {{"mIoU": 62.1}}')
    return found
