"""State dicts of θ_C and θ_E side by side: shared tensors are stored once, a plain checkpoint fills both.

Keys: `exploiter.<name>` and `creator.<name>`; shared tensors below `exploiter.` only, the preprocessor's below neither.
"""

import logging
from typing import Any

from mmengine.logging import print_log

from mmdiff2in1.core.names import some

from .parameter_pairs import shared_names


def drop_second_copies(model: Any, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """Hook after `state_dict`: what both models share leaves under one key."""
    for name in shared_names(model.creator, model.exploiter):
        state_dict.pop(f'{prefix}creator.{name}', None)
    for name in [key for key in state_dict if _of_inner_preprocessor(key, prefix)]:
        state_dict.pop(name)


def complete(model: Any, state_dict: dict, prefix: str) -> None:
    """Rewrite a state dict that is about to be loaded, in place, to the keys of `model`.

    What is then missing, unexpected or of another shape is refused by `whole_loading`.
    """
    found = [key.removeprefix(prefix) for key in state_dict]
    if not any(key.startswith(('exploiter.', 'creator.')) for key in found):
        _give_to_both(state_dict, prefix)
    expected = model.exploiter.state_dict()
    shared, not_shared = shared_names(model.creator, model.exploiter), []
    for name in expected:
        own, stored = f'{prefix}creator.{name}', f'{prefix}exploiter.{name}'
        if own not in state_dict and stored in state_dict:
            state_dict[own] = state_dict[stored]
            if name not in shared:
                not_shared.append(name)
    if not_shared:
        print_log(
            f'The checkpoint stores {len(not_shared)} tensors for the exploiter only, for example '
            f'{some(not_shared)}: the creator takes the same values.',
            logger='current',
            level=logging.WARNING,
        )
    for name in [key for key in expected if key.startswith('data_preprocessor.')]:
        for model_name in ('exploiter', 'creator'):
            if f'{prefix}{name}' in state_dict:
                state_dict[f'{prefix}{model_name}.{name}'] = state_dict[f'{prefix}{name}']


def _give_to_both(state_dict: dict, prefix: str) -> None:
    """The keys of a segmentor that was trained without the wrapper become those of θ_E and of θ_C."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if not name.startswith('data_preprocessor.'):
            state_dict[f'{prefix}exploiter.{name}'] = state_dict[f'{prefix}creator.{name}'] = state_dict.pop(key)


def _of_inner_preprocessor(key: str, prefix: str) -> bool:
    return key.startswith((f'{prefix}exploiter.data_preprocessor.', f'{prefix}creator.data_preprocessor.'))
