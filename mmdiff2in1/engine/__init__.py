"""Engine of a self-improving training: the average that makes θ_C, exact resume, atomic checkpoints, evaluation."""

from .atomic_backend import AtomicBackend
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bf16_optim_wrapper import BF16OptimWrapper
from .channels_last_hook import ChannelsLastHook
from .compile_layers_hook import CompileLayersHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook
from .fully_shard_hook import FullyShardHook
from .fully_sharded_model import FullyShardedModel
from .interrupt_hook import InterruptHook
from .moving_average import alpha_for, move_creator
from .optim_wrapper_constructors import ExploiterOptimWrapperConstructor, GroupedOptimWrapperConstructor
from .power_lr import PowerLR
from .progress_bar_hook import ProgressBarHook
from .self_improving_hook import SelfImprovingHook
from .self_improving_loops import SelfImprovingTestLoop, SelfImprovingValLoop

__all__ = [
    'AtomicBackend',
    'AtomicCheckpointHook',
    'BF16OptimWrapper',
    'ChannelsLastHook',
    'CompileLayersHook',
    'ExactResumeHook',
    'ExploiterOptimWrapperConstructor',
    'FiniteLossHook',
    'FullyShardHook',
    'FullyShardedModel',
    'GroupedOptimWrapperConstructor',
    'InterruptHook',
    'PowerLR',
    'ProgressBarHook',
    'SelfImprovingHook',
    'SelfImprovingTestLoop',
    'SelfImprovingValLoop',
    'alpha_for',
    'move_creator',
]
