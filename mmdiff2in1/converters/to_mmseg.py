"""A self-improving checkpoint → one of its two models under plain names, as mmseg's own tools load it."""

from collections.abc import Mapping

from torch import Tensor

from mmdiff2in1.models.checkpoints import of_one_model

from .base import OURS, THEIRS, Converted, Converter, register

MODELS_INSIDE = ('creator', 'exploiter')
"""θ_C and θ_E."""


@register('to_mmseg')
class ToMmseg(Converter):
    """There is no way back: a self-improving config takes a plain checkpoint for both models as it is.

    Args:
        model: ``creator`` (θ_C) or ``exploiter`` (θ_E).
    """

    whose = 'a self-improving training'
    marks = {'exploiter.': OURS, '': 'one with no θ_E and θ_C: it has plain names already, and fits as it is'}
    directions = (THEIRS,)
    arguments = {'--model': dict(choices=MODELS_INSIDE, default=MODELS_INSIDE[0], help='θ_C (default) or θ_E')}

    def __init__(self, model: str = MODELS_INSIDE[0]):
        self.model = model

    def to_ours(self, state: Mapping[str, Tensor]) -> Converted:
        raise ValueError('plain names need no conversion: name the file in load_from, it becomes both θ_C and θ_E')

    def to_theirs(self, state: Mapping[str, Tensor]) -> Converted:
        plain = of_one_model(dict(state), self.model)
        places, left_out = places_of_one_model(state, plain)
        # Tensors that share memory, which safetensors refuses, are stored each for itself.
        own = {name: tensor.clone().contiguous() for name, tensor in plain.items()}
        return Converted(own, places, {f'of the model beside {self.model}': left_out})

    def report(self, converted: Converted, to: str) -> str:
        return f'{self.model}: {len(converted.state)} tensors under plain names; {converted.line()}'


def places_of_one_model(
    state: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Name in the checkpoint → name in ``plain``, which :func:`of_one_model` took out of it; and the other names."""
    places: dict[str, tuple[str, ...]] = {}
    for name, tensor in state.items():
        bare = name.removeprefix('exploiter.').removeprefix('creator.')
        if plain.get(bare) is tensor:
            places[name] = (bare,)
    return places, [name for name in state if name not in places]
