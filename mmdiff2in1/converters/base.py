"""Common parts of the converters: checkpoints of others into ours and back, with every tensor accounted for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from mmdiff2in1.core.names import kind_of, listed, some
from mmdiff2in1.core.rooms import import_room
from mmdiff2in1.generators.weight_files import WRAPPERS, WeightFile
from mmdiff2in1.models.checkpoints import read_checkpoint, write_state

OURS, THEIRS = 'ours', 'theirs'
CONVERTERS: dict[str, type['Converter']] = {}
"""Name of the tool → converter; of the files that are imported, see :func:`known`."""


@dataclass(frozen=True)
class Converted:
    """The tensors of a checkpoint in the other names, and where each of them comes from.

    Attributes:
        state: Name → tensor; complete, each with memory of its own.
        places: Name in the file → names in ``state``.
        left_out: Reason (it completes "six tensors …") → names in the file that are not in ``state``.
        added: Reason → names in ``state`` that the file does not hold.
        settings: What the tensors say of their model: arguments for a config, measures.
        key: Under what a PyTorch file holds ``state``, see :func:`write_state`.
    """

    state: dict[str, Tensor]
    places: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    added: Mapping[str, list[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    key: str = 'state_dict'

    def line(self) -> str:
        """One line on what became of the tensors."""
        left = [f'{_tensors(names)} {reason} ({some(names)})' for reason, names in self.left_out.items() if names]
        added = [f'{len(names)} {reason} ({some(names)})' for reason, names in self.added.items() if names]
        return '; '.join(
            [f'moved: {len(self.places)} tensors of the file']
            + ([f'left out, not needed here: {", ".join(left)}'] if left else [])
            + ([f'added: {", ".join(added)}'] if added else [])
        )


class Converter(ABC):
    """Both directions between somebody's checkpoints and ours. Its arguments are those of the command line.

    Attributes:
        whose: Who has made the files.
        which: Which of them are read, after ``whose``.
        marks: Beginning of a name → what a file with such a tensor is: :data:`THEIRS`, :data:`OURS`, or a description
            for the error. The first that is found counts.
        directions: Into whose names it converts, the usual one first.
        suffixes: What the result may end in; none: it is a folder.
        arguments: Of the command line, that are its own: name → as `argparse` takes it.
    """

    whose: ClassVar[str]
    which: ClassVar[str] = ''
    marks: ClassVar[Mapping[str, str]]
    directions: ClassVar[tuple[str, ...]] = (OURS, THEIRS)
    suffixes: ClassVar[tuple[str, ...]] = ('.safetensors', '.pth')
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def kind_of(self, names: Collection[str]) -> str:
        """:data:`THEIRS`, :data:`OURS`, or what else a file with tensors of these names is."""
        return kind_of(names, self.marks)

    @abstractmethod
    def to_ours(self, state: Mapping[str, Tensor]) -> Converted:
        """Their tensors → ours.

        Raises:
            ValueError: Tensors without a place, missing ones, or of another shape; they are listed.
        """

    @abstractmethod
    def to_theirs(self, state: Mapping[str, Tensor]) -> Converted:
        """Our tensors → theirs; raises as :meth:`to_ours`."""

    def report(self, converted: Converted, to: str) -> str:
        """Text about a conversion that the command prints."""
        return converted.line()

    def write(self, converted: Converted, out: Path, meta: dict) -> None:
        """Writes the result, whole or not at all; ``meta`` is mmengine's, for a file that is laid out as its own."""
        write_state(out, converted.state, meta, converted.key)


def register(name: str) -> Callable[[type[Converter]], type[Converter]]:
    """Makes a converter known, under the name of its file and its tool."""

    def registered(converter: type[Converter]) -> type[Converter]:
        CONVERTERS[name] = converter
        return converter

    return registered


def known() -> dict[str, type[Converter]]:
    """Every converter of this room, by name."""
    import_room(__package__)
    return CONVERTERS


def convert(converter: Converter, path: str | Path, out: str | Path | None = None, to: str = '') -> Converted:
    """Reads, converts, checks that no tensor is lost or made from nothing, and writes.

    Args:
        converter: Of the file.
        path: ``.pth`` or ``.safetensors``; nothing in it is run.
        out: File or folder to write; None: none.
        to: Into whose names, :data:`OURS` or :data:`THEIRS`; '': the usual direction.

    Raises:
        OSError: No such file, or the result cannot be written.
        ValueError: A damaged file, one of another kind, or what the converter raises.
    """
    to = to or converter.directions[0]
    out = None if out is None else Path(out).expanduser()
    if to == OURS:
        state, meta = _without_wrapper(WeightFile(path).read('')), {}
    else:
        state, meta = read_checkpoint(path).values()
    _check_kind(converter, path, state, to)
    try:
        converted = converter.to_ours(state) if to == OURS else converter.to_theirs(state)
        _check_account(state, converted)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if out is not None:
        converter.write(converted, out, meta)
    return converted


def _tensors(names: Sequence[str]) -> str:
    return f'{len(names)} tensor{"s" * (len(names) != 1)}'


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix of a model that was trained in DataParallel, and what else models are wrapped in."""
    parallel = all(name.startswith('module.') for name in state)
    plain = {}
    for stored, tensor in state.items():
        name = '.'.join(step for step in stored.split('.') if step not in WRAPPERS)
        plain[name.removeprefix('module.') if parallel else name] = tensor
    return plain


def _check_kind(converter: Converter, path: str | Path, names: Iterable[str], to: str) -> None:
    names = list(names)
    kind, wanted = converter.kind_of(names), THEIRS if to == OURS else OURS
    if kind == wanted:
        return
    theirs = f'{converter.whose} {converter.which}'.strip()
    noun = theirs if to == OURS or OURS not in converter.directions else 'mmdiff2in1'
    expected = [start for start, each in converter.marks.items() if each == wanted]
    if kind == 'another layout':
        marks = {
            start: f'a checkpoint of {each.whose}, which mmdiff2in1 convert {name} converts'
            for name, each in known().items()
            for start, side in each.marks.items()
            if side == THEIRS
        }
        kind = kind_of(names, marks)
    kind = {
        OURS: 'a checkpoint of mmdiff2in1, which needs no conversion (the way back is --to theirs)',
        THEIRS: f'a checkpoint of {theirs}, which --to ours converts',
    }.get(kind, kind)
    raise ValueError(
        f'{path} is no checkpoint of {noun}; found {kind} '
        f'({some(sorted({name.split(".")[0] for name in names}))}), expected tensors under {" or ".join(expected)}'
    )


def _check_account(names: Collection[str], converted: Converted) -> None:
    """Every tensor goes somewhere or is left out by name; every one of the result comes from somewhere."""
    left_out = {name for each in converted.left_out.values() for name in each}
    added = {name for each in converted.added.values() for name in each}
    filled = {place for places in converted.places.values() for place in places}
    wrong = {
        'without a place': [name for name in names if name not in converted.places and name not in left_out],
        'moved and left out': [name for name in converted.places if name in left_out],
        'moved and added': sorted(filled & added),
        'from nowhere': [name for name in converted.state if name not in filled | added],
        'lost on the way': sorted((filled | added) - converted.state.keys()),
    }
    if any(wrong.values()):
        raise ValueError(f'not every tensor is accounted for: {listed(wrong)}')
