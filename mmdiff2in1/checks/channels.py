"""Whether neck or head reads as many channels as the backbone gives: told at once, with both lists."""

from collections.abc import Sequence

from torch import nn


def check_channels(model: nn.Module) -> None:
    """Compares the backbone's ``out_channels``, where it names them, with what its reader was built for.

    Raises:
        ValueError: They differ; torch would say so in the first forward pass, in terms of a single convolution.
    """
    model = getattr(model, 'exploiter', model)
    given = getattr(getattr(model, 'backbone', None), 'out_channels', None)
    name = 'neck' if getattr(model, 'neck', None) is not None else 'decode_head'
    reader = getattr(model, name, None)
    wanted = getattr(reader, 'in_channels', None)
    if not isinstance(given, Sequence) or not isinstance(wanted, Sequence):
        return
    index = getattr(reader, 'in_index', None)
    if not isinstance(index, Sequence):  # all of them, in order
        index = range(max(len(given), len(wanted)))
    read = [given[i] if -len(given) <= i < len(given) else None for i in index]
    if list(wanted) != read:
        raise ValueError(
            f'{name}.in_channels is {list(wanted)}, but the backbone gives {read}: set in_channels to that (class maps '
            'add one channel per class to their level)'
        )
