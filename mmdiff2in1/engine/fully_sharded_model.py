"""A model of which every process holds a share: weights, gradients and moments, by torch's `fully_shard` (FSDP2).

θ_E and θ_C are sharded alike, so that the average is taken share by share.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mmdiff2in1.core.names import some, unknown_names

SHARDED_LAYERS = ('ResnetBlock2D', 'Transformer2DModel', 'Downsample2D', 'Upsample2D', 'JointTransformerBlock')
"""Classes of diffusers that hold nearly all weights of a denoiser."""
PREDICTOR = 'predictor'
"""Method of a model that computes beside `forward`: what an evaluation of θ_C and θ_E calls first."""


@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """`model_wrapper_cfg = dict(type='FullyShardedModel')`, in the place of DistributedDataParallel.

    The model stays whole and on the CPU while it is initialised, loaded and resumed, all as it is without sharding; the
    `FullyShardHook` shards it before the first step. One process alone shards nothing.

    Args:
        module: The model.
        layers: Classes, by name, whose instances are gathered one at a time; all else is gathered for a whole step.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str] = SHARDED_LAYERS) -> None:
        super().__init__()
        self.module: Any = module.cpu()
        self.layers = tuple(layers)

    @property
    def sharded(self) -> bool:
        """Whether :meth:`shard` has been called."""
        return isinstance(self.module, FSDPModule)

    def shard(self, optim_wrapper: OptimWrapper) -> int:
        """Leaves this process its share of the weights and moments; returns the number of layers.

        Args:
            optim_wrapper: Of the whole model, with its moments if it has some already.

        Raises:
            TypeError: Several optimizers.
            ValueError: See `layers_of`; a parameter that two layers have in common or that is a single number; moments
                that are not one number per weight.
        """
        if isinstance(optim_wrapper, OptimWrapperDict):
            raise TypeError(f'FullyShardedModel takes one optimizer, found {type(optim_wrapper).__name__}')
        layers = layers_of(self.module, self.layers)
        _check_parameters(self.module, layers)
        _check_moments(optim_wrapper.optimizer)
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        device = torch.device(get_device())
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for module in (*layers[::-1], self.module):  # from the inside
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        if hasattr(self.module, PREDICTOR):
            register_fsdp_forward_method(self.module, PREDICTOR)
        self.module.to(device)  # what is in no layer, and mmengine's note of where the images go
        _hand_over(optim_wrapper.optimizer, names, dict(self.module.named_parameters()))
        return len(layers)

    def gather(self) -> None:
        """The whole weights on every process, until :meth:`release`: batches of an evaluation differ in their calls."""
        for module in self._parts():
            module.unshard()
            module.set_reshard_after_forward(False, recurse=False)

    def release(self) -> None:
        """Keeps this process's share alone."""
        for module in self._parts():
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """That of the model.

        Raises:
            RuntimeError: It is not sharded.
        """
        if not self.sharded:
            raise RuntimeError('FullyShardedModel is not sharded: train with `mmdiff2in1 train`, which sees to that')
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """That of the model."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """That of the model."""
        return self.module.test_step(data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """That of the model."""
        return self.module(*args, **kwargs)

    def _parts(self) -> list[Any]:
        return [module for module in self.module.modules() if isinstance(module, FSDPModule)]


def layers_of(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The parts of a model that are of these classes.

    Raises:
        ValueError: A class that is not in the model, other than those of `SHARDED_LAYERS`.
    """
    classes = sorted({type(module).__name__ for module in model.modules()})
    unknown = [name for name in names if name not in (*classes, *SHARDED_LAYERS)]
    if unknown:
        raise ValueError(f'FullyShardedModel: the model has no layers of the class {unknown_names(unknown, classes)}')
    return [module for module in model.modules() if type(module).__name__ in names]


def whole(tensor: DTensor) -> Tensor:
    """All of a tensor that processes share, on the CPU of the first; others get an empty one. All must call this."""
    full = tensor.detach().full_tensor()
    return full.cpu() if dist.get_rank() == 0 else full.new_empty(0)


def own_share(tensor: Tensor) -> Tensor:
    """What this process holds of it, to be changed in place."""
    return tensor.detach().to_local() if isinstance(tensor, DTensor) else tensor


def _check_parameters(model: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Raises ValueError for parameters that cannot be sharded."""
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ValueError(f'FullyShardedModel: {some(scalars)}: a parameter that is one number cannot be sharded')
    owner: dict[int, nn.Module] = {}
    for layer in (*layers[::-1], model):
        for module in layer.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if owner.setdefault(id(parameter), layer) is not layer and not _inside(module, owner[id(parameter)]):
                    raise ValueError(
                        f'FullyShardedModel: {type(module).__name__}.{name} is shared by two layers that are gathered '
                        'apart; leave one of them out of `layers`'
                    )


def _inside(module: nn.Module, layer: nn.Module) -> bool:
    return any(each is module for each in layer.modules())


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError for moments of another shape than their weights."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f'FullyShardedModel: {name} of {type(optimizer).__name__} has shape {tuple(value.shape)} for '
                    f'weights of {tuple(parameter.shape)}, expected a number per weight, as AdamW and SGD keep it'
                )


def _hand_over(optimizer: torch.optim.Optimizer, names: Mapping[int, str], sharded: Mapping[str, Any]) -> None:
    """The sharded parameters take the place of the whole ones, their moments too; schedulers keep their optimizer."""
    state = dict(optimizer.state)
    optimizer.state.clear()
    for group in optimizer.param_groups:
        for i, parameter in enumerate(group['params']):
            new = sharded[names[id(parameter)]]
            group['params'][i] = new
            if parameter in state:
                optimizer.state[new] = {name: _like(new, value) for name, value in state.pop(parameter).items()}


def _like(parameter: DTensor, value: Any) -> Any:
    """A moment as its weights are sharded; a count of steps as it is."""
    if not torch.is_tensor(value) or not value.ndim:
        return value
    mesh = parameter.device_mesh
    # Every process has read the same file: none sends.
    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)
