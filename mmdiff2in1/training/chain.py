"""The chain of a training: warm-up → synthesis → self-improving → test; what is finished is skipped.

Each stage is an ordinary mmengine run, or job, with its own folder below the work dir.
"""

import contextlib
import copy
import gc
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdiff2in1.checks.channels import check_channels
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.names import type_name
from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config
from mmdiff2in1.engine.stage_folder import StageFolder, finished_facts, finished_mark
from mmdiff2in1.generators.weights import find_weights, resolve_weights
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.models.segmentors.whole_loading import MAY_DIFFER, load_whole
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.visualization import curve_picture, read_scalars

from .global_batch import split_global_batch
from .identity import TESTED_BY, fingerprint, store_mark, weight_places, weights_mark
from .optimizer_state import carry_optimizer_state
from .stages import check_chain, self_improving_config, store_of, warmup_config
from .synthesis_stage import Creation, check_store


def train(cfg: Config, work_dir: str | Path, resume: bool = False) -> dict:
    """Runs the chain of ``cfg.stages`` and the config itself.

    Under torchrun every process calls this.

    Args:
        cfg: A config of a ``SelfImprovingSegmentor`` with ``stages``.
        work_dir: Gets the folders ``warmup synthetic self_improving test``, ``results.json`` and ``curves.png``.
            ``stages.warmup.work_dir`` names another place for the first, so that several runs can share a warm-up;
            ``train_dataloader.dataset.store`` one for the second.
        resume: Continue an unfinished stage from its last checkpoint; without it the stage starts anew. An unfinished
            synthesis always continues.

    Returns:
        ``warmup`` and ``self_improving``: checkpoint and last validation metrics; ``test``: metrics, θ_E's under
        ``exploiter/``.

    Raises:
        FileNotFoundError: Weights, data, or the file that lists a part of it.
        ValueError: The config cannot be chained, data or synthesis settings do not fit it, or the work dir holds stages
            that were made from something else. All of it is found before the first stage.
    """
    launcher_of_environment()
    check_chain(cfg, get_world_size())
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    check_weights(cfg)
    check_data(cfg)
    work_dir = Path(work_dir)
    store, results, warmup_checkpoint = store_of(cfg, work_dir), {}, None
    parents = [_mark_of_start(cfg.load_from)] if cfg.get('load_from') else []
    warmup = cfg.stages.get('warmup')
    warmup_dir = Path((warmup or {}).get('work_dir') or work_dir / 'warmup')
    creation = Creation(cfg, store) if cfg.stages.get('synthesis') else None
    if creation is not None:
        creation.check(_finished_checkpoint(warmup_dir) if warmup else None)
    elif store is not None:
        check_store(cfg, store)
    if warmup:
        stage = warmup_config(cfg, warmup_dir)
        results['warmup'] = run_stage('warm-up', stage, resume, parents)
        warmup_checkpoint = results['warmup']['checkpoint']
        parents = [finished_mark(warmup_dir)]
    if creation is not None:
        creation.create(warmup_checkpoint)
        creation = None  # and with it the generator
        free_memory()
    if store is not None:
        parents.append(store_mark(SampleStore(store)))
    stage = self_improving_config(cfg, work_dir / 'self_improving', warmup_checkpoint, store)
    carry = bool(warmup and warmup.get('carry_optimizer'))
    results['self_improving'] = run_stage('self-improving', stage, resume, parents, warmup_checkpoint, carry)
    if stage.get('test_dataloader'):
        results['test'] = test(stage, results['self_improving']['checkpoint'], work_dir / 'test')
    if is_main_process():
        write_atomically(work_dir / 'results.json', (json.dumps(results, indent=2) + '\n').encode())
        draw_curves(work_dir)
    return results


def draw_curves(work_dir: Path) -> None:
    """``curves.png`` of the self-improving stage; without scalars in files, one line says that there is none."""
    try:
        curve_picture(read_scalars(work_dir / 'self_improving'), work_dir / 'curves.png', 'self-improving stage')
    except (FileNotFoundError, ValueError) as reason:
        print_log(f'no curves.png: {reason}; vis_backends=[dict(type="LocalVisBackend"), …] keeps them', 'current')


def check_weights(cfg: Config) -> None:
    """Finds all weights that a config names, before anything is read or allocated.

    Raises:
        FileNotFoundError: Nothing is there, or a folder is not complete.
        ValueError: The backbone's are of another kind.
    """
    for place in sorted(set(weight_places(cfg.to_dict()))):
        find_weights(place)
    backbone = cfg.model.get('segmentor', cfg.model).get('backbone') or {}
    if isinstance(backbone.get('diffusion'), str):
        resolve_weights(backbone['diffusion'])


def _finished_checkpoint(folder: Path) -> str | None:
    """The checkpoint of a finished stage, of whatever it was made; the stage itself is going to refuse another's."""
    facts = finished_facts(folder)
    return None if facts is None else str(folder / facts['checkpoint'])


def _mark_of_start(load_from: str) -> str:
    """Identity of the checkpoint that the first stage starts from; an address, which mmengine fetches, is its own."""
    if '://' in load_from:
        return load_from
    if not Path(load_from).is_file():
        raise FileNotFoundError(f'load_from={load_from}: no such checkpoint; correct it, or set load_from=None')
    return weights_mark(load_from)


def run_stage(
    title: str,
    cfg: Config,
    resume: bool,
    parents: Sequence[str] = (),
    before: str | None = None,
    carry_optimizer: bool = False,
) -> dict:
    """One training stage as an mmengine run, unless it is finished.

    Args:
        title: For the log.
        cfg: Its config, ``work_dir`` included.
        resume: Continue from its last checkpoint.
        parents: Identities of what it builds on, see :func:`~mmdiff2in1.training.identity.fingerprint`.
        before: Checkpoint of the stage before, which must fit in every tensor.
        carry_optimizer: Start with that stage's optimizer state (moments, not rates).

    Returns:
        ``checkpoint``, ``iters``, ``seconds`` and ``metrics`` of the last validation.
    """
    folder = StageFolder(cfg.work_dir, fingerprint(cfg, parents))
    facts = folder.result()
    barrier()  # nobody writes before everybody has looked
    if facts is not None:
        print_log(f'{title}: finished before, skipped ({cfg.work_dir})', 'current')
        return facts | {'checkpoint': str(folder.path / facts['checkpoint'])}
    if before is not None:
        # resume=True of the config means this stage; with load_from, mmengine would go on from the stage before.
        resume, cfg.resume = resume or bool(cfg.get('resume')), False
    if resume:
        resume_where_possible(cfg)
    split_global_batch(cfg, get_world_size())
    _keep_checkpoints_apart(cfg)
    runner = build_runner(cfg)
    if is_main_process():
        folder.begin()
    runner.logger.info(f'{title} in {cfg.work_dir}')
    if before is not None and not cfg.resume:
        # mmengine, which loads it again after initialisation, would only warn of what does not fit.
        load_weights(unwrapped(runner.model), before)
        if carry_optimizer:
            carry_optimizer_state(runner, before)
    start = time.perf_counter()
    runner.train()
    checkpoint = Path(runner.message_hub.get_info('last_ckpt'))
    facts = dict(
        checkpoint=checkpoint.name if (folder.path / checkpoint.name).is_file() else str(checkpoint.absolute()),
        iters=runner.iter,
        seconds=time.perf_counter() - start,
        metrics=last_metrics(runner),
    )
    if is_main_process():
        folder.finish(**facts)
    barrier()
    del runner
    free_memory()
    return facts | {'checkpoint': str(folder.path / facts['checkpoint'])}


def _keep_checkpoints_apart(cfg: Config) -> None:
    """Below ``out_dir`` the hook makes a folder of the stage's name alone, which all chains have."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('out_dir'):
        hook['out_dir'] = str(Path(hook['out_dir'], *Path(cfg.work_dir).resolve().parent.parts[1:]))


def resume_where_possible(cfg: Config) -> None:
    """Lets a run go on from the last checkpoint of its work dir, if there is one."""
    cfg.resume = Path(cfg.work_dir, 'last_checkpoint').is_file()
    if cfg.resume:
        # With load_from set, mmengine would resume from that other run's end instead.
        cfg.load_from = None


def build_runner(cfg: Config) -> Runner:
    """An mmengine runner that works under torchrun on CPUs as well, and several times in one process.

    What it loads must fit its model, except what ``load_from_may_differ`` of the config names.
    """
    _seed_augmentation(cfg)
    cfg.launcher = launcher_of_environment()
    if cfg.launcher != 'none':
        cfg.setdefault('model_wrapper_cfg', wrapper_config(cfg.get('find_unused_parameters', False)))
    # mmengine keeps logs and visualizers by name for the life of the process: a second run of the same name would write
    # into the first one's folder.
    cfg.setdefault('experiment_name', f'{Path(cfg.work_dir).name}-{time.time_ns()}')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    runner = Runner.from_cfg(cfg)
    check_channels(unwrapped(runner.model))
    starts_elsewhere = cfg.get('load_from') and not cfg.get('resume')
    load_whole(unwrapped(runner.model), (cfg.get(MAY_DIFFER) or ()) if starts_elsewhere else ())
    return runner


def _seed_augmentation(cfg: Config) -> None:
    """Ties the augmentation of a set that is read as a stream to the place in it, so that a resume is exact."""
    loader = cfg.get('train_dataloader') or {}
    streamed = type_name(loader.get('sampler') or {}) == 'StreamSampler'
    if streamed and type_name(loader['dataset']) != 'SyntheticSampleDataset':
        loader['dataset'] = ConfigDict(type='SyntheticSampleDataset', dataset=loader['dataset'])


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


def test(cfg: Config, checkpoint: str | Path, work_dir: Path) -> dict[str, float]:
    """Runs the test loop of a config on a checkpoint, which must fit it; where that has been done, reads the results.

    A test of another config, of other data or another checkpoint in the folder is done anew.
    """
    folder = StageFolder(work_dir, fingerprint(cfg, [weights_mark(checkpoint)], TESTED_BY))
    facts = folder.result(refuse=False)
    barrier()  # nobody writes before everybody has looked
    if facts is not None:
        print_log(f'test: finished before, skipped ({work_dir})', 'current')
        return facts['metrics']
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.load_from, cfg.resume = str(work_dir), None, False
    cfg.pop('experiment_name', None)
    runner = build_runner(cfg)
    load_weights(unwrapped(runner.model), checkpoint)
    metrics = numbers(runner.test())
    if is_main_process():
        folder.finish(metrics=metrics)
    barrier()
    del runner
    free_memory()
    return metrics


def free_memory() -> None:
    """Gives back what a finished stage held: runner, model and optimizer refer to each other in circles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
