"""What runs a self-improving training: the average that makes θ_C, exact resume, atomic checkpoints, evaluation."""

from .atomic_backend import AtomicBackend
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .optim_wrapper_constructors import ExploiterOptimWrapperConstructor, GroupedOptimWrapperConstructor
from .progress_bar_hook import ProgressBarHook
from .self_improving_hook import SelfImprovingHook, alpha_for
from .self_improving_loops import SelfImprovingTestLoop, SelfImprovingValLoop

__all__ = [
    'AtomicBackend',
    'AtomicCheckpointHook',
    'ExactResumeHook',
    'ExploiterOptimWrapperConstructor',
    'GroupedOptimWrapperConstructor',
    'ProgressBarHook',
    'SelfImprovingHook',
    'SelfImprovingTestLoop',
    'SelfImprovingValLoop',
    'alpha_for',
]
