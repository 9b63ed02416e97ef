"""Devices that somebody names, looked at before any work."""

import torch


def check_device(device: str, asked_by: str = '--device') -> None:
    """Refuses a device that is not there.

    Args:
        device: As torch names it.
        asked_by: Option or key of the config, for the message.

    Raises:
        ValueError: Another name, no GPU, or not so many.
    """
    try:
        kind, number = torch.device(device).type, torch.device(device).index
    except RuntimeError:
        raise ValueError(f'{asked_by} {device!r}: expected cpu, cuda, or cuda:0, cuda:1 …') from None
    if kind != 'cuda':
        return
    check_gpu(device, asked_by)
    if number is not None and number >= torch.cuda.device_count():
        raise ValueError(f'{asked_by} {device}: there are {torch.cuda.device_count()} GPUs, cuda:0 is the first')


def check_gpu(device: str, asked_by: str) -> None:
    """Raises ValueError where torch has no GPU at all; `device` is what was asked for."""
    if not torch.cuda.is_available():
        built = 'it sees no such GPU' if torch.version.cuda else 'it was built without CUDA'
        raise ValueError(
            f'{asked_by} {device}: torch {torch.__version__} cannot compute there, {built}; mmdiff2in1 doctor says '
            f'more, {asked_by} cpu goes'
        )
