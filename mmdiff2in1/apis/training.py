"""The chain of a training: warm-up → synthesis → self-improving → test; what is finished is skipped.

Each stage is an ordinary mmengine run, or job, with its own folder below the work dir.
"""

import json
import os
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config
from mmdiff2in1.synthesis import SampleStore, synthesize_from_config
from mmdiff2in1.synthesis.atomic import write_atomically
from mmdiff2in1.visualization import curve_picture, read_scalars

from .data_check import check_data
from .stage_folder import StageFolder
from .stages import check_chain, fingerprint, self_improving_config, warmup_config


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
        ``warmup`` and ``self_improving``: last validation metrics; ``test``: metrics, θ_E's under ``exploiter/``.

    Raises:
        ValueError: The config cannot be chained, labels do not fit it, or the work dir holds stages of another config.
    """
    check_chain(cfg)
    launcher_of_environment()
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    check_data(cfg)
    work_dir = Path(work_dir)
    results, warmup_checkpoint, store = {}, None, None
    warmup = cfg.stages.get('warmup')
    if warmup:
        folder = Path(warmup.pop('work_dir', work_dir / 'warmup'))
        results['warmup'] = run_stage('warm-up', warmup_config(cfg, folder), resume)
        warmup_checkpoint = Path(results['warmup']['checkpoint'])
    if cfg.stages.get('synthesis'):
        store = Path(cfg.train_dataloader.dataset.get('store') or work_dir / 'synthetic')
        create_samples(cfg, store)
    stage = self_improving_config(cfg, work_dir / 'self_improving', warmup_checkpoint, store)
    carried = warmup_checkpoint if warmup and warmup.get('carry_optimizer') else None
    results['self_improving'] = run_stage('self-improving', stage, resume, optimizer_of=carried)
    if stage.get('test_dataloader'):
        stage.load_from = results['self_improving']['checkpoint']
        stage.work_dir = str(work_dir / 'test')
        results['test'] = test(stage)
    if is_main_process():
        write_atomically(work_dir / 'results.json', (json.dumps(results, indent=2) + '\n').encode())
        curve_picture(read_scalars(work_dir / 'self_improving'), work_dir / 'curves.png', 'self-improving stage')
    return results


def run_stage(title: str, cfg: Config, resume: bool, optimizer_of: Path | None = None) -> dict:
    """One training stage as an mmengine run, unless it is finished.

    Args:
        title: For the log.
        cfg: Its config, ``work_dir`` included.
        resume: Continue from its last checkpoint.
        optimizer_of: Checkpoint whose optimizer state (moments, not rates) is carried over at the start.

    Returns:
        ``checkpoint``, ``iters``, ``seconds`` and ``metrics`` of the last validation.
    """
    folder = StageFolder(cfg.work_dir, fingerprint(cfg))
    result = folder.result()
    if result is not None:
        print_log(f'{title}: finished before, skipped ({cfg.work_dir})', 'current')
        return result
    barrier()  # nobody writes before everybody has looked
    if resume:
        resume_where_possible(cfg)
    runner = build_runner(cfg)
    if is_main_process():
        folder.begin()
    runner.logger.info(f'{title}: {cfg.train_cfg.max_iters} iterations in {cfg.work_dir}')
    if optimizer_of is not None and not cfg.resume:
        carry_optimizer_state(runner, optimizer_of)
    start = time.perf_counter()
    runner.train()
    facts = dict(
        checkpoint=runner.message_hub.get_info('last_ckpt'),
        iters=runner.iter,
        seconds=time.perf_counter() - start,
        metrics=last_metrics(runner),
    )
    return folder.finish(**facts) if is_main_process() else facts


def resume_where_possible(cfg: Config) -> None:
    """Lets a run go on from the last checkpoint of its work dir, if there is one."""
    cfg.resume = Path(cfg.work_dir, 'last_checkpoint').is_file()
    if cfg.resume:
        # With load_from set, mmengine would resume from that other run's end instead.
        cfg.load_from = None


def build_runner(cfg: Config) -> Runner:
    """An mmengine runner that works under torchrun on CPUs as well, and several times in one process."""
    cfg.launcher = launcher_of_environment()
    if cfg.launcher != 'none':
        cfg.setdefault('model_wrapper_cfg', wrapper_config(cfg.get('find_unused_parameters', False)))
    # mmengine keeps logs and visualizers by name for the life of the process: a second run of the same name would write
    # into the first one's folder.
    cfg.setdefault('experiment_name', f'{Path(cfg.work_dir).name}-{time.time_ns()}')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    return Runner.from_cfg(cfg)


def carry_optimizer_state(runner: Runner, checkpoint: Path) -> None:
    """Continues the moments of another run of the same parameters; learning rates stay the stage's own.

    Raises:
        ValueError: The other run trained other parameters.
    """
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optimizer = runner.optim_wrapper.optimizer
    carried = torch.load(checkpoint, map_location='cpu', weights_only=False)['optimizer']
    own = optimizer.state_dict()
    sizes = [sum(len(group['params']) for group in state['param_groups']) for state in (carried, own)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f'{checkpoint} trained {sizes[0]} tensors, this stage trains {sizes[1]}: set carry_optimizer=False, or use '
            'ExploiterOptimWrapperConstructor so that both stages see the same parameters'
        )
    optimizer.load_state_dict({**own, 'state': carried['state']})


def last_metrics(runner: Runner) -> dict[str, float]:
    """Metrics of the last validation."""
    scalars = runner.message_hub.log_scalars
    return {
        name.removeprefix('val/'): float(buffer.current())
        for name, buffer in scalars.items()
        if name.startswith('val/') and name.removeprefix('val/') not in ('time', 'data_time')
    }


def create_samples(cfg: Config, store: Path, poll_seconds: float = 1.0) -> None:
    """The synthesis stage; each process makes its share, none waits inside a collective while others create."""
    rank, world_size = get_rank(), int(os.environ.get('WORLD_SIZE', 1))
    synthesize_from_config(cfg, store, rank, world_size)
    if world_size == 1:
        return
    marker = f'.done-{os.environ.get("TORCHELASTIC_RUN_ID", "run")}-rank'
    (store / f'{marker}{rank}').touch()
    while len(list(store.glob(f'{marker}*'))) < world_size:
        time.sleep(poll_seconds)
    barrier()
    if is_main_process():
        SampleStore(store).merge()
        for file in store.glob(f'{marker}*'):
            file.unlink()
    barrier()


def test(cfg: Config) -> dict[str, float]:
    """Runs the test loop of a config whose ``load_from`` names a checkpoint."""
    cfg.resume = False
    return {name: float(value) for name, value in build_runner(cfg).test().items()}
