"""Optimizer constructors see θ_E alone, under the parameter names that they know from the plain model."""

from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ExploiterOptimWrapperConstructor:
    """Hands `model.exploiter` to another constructor, named by `base_constructor` in the optimizer config.

    Constructors that read parameter names from their beginning, such as layer-wise learning rate decay, work unchanged;
    θ_C, which no gradient reaches, stays out of the optimizer:

        optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor',
                             base_constructor='LearningRateDecayOptimizerConstructor', optimizer=…, paramwise_cfg=…)

    Raises TypeError for a model without `exploiter`, KeyError for an unknown `base_constructor`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        optim_wrapper_cfg = optim_wrapper_cfg.copy()
        name = optim_wrapper_cfg.pop('base_constructor', 'DefaultOptimWrapperConstructor')
        self.base = OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(type=name, optim_wrapper_cfg=optim_wrapper_cfg, paramwise_cfg=paramwise_cfg)
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        if not hasattr(model, 'exploiter'):
            raise TypeError(
                f'ExploiterOptimWrapperConstructor needs a model with an exploiter, found {type(model).__name__}; '
                'wrap it in SelfImprovingSegmentor, or drop constructor=… from optim_wrapper'
            )
        return self.base(model.exploiter)
