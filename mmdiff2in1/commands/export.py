"""Export one model of a self-improving checkpoint under plain names, as mmseg's own tools load it.

    mmdiff2in1 export work_dirs/…/iter_300.pth --out creator.pth
    mmdiff2in1 export work_dirs/…/iter_300.pth --out exploiter.pth --model exploiter

The result fits the segmentor that was wrapped: your config, not the one that wraps it. It holds weights and mmengine's
meta (classes, palette), no optimizer. For a diffusers folder: mmdiff2in1 convert to_diffusers.
"""

import argparse

from .convert import convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('checkpoint', help='of a self-improving run, .pth or .safetensors')
    parser.add_argument('--out', required=True, metavar='FILE', help='.pth or .safetensors file to write')
    parser.add_argument('--model', choices=('creator', 'exploiter'), default='creator', help='θ_C (default) or θ_E')


def run(args: argparse.Namespace) -> None:
    """Reads, takes one model out, writes."""
    convert('to_mmseg', [args.checkpoint, '--out', args.out, '--model', args.model], 'mmdiff2in1 export')
