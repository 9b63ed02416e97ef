"""Rules from tensors of theirs to ours, for names and numbers, which are read in both directions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from torch import Tensor, cat


@dataclass(frozen=True)
class Rule:
    """All tensors whose names begin so. This one moves their numbers as they are; another way is a subclass.

    Attributes:
        theirs: Beginning of their name, in whole parts: ``a.b`` fits ``a.b`` and ``a.b.weight``. ``@`` is a number.
        ours: The same in ours, with as many ``@``. Several: theirs holds so many equal pieces one after another along
            its first dimension (query, key and value).
        shift: A number in ours, less the one in theirs.
    """

    theirs: str
    ours: str | tuple[str, ...]
    shift: int = 0

    @property
    def places(self) -> tuple[str, ...]:
        """``ours`` as a tuple."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def apart(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Theirs → ours, one tensor for each place. A shape that does not fit gives wrong shapes, not an error."""
        count = len(self.places)
        return tensor.tensor_split(count) if count > 1 and tensor.ndim else (tensor,) * count

    def together(self, tensors: Sequence[Tensor]) -> Tensor:
        """Ours, in the order of the places → theirs."""
        return cat(list(tensors)) if len(tensors) > 1 else tensors[0]


class Pointwise(Rule):
    """A weight is a 1 × 1 convolution in theirs and a linear layer in ours."""

    def apart(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (tensor.flatten(1) if tensor.ndim == 4 else tensor,)

    def together(self, tensors: Sequence[Tensor]) -> Tensor:
        (tensor,) = tensors
        return tensor[:, :, None, None] if tensor.ndim == 2 else tensor


def rules(names: Mapping[str, str], shift: int = 0) -> list[Rule]:
    """Rules that rename: theirs → ours."""
    return [Rule(theirs, ours, shift) for theirs, ours in names.items()]


def below(table: Iterable[Rule], theirs: str, ours: str) -> list[Rule]:
    """The rules with something before their names."""
    return [
        replace(rule, theirs=theirs + rule.theirs, ours=tuple(ours + place for place in rule.places)) for rule in table
    ]


class Place(NamedTuple):
    """Where a tensor of theirs goes: by which rule, and to which names of ours."""

    rule: Rule
    names: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How a file of theirs is laid out.

    Attributes:
        rules: The first that fits counts.
        unused: Reason (it completes "six tensors …") → names of theirs that we neither read nor write.
        key: Under what a PyTorch file of theirs holds its tensors; '': it holds nothing else.
    """

    rules: Sequence[Rule]
    unused: Mapping[str, re.Pattern] = field(default_factory=dict)
    key: str = 'state_dict'

    def place(self, name: str) -> Place | None:
        """Where the tensor of theirs goes, None where there is no rule."""
        for pattern, rule in self._to_ours:
            found = pattern.match(name)
            if found:
                return Place(rule, tuple(_filled(place, found, rule.shift) for place in rule.places))
        return None

    def theirs(self, name: str) -> str | None:
        """The tensor of theirs that one of ours comes from, None where there is none."""
        for pattern, rule in self._to_theirs:
            found = pattern.match(name)
            if found:
                theirs = _filled(rule.theirs, found, -rule.shift)
                place = self.place(theirs)
                if place and name in place.names:  # else a rule before it leads elsewhere
                    return theirs
        return None

    def reason(self, name: str) -> str | None:
        """Why the tensor of theirs has no use; None: it has one."""
        return next((reason for reason, pattern in self.unused.items() if pattern.fullmatch(name)), None)

    @cached_property
    def _to_ours(self) -> list[tuple[re.Pattern, Rule]]:
        return [(_pattern(rule.theirs), rule) for rule in self.rules]

    @cached_property
    def _to_theirs(self) -> list[tuple[re.Pattern, Rule]]:
        return [(_pattern(place), rule) for rule in self.rules for place in rule.places]


def _pattern(beginning: str) -> re.Pattern:
    return re.compile(re.escape(beginning).replace('@', r'(\d+)') + r'(?=\.|$)')


def _filled(beginning: str, found: re.Match, shift: int) -> str:
    for number in found.groups():
        beginning = beginning.replace('@', str(int(number) + shift), 1)
    return beginning + found.string[found.end() :]
