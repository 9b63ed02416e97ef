"""A converter that is a table of names, read in both directions, and our model that tells what must be there."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmdiff2in1.core.names import kind_of, listed

from .base import OURS, Converted, Converter
from .rules import Layout, Place

Tensors = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]
SELF_IMPROVING = {
    'exploiter.': 'a self-improving checkpoint of mmdiff2in1, which needs no conversion '
    '(mmdiff2in1 export writes one of its two models)'
}


@dataclass(frozen=True)
class OurModel:
    """The model of ours that some tensors describe.

    Attributes:
        settings: As in :class:`Converted`.
        needed: Shapes of all its tensors.
        added: Reason (it completes "six tensors …") → those that a file of theirs does not hold.
    """

    settings: Mapping[str, Any]
    needed: Shapes
    added: Mapping[str, Tensors] = field(default_factory=dict)


class TableConverter(Converter):
    """Nothing is left over and nothing is missing, in either direction, or the error lists it.

    Attributes:
        parts: Of our model: what it is called → beginnings of its names.
        doubt: What else may be wrong where tensors do not fit, for the error.
    """

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    doubt: str = ''

    @abstractmethod
    def layout(self, names: Iterable[str]) -> Layout:
        """Of the file with tensors of these names, theirs or ours."""

    @abstractmethod
    def our_model(self, ours: Tensors) -> OurModel:
        """The model that these tensors, in our names, are of; not all may be there, or have the right shape.

        Raises:
            KeyError: Lacking the tensor of that name the model's size cannot be told.
            ValueError: It is none that we have.
        """

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        """Reason → tensors of theirs that ours do not hold, because they follow from others."""
        return {}

    def title(self, settings: Mapping[str, Any]) -> str:
        """The kind of checkpoint that was found, in a word or two."""
        return self.whose

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        """Lines that a config needs for the tensors to fit."""
        return ''

    def kind_of(self, names: Iterable[str]) -> str:
        return kind_of(names, {**self.marks, **SELF_IMPROVING})

    def to_ours(self, state: Tensors) -> Converted:
        """Their tensors → ours in float32 (counters keep their type); raises as the base says."""
        layout = self.layout(state)
        left_out = {reason: [name for name in state if layout.reason(name) == reason] for reason in layout.unused}
        places = {name: layout.place(name) for name in state if layout.reason(name) is None}
        pieces = {
            ours: piece
            for name, place in places.items()
            if place
            for ours, piece in zip(place.names, place.rule.apart(state[name]), strict=True)
        }
        try:
            model = self.our_model(pieces)
        except KeyError as error:
            lost = str(error.args[0])
            raise ValueError(f'a tensor that {self.whose} has is missing: {layout.theirs(lost) or lost}') from error
        added = _joined(model.added)
        fitting = {name: place for name, place in places.items() if place and model.needed.keys() >= {*place.names}}
        takers = Counter(ours for place in fitting.values() for ours in place.names)
        missing = (layout.theirs(name) or name for name in model.needed if name not in pieces and name not in added)
        wrong = {
            'without a place': [name for name in places if name not in fitting],
            'of one place': [name for name, place in fitting.items() if any(takers[ours] > 1 for ours in place.names)],
            'missing': list(dict.fromkeys(missing)),
            'of another shape': [
                f'{name} {list(state[name].shape)}, expected {expected}'
                for name, place in fitting.items()
                if (expected := _their_shape(place, model.needed)) != list(state[name].shape)
            ],
        }
        if any(wrong.values()):
            raise ValueError(f'it is not a checkpoint that {self.whose} published{self.doubt}: tensors {listed(wrong)}')
        moved = {ours: _ours(piece) for ours, piece in pieces.items()}
        new = {name: tensor for name, tensor in added.items() if name not in moved}
        return Converted(
            moved | new,
            {name: place.names for name, place in fitting.items()},
            left_out,
            {reason: [name for name in each if name in new] for reason, each in model.added.items()},
            model.settings,
        )

    def to_theirs(self, state: Tensors) -> Converted:
        """Our tensors → theirs, types unchanged; raises as the base says."""
        layout = self.layout(state)
        try:
            model = self.our_model(state)
        except KeyError as error:
            raise ValueError(f'a tensor that our model needs is missing: {error.args[0]}') from error
        theirs = {name: layout.theirs(name) for name in (*model.needed, *state)}
        added = {name: reason for reason, each in model.added.items() for name in each}
        # What theirs never hold goes nowhere; it may as well be absent, as frozen parts are from some checkpoints.
        reasons = {name: layout.reason(there) if there else added.get(name) for name, there in theirs.items()}
        places = {name: (theirs[name],) for name in state if theirs[name] and not reasons[name]}
        origins = {there: layout.place(there) for (there,) in places.values()}
        wrong = {
            'without a place': [n for n in state if n not in model.needed or not theirs[n] and not reasons[n]],
            'missing': [name for name in model.needed if name not in state and not reasons[name]],
            'of another shape': [
                f'{name} {list(tensor.shape)}, expected {list(model.needed[name])}'
                for name, tensor in state.items()
                if name in model.needed and tuple(tensor.shape) != model.needed[name]
            ],
        }
        if any(wrong.values()):
            raise ValueError(
                f'it is not a checkpoint of ours of the model of {self.whose}{self.doubt}: tensors {listed(wrong)}'
            )
        moved = {
            there: origin.rule.together([state[name] for name in origin.names]).clone().contiguous()
            for there, origin in origins.items()
        }
        extras = self.their_extras(state)
        return Converted(
            moved | _joined(extras),
            places,
            _by_reason({name: reasons[name] for name in state if reasons[name]}),
            {reason: list(each) for reason, each in extras.items()},
            model.settings,
            layout.key,
        )

    def report(self, converted: Converted, to: str) -> str:
        title, line = self.title(converted.settings), converted.line()
        if to != OURS:
            return f'{title}\n\n{line}'
        lines = [title, self._parts_table(converted), line, self.config_lines(converted.settings)]
        return '\n\n'.join(each for each in lines if each)

    def _parts_table(self, converted: Converted) -> str:
        """One line per part and origin: its tensors and its numbers."""
        added = {name for each in converted.added.values() for name in each}
        lines = [f'{"part":<18}{"tensors":>8}{"numbers":>15}  from'] if self.parts else []
        for part, beginnings in self.parts.items():
            names = [name for name in converted.state if name.startswith(beginnings)]
            for origin, some_names in (
                ('CHECKPOINT', [name for name in names if name not in added]),
                ('added', [name for name in names if name in added]),
            ):
                if some_names:
                    numbers = sum(converted.state[name].numel() for name in some_names)
                    lines.append(f'{part:<18}{len(some_names):>8}{numbers:>15,}  {origin}')
        return '\n'.join(lines)


def module_shapes(modules: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name → shape of all tensors of modules, by their places in the segmentor."""
    return {
        f'{place}.{name}': tuple(tensor.shape)
        for place, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def arguments(settings: Mapping[str, Any]) -> str:
    """As they stand in a call: ``a=1, b='c'``."""
    return ', '.join(f'{name}={value!r}' for name, value in settings.items())


def _ours(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


def _their_shape(place: Place, needed: Shapes) -> list[int]:
    return list(place.rule.together([torch.empty(needed[name], device='meta') for name in place.names]).shape)


def _joined(groups: Mapping[str, Tensors]) -> dict[str, Tensor]:
    return {name: tensor for each in groups.values() for name, tensor in each.items()}


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    return {reason: [n for n, each in reasons.items() if each == reason] for reason in dict.fromkeys(reasons.values())}
