"""Optimizer constructors that see θ_E alone, and that keep the number of parameter groups small."""

from typing import Any

from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

LAYER_DECAY = {'decay_rate', 'decay_type', 'num_layers'}
"""Keys of `paramwise_cfg` that only mmseg's constructors for layer-wise decay read."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ExploiterOptimWrapperConstructor:
    """Hands `model.exploiter` to another constructor, named by `base_constructor` in the optimizer config.

    Constructors that read parameter names from their beginning, such as layer-wise learning rate decay, work unchanged;
    θ_C, which no gradient reaches, stays out of the optimizer:

        optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor',
                             base_constructor='LearningRateDecayOptimizerConstructor', optimizer=…, paramwise_cfg=…)

    Raises TypeError for a model without `exploiter`, KeyError for an unknown `base_constructor`, and ValueError for
    settings of layer-wise decay without one.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.base = _base(optim_wrapper_cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        if not hasattr(model, 'exploiter'):
            raise TypeError(
                f'ExploiterOptimWrapperConstructor needs a model with an exploiter, found {type(model).__name__}; '
                'wrap it in SelfImprovingSegmentor, or drop constructor=… from optim_wrapper'
            )
        return self.base(model.exploiter)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor:
    """Builds with another constructor (`base_constructor`), then joins parameter groups of equal options.

    With `custom_keys` mmengine makes one group for each tensor, and an optimizer updates group by group: the 700 small
    updates of a U-Net take longer than one over all of its tensors. The parameters and what happens to them stay.

    `flat_decay=False` in the optimizer config takes the weight decay from all tensors of one dimension (biases, norms,
    scales), also from those that a custom key matches, where mmengine's `flat_decay_mult` is not asked.

    Raises KeyError for an unknown `base_constructor`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        cfg = optim_wrapper_cfg.copy()
        self.flat_decay = cfg.pop('flat_decay', True)
        self.base = _base(cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        wrapper = self.base(model)
        joined: dict[str, dict] = {}
        for group in wrapper.optimizer.param_groups:
            for parameter in group['params']:
                options = {name: value for name, value in group.items() if name != 'params'}
                if parameter.ndim <= 1 and not self.flat_decay:
                    options['weight_decay'] = 0.0
                joined.setdefault(repr(sorted(options.items())), {**options, 'params': []})['params'].append(parameter)
        wrapper.optimizer.param_groups[:] = joined.values()
        return wrapper


def _base(optim_wrapper_cfg: dict, paramwise_cfg: dict | None) -> Any:
    """The constructor that `base_constructor` names, mmengine's default without it."""
    cfg = optim_wrapper_cfg.copy()
    name = cfg.pop('base_constructor', None)
    decay = sorted(LAYER_DECAY & set(paramwise_cfg or {}))
    if name is None and decay:
        raise ValueError(
            f"paramwise_cfg holds {', '.join(decay)}, which mmengine's default constructor does not read; name the one "
            "that does: base_constructor='LearningRateDecayOptimizerConstructor', for example"
        )
    name = name or 'DefaultOptimWrapperConstructor'
    return OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=name, optim_wrapper_cfg=cfg, paramwise_cfg=paramwise_cfg))
