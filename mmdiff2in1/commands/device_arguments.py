"""Where a command computes: what --device may say, checked before any work."""

from __future__ import annotations

import argparse
import os
import re

HIDDEN = '-1'
"""Of CUDA_VISIBLE_DEVICES: no GPU."""


def add_process_device(parser: argparse._ActionsContainer) -> None:
    """Adds --device to a command whose parts choose by themselves where to compute, as mmengine's runner does."""
    parser.add_argument(
        '--device',
        dest='process_device',
        metavar='DEVICE',
        type=device_name,
        help='cpu, cuda, or cuda:N (default: a GPU if there is one); the whole process then sees no other',
    )


def device_name(text: str) -> str:
    """A device as torch names it; of argparse's kind."""
    if not re.fullmatch(r'cpu|cuda(:\d+)?', text):
        raise argparse.ArgumentTypeError(f'{text!r}: expected cpu, cuda, or cuda:0, cuda:1 …')
    return text


def hide_others(device: str) -> None:
    """Lets this process see one device alone; before torch has looked at the GPUs, which it does once.

    mmengine's runner takes a GPU where there is one, and so do creation and scoring: none of them is told. N counts
    those that CUDA_VISIBLE_DEVICES leaves, as torch does.

    Raises:
        ValueError: One GPU of several is asked for in several processes.
    """
    _, _, number = device.partition(':')
    if number and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        raise ValueError(f'--device {device}: of several processes each takes a GPU of its own; say --device cuda')
    if device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = HIDDEN
    elif number:
        seen = [each for each in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if each]
        place = int(number)
        # One that is not there stays as it is, and `check_hidden` says so.
        os.environ['CUDA_VISIBLE_DEVICES'] = (seen[place] if place < len(seen) else HIDDEN) if seen else number


def check_hidden(device: str) -> None:
    """What `hide_others` has done is what torch and mmengine see.

    Raises:
        ValueError: The device is not there, or torch had looked before.
    """
    import mmengine.device.utils
    import torch

    from mmdiff2in1.core.devices import check_gpu

    kind = device.partition(':')[0]
    if kind == 'cuda':
        check_gpu(device, '--device')
    elif torch.cuda.is_available():
        raise ValueError(
            '--device cpu: torch sees the GPUs of this process already; set CUDA_VISIBLE_DEVICES=-1 before'
        )
    mmengine.device.utils.DEVICE = kind  # which would be Apple's or another's, where they are
