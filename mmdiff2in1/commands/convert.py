"""Convert checkpoints of others into ours and back, or a trained U-Net into a diffusers folder.

    mmdiff2in1 convert vpd vpd_ade20k.pth --diffusion stable-diffusion-1.5 --out vpd_ade20k.safetensors
    mmdiff2in1 convert to_diffusers CONFIG CHECKPOINT --out FOLDER
    mmdiff2in1 convert bae --help                       what a converter reads, and what it writes

Each is a file in tools/model_converters too.
"""

import argparse
import importlib.util
from pathlib import Path

DOORS = Path(__file__).resolve().parents[1] / '.mim' / 'tools' / 'model_converters'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    names = sorted(file.stem for file in DOORS.glob('*.py'))
    parser.add_argument('converter', choices=names, metavar='CONVERTER', help=', '.join(names))
    parser.add_argument('rest', nargs=argparse.REMAINDER, metavar='…', help="the converter's own arguments")


def run(args: argparse.Namespace) -> None:
    """Hands over to a converter."""
    convert(args.converter, args.rest, f'mmdiff2in1 convert {args.converter}')


def convert(name: str, arguments: list[str], program: str) -> None:
    """Runs a file of tools/model_converters."""
    spec = importlib.util.spec_from_file_location(f'mmdiff2in1_convert_{name}', DOORS / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(arguments, program)
