"""FreeMask: which pixels of created images show the label they were created under, and which layouts are hard.

    mmdiff2in1 free-mask CONFIG CHECKPOINT --store work_dirs/…/synthetic          filter the labels of a store
    mmdiff2in1 free-mask CONFIG CHECKPOINT --scores hardness.jsonl                for resample=dict(type='hard', …)

CONFIG and CHECKPOINT are a segmentor that was trained on the real images of its training set, which the store was
created from. A pixel whose loss is above MARGIN times the mean of its class on the real images is ignored; the label is
stored with its sample: train with labels='stored' and label_rule=dict(type='GivenLabel'). Killed at any time, the same
command goes on.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .config_arguments import add_config_arguments, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of the segmentor, with the real labelled images as its training set')
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--store', type=Path, help='folder of created samples')
    parser.add_argument('--scores', type=Path, help='JSONL file for the hardness of each layout')
    add_overwrite(parser)
    parser.add_argument('--margin', type=float, default=1.25, help='see above (%(default)s)')
    parser.add_argument('--model', choices=('creator', 'exploiter'), default='creator', help='θ_C (default) or θ_E')
    parser.add_argument('--batch-size', type=int, default=8, help='images per forward pass')
    parser.add_argument('--device', help="'cpu', 'cuda:0' … (default: a GPU if there is one)")


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments that ask for nothing, with a message."""
    if args.store is None and args.scores is None:
        parser.error('nothing to do: name a --store, a file for --scores, or both')


def run(args: argparse.Namespace) -> dict:
    """Filters, scores, prints."""
    from mmdiff2in1.labelling.free_mask import free_mask
    from mmdiff2in1.synthesis import SampleStore

    if args.scores:
        check_new(args.scores, args.overwrite)
    cfg = load_config(args)
    store = None if args.store is None else SampleStore(args.store)
    report = free_mask(cfg, args.checkpoint, store, args.scores, args.margin, args.model, args.device, args.batch_size)
    print('\n'.join(table(report)))
    return report


def table(report: Mapping[str, Any]) -> list[str]:
    """Lines: each class's mean loss on real images, and the share of its created pixels that was filtered."""
    filtered = report.get('filtered', {})
    rows = [
        (name, f'{mean:.4g}', f'{filtered[name]:.1%}' if name in filtered else '–')
        for name, mean in report['class_means'].items()
    ]
    if filtered:
        rows.append(('in all', '', f'{report["filtered_in_all"]:.1%}'))
    wide = max(len(name) for name, _, _ in rows)
    return [
        f'{name:{wide}s} {loss:>10s} {share:>10s}' for name, loss, share in [('class', 'mean loss', 'filtered'), *rows]
    ]
