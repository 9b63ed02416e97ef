"""A state dict fits a model or is refused: mmengine loads with strict=False and would only log what does not.

θ_C is `creator`, θ_E `exploiter`.
"""

import logging
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log
from torch import nn

from mmdiff2in1.core.names import some

from .parameter_pairs import named_tensors

MAY_DIFFER = 'load_from_may_differ'
"""Key of a config, and attribute of a model: beginnings of names that need not fit."""


def load_whole(model: nn.Module, may_differ: str | Sequence[str] = ()) -> None:
    """From now on all that is loaded into `model`, by torch or by mmengine, must fit it, or RuntimeError is raised.

    Args:
        model: Any segmentor. Called again, it only takes the new names.
        may_differ: Names of modules or tensors of the segmentor, such as `decode_head.conv_seg`, that may be missing,
            unexpected or of another shape; what of them does not fit stays as the config built it.
    """
    if not hasattr(model, MAY_DIFFER):
        model.register_load_state_dict_pre_hook(_before_loading)
        model.register_load_state_dict_post_hook(_after_loading)
    setattr(model, MAY_DIFFER, (may_differ,) if isinstance(may_differ, str) else tuple(may_differ))


def refuse_misfits(model: nn.Module, missing: Iterable[str], unexpected: Iterable[str], others: Iterable[str]) -> None:
    """RuntimeError with all that does not fit, if anything does not.

    Missing tensors may be those that a backbone names in `frozen_modules()`: they stay as the config built them; and
    counters of batch norms, which nothing reads.

    Args:
        model: What was loaded into.
        missing: Names of tensors that the state dict lacks.
        unexpected: Names of tensors that the model lacks.
        others: Messages about the rest, such as tensors of another shape.
    """
    frozen = frozen_names(model)
    lacking = [name for name in missing if name not in frozen and not name.endswith('num_batches_tracked')]
    kinds = {'missing': lacking, 'unexpected': list(unexpected), 'unfit': [' '.join(text.split()) for text in others]}
    if any(kinds.values()):
        raise RuntimeError(
            f'the checkpoint does not fit the {type(model).__name__} of the config:\n  '
            + '\n  '.join(f'{kind} {len(names)}: {some(names)}' for kind, names in kinds.items() if names)
            + '\nUse the config that it was trained with (the one beside it in its work dir). To start a training from '
            f"it all the same, name what may differ in the config: {MAY_DIFFER} = ['decode_head.conv_seg']"
        )


def frozen_names(model: nn.Module) -> set[str]:
    """Names of the tensors that the backbones of `model` declare as frozen."""
    backbones = [getattr(each, 'backbone', None) for each in (model, getattr(model, 'exploiter', None))]
    modules = [module for each in backbones if hasattr(each, 'frozen_modules') for module in each.frozen_modules()]
    frozen = {id(tensor) for module in modules for _, tensor in named_tensors(module)}
    return {name for name, tensor in named_tensors(model) if id(tensor) in frozen}


def _before_loading(
    model: nn.Module, state_dict: dict, prefix: str, _metadata: dict, _strict: bool, _missing: list, _unexpected: list,
    errors: list,
) -> None:  # fmt: skip
    """Drops what may differ and does; keeps the list that the parts of the model are going to write errors into."""
    model._loading_prefix, model._loading_errors = prefix, errors
    expected = dict(named_tensors(model))
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        fits = name in expected and expected[name].shape == state_dict[key].shape
        if not fits and _may_differ(model, name):
            state_dict.pop(key)


def _after_loading(model: nn.Module, incompatible) -> None:
    prefix, errors = model.__dict__.pop('_loading_prefix'), model.__dict__.pop('_loading_errors')
    missing, unexpected = (
        [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
        for keys in (incompatible.missing_keys, incompatible.unexpected_keys)
    )
    kept = [name for name in missing if _may_differ(model, name)]
    refuse_misfits(model, [name for name in missing if name not in kept], unexpected, errors)
    if kept:
        text = f'{MAY_DIFFER}: {len(kept)} tensors stay as the config built them: {some(kept)}'
        print_log(text, 'current', logging.WARNING)
        # torch's own strict loading asks this list.
        names = incompatible.missing_keys
        names[:] = [key for key in names if key.removeprefix(prefix) not in kept]


def _may_differ(model: nn.Module, name: str) -> bool:
    plain = name.removeprefix('exploiter.').removeprefix('creator.')
    return any(f'{plain}.'.startswith(f'{start.rstrip(".")}.') for start in getattr(model, MAY_DIFFER))
