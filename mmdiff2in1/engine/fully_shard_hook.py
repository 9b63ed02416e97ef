"""When a `FullyShardedModel` is sharded, gathered and put together for a checkpoint."""

from typing import Any

from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import apply_to
from mmseg.registry import HOOKS
from torch.distributed.tensor import DTensor

from .compile_layers_hook import CompileLayersHook
from .fully_sharded_model import FullyShardedModel, whole


@HOOKS.register_module()
class FullyShardHook(Hook):
    """Shards before the first step, when all is loaded; gathers for evaluations; a checkpoint is that of any other run.

    `build_runner` adds it where `model_wrapper_cfg` is a `FullyShardedModel`.

    Raises:
        ValueError: `compile` in the config, or a hook that compiles layers.
        TypeError: The model is wrapped otherwise.
    """

    # Before hooks that look at the model's tensors.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._states: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Refuses what does not go together."""
        if not isinstance(runner.model, FullyShardedModel):
            raise TypeError(f'FullyShardHook needs a FullyShardedModel, found {type(runner.model).__name__}')
        if runner.cfg.get('compile') or any(isinstance(hook, CompileLayersHook) for hook in runner.hooks):
            raise ValueError('FullyShardedModel cannot be compiled: drop compile, and CompileLayersHook')

    def before_train(self, runner: Runner) -> None:
        """Weights and moments are loaded; from here on each process has its share."""
        count = runner.model.shard(runner.optim_wrapper)
        own = sum(p.to_local().numel() for p in runner.model.parameters())
        every = sum(p.numel() for p in runner.model.parameters())
        runner.logger.info(f'{count} layers are sharded: {own} of {every} numbers are on this process')

    def before_val(self, runner: Runner) -> None:
        """The whole weights for the evaluation."""
        if runner.model.sharded:
            runner.model.gather()
        else:
            runner.model.module.to(get_device())

    def after_val(self, runner: Runner) -> None:
        """The share again."""
        if runner.model.sharded:
            runner.model.release()

    before_test, after_test = before_val, after_val

    def before_checkpoint(self, runner: Runner) -> None:
        """Puts the whole states together; `ChainRunner` asks every process for it."""
        states = dict(state_dict=runner.model.module.state_dict(), optimizer=runner.optim_wrapper.state_dict())
        self._states = apply_to(states, lambda value: isinstance(value, DTensor), whole)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """The first process writes what all have put together."""
        checkpoint.update({name: self._states[name] for name in self._states if name in checkpoint})
        self._states = {}
