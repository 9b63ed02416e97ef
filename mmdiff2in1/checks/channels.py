"""Check that neck and head read as many channels as the backbone gives: told at once, with both lists."""

from collections.abc import Sequence

from torch import nn


def check_channels(model: nn.Module) -> None:
    """Compares the backbone's ``out_channels``, where it names them, with what its readers were built for.

    Readers are the neck, or the decode head, or several heads of several tasks.

    Raises:
        ValueError: They differ; torch would say so in the first forward pass, in terms of a single convolution.
    """
    model = getattr(model, 'exploiter', model)
    backbone = getattr(model, 'backbone', None)
    given = getattr(backbone, 'out_channels', None)
    if not isinstance(given, Sequence):
        return
    strides = getattr(backbone, 'strides', None)
    at = f' at strides {list(strides)}' if isinstance(strides, Sequence) else ''
    for name, reader in _readers(model).items():
        wanted = getattr(reader, 'in_channels', None)
        if not isinstance(wanted, Sequence):
            continue
        index = getattr(reader, 'in_index', None)
        if not isinstance(index, Sequence):  # all of them, in order
            index = range(max(len(given), len(wanted)))
        read = [given[i] if -len(given) <= i < len(given) else None for i in index]
        if list(wanted) != read:
            bare = '' if name == 'neck' else ', or put a neck between them'
            raise ValueError(
                f'{name}.in_channels is {list(wanted)}, but the backbone gives {read}: set in_channels to that{bare}; '
                f'all of its maps are {list(given)}{at} (class maps add one channel per class to their level)'
            )


def _readers(model: nn.Module) -> dict[str, nn.Module | None]:
    if getattr(model, 'neck', None) is not None:
        return {'neck': model.neck}
    head = getattr(model, 'decode_head', None)
    heads = getattr(head, 'heads', None)
    if isinstance(heads, nn.ModuleDict):
        return {f'decode_head.heads.{name}': each for name, each in heads.items()}
    return {'decode_head': head}
