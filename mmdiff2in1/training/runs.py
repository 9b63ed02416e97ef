"""An mmengine run of a stage or of a plain config: how it is built, gone on with, read and cleared away."""

import contextlib
import functools
import gc
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmdiff2in1.checks.channels import check_channels
from mmdiff2in1.core.atomic_files import remove_parts
from mmdiff2in1.core.building import building
from mmdiff2in1.core.lock import locked
from mmdiff2in1.core.names import type_name
from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config
from mmdiff2in1.engine.fully_sharded_model import FullyShardedModel
from mmdiff2in1.engine.last_checkpoint import last_checkpoint
from mmdiff2in1.engine.short_console import shell_unheard, shorten_console
from mmdiff2in1.models.checkpoints import still_to_learn
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER, load_whole


class ChainRunner(Runner):
    """mmengine's, whose dumps of config, hooks and environment go to the log file alone; it can shard its model."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The logger with a short console."""
        return shorten_console(super().build_logger(*args, **kwargs))

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """What is going to be sharded is read where it is whole."""
        if isinstance(self.model, FullyShardedModel):
            kwargs['map_location'] = 'cpu'
        super().resume(filename, *args, **kwargs)

    @functools.wraps(Runner.save_checkpoint, assigned=())  # its parameters are what a checkpoint hook may ask for
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Calls `before_checkpoint` of the hooks on every process; `before_save_checkpoint` is for the first alone."""
        self.call_hook('before_checkpoint')
        super().save_checkpoint(*args, **kwargs)

    def _log_env(self, *args: Any) -> None:
        """mmengine asks compilers for their versions; of one that is not there the shell would complain."""
        with shell_unheard():
            super()._log_env(*args)


def build_runner(cfg: Config) -> Runner:
    """An mmengine runner that works under torchrun on CPUs as well, and several times in one process.

    What it loads must fit its model, except what ``load_from_may_differ`` of the config names, or the checkpoint itself
    says that it lacks. A loss that is not finite ends it; Ctrl-C ends it after a step that is saved.
    """
    _seed_augmentation(cfg)
    cfg.launcher = launcher_of_environment()
    if cfg.launcher != 'none':
        cfg.setdefault('model_wrapper_cfg', wrapper_config(cfg.get('find_unused_parameters', False)))
    sharded = cfg.launcher != 'none' and type_name(cfg.model_wrapper_cfg) == 'FullyShardedModel'
    for name in ('FiniteLossHook', 'InterruptHook', *(['FullyShardHook'] if sharded else [])):
        if not any(type_name(hook) == name for hook in cfg.get('custom_hooks') or []):
            cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type=name)]
    # mmengine keeps logs and visualizers by name for the life of the process: a second run of the same name would write
    # into the first one's folder.
    cfg.setdefault('experiment_name', f'{Path(cfg.work_dir).name}-{time.time_ns()}')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    starts_elsewhere = cfg.get('load_from') and not cfg.get('resume')
    if starts_elsewhere and cfg.get(MAY_DIFFER) is None and (lacks := still_to_learn(cfg.load_from)):
        cfg[MAY_DIFFER] = lacks
    # yapf would format the text of the config five times, and once more at every checkpoint.
    object.__setattr__(cfg, '_format_python_code', False)
    with building(cfg):
        runner = ChainRunner.from_cfg(cfg)
    check_channels(unwrapped(runner.model))
    load_whole(unwrapped(runner.model), (cfg.get(MAY_DIFFER) or ()) if starts_elsewhere else ())
    return runner


def resume_where_possible(cfg: Config) -> None:
    """Lets a run go on from the last checkpoint of its work dir, if there is one.

    Raises what `last_checkpoint` raises.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    found = last_checkpoint(cfg.work_dir, hook.get('out_dir'))
    cfg.resume = found is not None
    if cfg.resume:
        cfg.load_from = str(found)


@contextlib.contextmanager
def one_training(work_dir: str | Path) -> Iterator[None]:
    """Keeps other trainings out of a work dir (InUseError says who is in it); clears away what a killed one left."""
    if not is_main_process():
        yield
        return
    with locked(work_dir, 'training') as writable:
        inside = [each for each in Path(work_dir).iterdir() if each.is_dir()] if writable else []
        for folder in (Path(work_dir), *inside):
            remove_parts(folder)
        yield


def keep_checkpoints_apart(cfg: Config) -> None:
    """Below ``out_dir`` the hook makes a folder of the stage's name alone, which all chains have."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('out_dir'):
        hook['out_dir'] = str(Path(hook['out_dir'], *Path(cfg.work_dir).resolve().parent.parts[1:]))


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside a wrapper for several processes."""
    return getattr(model, 'module', model)


def last_metrics(runner: Runner) -> dict[str, float]:
    """Metrics of the last validation."""
    scalars = {
        name.removeprefix('val/'): buffer.current()
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith('val/')
    }
    return numbers({name: value for name, value in scalars.items() if name not in ('time', 'data_time')})


def numbers(metrics: Mapping) -> dict[str, float]:
    """The metrics that are one number each; a user's own may also give texts or values per class."""
    found = {}
    for name, value in metrics.items():
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            found[name] = float(value)
    return found


def free_memory() -> None:
    """Gives back what a finished stage held: runner, model and optimizer refer to each other in circles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _seed_augmentation(cfg: Config) -> None:
    """Ties the augmentation of a set that is read as a stream to the place in it, so that a resume is exact."""
    loader = cfg.get('train_dataloader') or {}
    streamed = type_name(loader.get('sampler') or {}) == 'StreamSampler'
    if streamed and type_name(loader['dataset']) not in ('SyntheticSampleDataset', 'CachedViewsDataset'):
        loader['dataset'] = ConfigDict(type='SyntheticSampleDataset', dataset=loader['dataset'])
