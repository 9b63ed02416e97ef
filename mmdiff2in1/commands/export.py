"""Export a trained model: as a folder to hand on, as one file that mmseg's own tools load, or as an ONNX file.

    mmdiff2in1 export CHECKPOINT --config CONFIG --folder FOLDER     config.json, model.safetensors, README.md
    mmdiff2in1 export CHECKPOINT --config CONFIG --folder FOLDER --metrics work_dirs/…/test/metrics.json --license MIT
    mmdiff2in1 export CHECKPOINT --out creator.pth                   θ_C under plain names
    mmdiff2in1 export CHECKPOINT --out exploiter.pth --model exploiter
    mmdiff2in1 export CHECKPOINT --config CONFIG --onnx out.onnx     RGB image in, map out; needs mmdiff2in1[onnx]

A folder is what mmdiff2in1.Diff2in1.from_pretrained(FOLDER) reads: of a self-improving or of a plain checkpoint, with
classes and palette, a card that says what is known of the model, and nothing that is run. One file is for a
self-improving checkpoint, and fits the segmentor that was wrapped: your config, not the one that wraps it. Both hold no
optimizer. An ONNX file takes float32 RGB in 0 … 255 and gives logits, metres or unit normals at the size of the image;
it is compared with torch before it is written. For a diffusers folder: mmdiff2in1 convert to_diffusers.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .config_arguments import add_config_options
from .convert import convert
from .test import TESTED

if TYPE_CHECKING:
    from mmdiff2in1.inference import Diff2in1Inferencer

PLACES = {
    'config': ('folder', 'onnx'),
    'cfg_options': ('folder', 'onnx'),
    'size': ('onnx',),
    'free_size': ('onnx',),
    'metrics': ('folder',),
    'license': ('folder',),
    'note': ('folder',),
    'half': ('folder',),
}
"""Option → the results that it belongs to."""


INPUTS = {'checkpoint': 'checkpoint', 'metrics': 'file of metrics'}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--model', choices=('creator', 'exploiter'), default='creator', help='θ_C (default) or θ_E')
    result = parser.add_mutually_exclusive_group(required=True)
    result.add_argument('--folder', type=Path, help='folder to write; needs --config')
    result.add_argument('--out', metavar='FILE', help='.pth or .safetensors file to write')
    result.add_argument('--onnx', type=Path, metavar='FILE', help='.onnx file to write; needs --config')
    add_overwrite(parser)
    config = parser.add_argument_group('of a folder and of an ONNX file')
    config.add_argument('--config', help='of the checkpoint; a file, or the name of a built-in config')
    add_config_options(config)
    onnx = parser.add_argument_group('of an ONNX file')
    onnx.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help="of the images (the training's crop)")
    onnx.add_argument('--free-size', action='store_true', help='height and width are free, as the batch always is')
    folder = parser.add_argument_group('of a folder')
    folder.add_argument('--metrics', type=Path, help='metrics.json that `mmdiff2in1 test` wrote, for the card')
    folder.add_argument('--license', default='', help='of the weights, for the card: MIT, CC-BY-4.0 …')
    folder.add_argument('--half', action='store_true', help='store float16, which is read as float32: half the size')
    folder.add_argument('--note', default='', help='for the card: what it was trained and tested on, how many seeds')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What the arguments say together."""
    asked = 'folder' if args.folder else 'onnx' if args.onnx else 'out'
    if asked != 'out' and not args.config:
        parser.error(f'--{asked} needs --config: the config that the checkpoint was trained with')
    for name, places in PLACES.items():
        if getattr(args, name) and asked not in places:
            flag = name.replace('_', '-')
            parser.error(f'--{flag} belongs to {" and ".join(f"--{each}" for each in places)}, not to --{asked}')


def run(args: argparse.Namespace) -> None:
    """Reads, takes one model out, writes."""
    check_new(args.out or args.onnx or args.folder, args.overwrite)
    if args.out:
        replace = ['--overwrite'] if args.overwrite else []
        own = [args.checkpoint, '--out', args.out, '--model', args.model, *replace]
        convert('to_mmseg', own, 'mmdiff2in1 export')
    elif args.onnx:
        _write_onnx(args)
    else:
        _write_folder(args)


def _write_onnx(args: argparse.Namespace) -> None:
    from mmdiff2in1.inference.onnx_file import check_packages

    check_packages()
    size = None if args.size is None else tuple(args.size)
    written = _model(args).save_onnx(args.onnx, size, args.free_size)
    megabytes = sum(file.stat().st_size for file in written.files) / 1e6
    print(f'{" and ".join(map(str, written.files))}: {megabytes:.1f} MB')
    print('  image: RGB in 0 … 255, float32 (B, 3, H, W)')
    for name, said in written.outputs.items():
        print(f'  {name}: {said}')
    for check in written.checks:
        shape = '×'.join(map(str, check.shape))
        print(f'  images {shape}: differs from torch by {check.difference:.2g} at most, of {check.largest:.3g}')


def _write_folder(args: argparse.Namespace) -> None:
    from mmdiff2in1.inference import Claims

    scores = {} if args.metrics is None else _read_metrics(args.metrics, args.checkpoint)
    claims = Claims(scores=scores, license=args.license, note=args.note)
    folder = _model(args).save_pretrained(args.folder, claims, args.half)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f'{folder}: {size:.1f} MB; mmdiff2in1.Diff2in1.from_pretrained({str(folder)!r}) reads it')


def _model(args: argparse.Namespace) -> 'Diff2in1Inferencer':
    from mmdiff2in1.inference import Diff2in1Inferencer

    from .config_arguments import load_config

    cfg = load_config(args)
    two = cfg.model.type == 'SelfImprovingSegmentor'
    return Diff2in1Inferencer(cfg, args.checkpoint, args.model if two else 'creator', device='cpu')


def _read_metrics(path: Path, checkpoint: str) -> dict[str, float]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON ({error}); expected the metrics.json of `mmdiff2in1 test`') from error
    numbers = isinstance(found, dict) and all(isinstance(each, int | float) for each in found.values())
    if not numbers:
        raise ValueError(f'{path}: expected metrics and their values, {{"mIoU": 62.1}}')
    tested = path.with_name(TESTED)
    if path.name == 'metrics.json' and tested.is_file():
        from mmdiff2in1.training.file_digests import sampled_digest

        of = json.loads(tested.read_text())
        if of['metrics'] == found and of['digest'] != sampled_digest(checkpoint):
            raise ValueError(
                f'{path} holds the scores of {of["checkpoint"]}, not of {checkpoint}; test that one first, or give the '
                'metrics that are its own'
            )
    return found
