"""Check that neck and head read as many channels as the backbone gives: told at once, with both lists."""

from collections.abc import Sequence

from torch import Tensor, nn


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
        if not isinstance(getattr(reader, 'in_channels', None), Sequence):
            continue
        _compare(name, reader, given, 'backbone', f'{at} (class maps add one channel per class to their level)')


def check_channels_by_forward(model: nn.Module, images: Tensor) -> None:
    """The same of any backbone and neck, by what they give for ``images`` (B, 3, H, W); for a first pass that failed.

    Raises:
        ValueError: As :func:`check_channels`.
    """
    model = getattr(model, 'exploiter', model)
    backbone, neck = getattr(model, 'backbone', None), getattr(model, 'neck', None)
    if backbone is None:
        return
    maps, by = backbone(images), 'backbone'
    if neck is not None:
        _compare('neck', neck, _widths(maps), by)
        maps, by = neck(maps), 'neck'
    for name, reader in _heads(model).items():
        _compare(name, reader, _widths(maps), by)


def _widths(maps: Tensor | Sequence[Tensor]) -> list[int]:
    """Channels of each of the (B, C, H, W) maps; empty where they are something else."""
    maps = [maps] if isinstance(maps, Tensor) else maps
    known = isinstance(maps, Sequence) and all(isinstance(each, Tensor) and each.ndim == 4 for each in maps)
    return [each.shape[1] for each in maps] if known else []


def _compare(name: str, reader: nn.Module | None, given: Sequence[int], by: str, more: str = '') -> None:
    """Raises ValueError if a reader was built for other channels than it is given."""
    wanted, index = getattr(reader, 'in_channels', None), getattr(reader, 'in_index', None)
    if not given or not isinstance(wanted, Sequence | int):
        return
    if isinstance(wanted, int):  # of one map, or of several behind one another
        index = [index] if isinstance(index, int) else index
        if not isinstance(index, Sequence):
            return
    elif not isinstance(index, Sequence):  # all of them, in order
        index = range(max(len(given), len(wanted)))
    read = [given[i] if -len(given) <= i < len(given) else None for i in index]
    fits = sum(width or 0 for width in read) == wanted if isinstance(wanted, int) else list(wanted) == read
    if not fits:
        shown, right = (wanted if isinstance(wanted, int) else list(wanted)), (read[0] if len(read) == 1 else read)
        bare = ', or put a neck between them' if by == 'backbone' and name != 'neck' else ''
        raise ValueError(
            f'{name}.in_channels is {shown}, but the {by} gives {right}: set in_channels to that{bare}; all of its '
            f'maps are {list(given)}{more}'
        )


def _readers(model: nn.Module) -> dict[str, nn.Module | None]:
    neck = getattr(model, 'neck', None)
    return _heads(model) if neck is None else {'neck': neck}


def _heads(model: nn.Module) -> dict[str, nn.Module | None]:
    head = getattr(model, 'decode_head', None)
    heads = getattr(head, 'heads', None)
    if isinstance(heads, nn.ModuleDict):
        return {f'decode_head.heads.{name}': each for name, each in heads.items()}
    return {'decode_head': head}
