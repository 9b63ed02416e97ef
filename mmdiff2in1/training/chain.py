"""The chain of a training: warm-up → synthesis → labelling → self-improving → test; what is finished is skipped.

Each stage is an ordinary mmengine run, or job, with its own folder below the work dir.
"""

import copy
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.building import building
from mmdiff2in1.core.config_file import config_of_run, write_config
from mmdiff2in1.datasets import BatchMix
from mmdiff2in1.engine.distributed import launcher_of_environment
from mmdiff2in1.engine.last_checkpoint import LAST
from mmdiff2in1.engine.stage_folder import BEGUN, FINISHED, StageFolder, finished_facts, finished_mark
from mmdiff2in1.generators.loading import check_perceiver
from mmdiff2in1.generators.weights import find_weights
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.visualization import curve_picture, read_scalars

from .cached_views import costs, with_cached_views
from .config_keys import check_keys
from .config_values import check_values
from .global_batch import split_global_batch
from .identity import TESTED_BY, identity, store_mark, weight_places, weights_mark
from .labelling_stage import check_teachers, label
from .optimizer_state import carry_optimizer_state
from .rehearsal import rehearse
from .runs import (
    build_runner,
    free_memory,
    keep_checkpoints_apart,
    last_metrics,
    numbers,
    one_training,
    resume_where_possible,
    unwrapped,
)
from .stages import check_chain, self_improving_config, store_of, warmup_config
from .synthesis_stage import SynthesisStage, check_store


def train(cfg: Config, work_dir: str | Path, resume: bool = False) -> dict:
    """Runs the chain of ``cfg.stages`` and the config itself.

    Under torchrun every process calls this.

    Args:
        cfg: A config of a ``SelfImprovingSegmentor`` with ``stages``.
        work_dir: Gets the folders ``warmup synthetic self_improving test``, ``results.json`` and ``curves.png``.
            ``stages.warmup.work_dir`` names another place for the first, so that several runs can share a warm-up;
            ``train_dataloader.dataset.store`` one for the second. The whole config is written there, under the name of
            the folder.
        resume: Continue an unfinished stage from its last checkpoint; without it the stage starts anew. An unfinished
            synthesis always continues.

    Returns:
        ``warmup`` and ``self_improving``: checkpoint and last validation metrics; ``test``: metrics, θ_E's under
        ``exploiter/``.

    Raises:
        FileNotFoundError: Weights, data, or the file that lists a part of it.
        ValueError: The config cannot be chained, a teacher does not fit, data or synthesis settings do not fit it, the
            work dir holds stages that were made from something else, or a stage cannot be built, loaded or shown a
            sample (:func:`rehearse`). All of it is found before the first stage.
        InUseError: Another training is at work in the work dir.
    """
    launcher_of_environment()
    with one_training(work_dir):
        return _train(cfg, Path(work_dir), resume)


def _train(cfg: Config, work_dir: Path, resume: bool) -> dict:
    store, creation = check_before(cfg, work_dir, resume)
    if is_main_process():
        write_config(cfg, config_of_run(work_dir))
    results, warmup_checkpoint = {}, None
    parents = {'load_from': _mark_of_start(cfg.load_from)} if cfg.get('load_from') else {}
    warmup, warmup_dir = cfg.stages.get('warmup'), _warmup_dir(cfg, work_dir)
    if warmup:
        stage = warmup_config(cfg, warmup_dir)
        results['warmup'] = run_stage('warm-up', stage, resume, parents)
        warmup_checkpoint = results['warmup']['checkpoint']
        parents = {'the warm-up': finished_mark(warmup_dir)}
    if creation is not None:
        creation.create(warmup_checkpoint)
        creation = None  # and with it the generator
        free_memory()
    if store is not None and cfg.stages.get('labelling'):
        label(cfg, store)
        free_memory()
    if store is not None:
        parents['the samples of the store'] = store_mark(SampleStore(store))
    stage = self_improving_config(cfg, work_dir / 'self_improving', warmup_checkpoint, store)
    carry = bool(warmup and warmup.get('carry_optimizer'))
    results['self_improving'] = run_stage('self-improving', stage, resume, parents, warmup_checkpoint, carry)
    if stage.get('test_dataloader'):
        results['test'] = test(stage, results['self_improving']['checkpoint'], work_dir / 'test')
    if is_main_process():
        write_atomically(work_dir / 'results.json', (json.dumps(results, indent=2) + '\n').encode())
        draw_curves(work_dir)
    return results


def check_before(cfg: Config, work_dir: Path, resume: bool = False) -> tuple[Path | None, SynthesisStage | None]:
    """Finds what would end the chain, before its first stage; arguments and errors of :func:`train`.

    Returns:
        The store, and what is going to fill it.
    """
    with building(cfg):
        check_values(cfg)
        check_chain(cfg, get_world_size())
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        check_weights(cfg)
        _check_start(cfg.get('load_from'))
        check_data(cfg)
        check_teachers(cfg)
        store, warmup_dir = store_of(cfg, work_dir), _warmup_dir(cfg, work_dir)
        creation = SynthesisStage(cfg, store) if cfg.stages.get('synthesis') else None
        if creation is not None:
            creation.check(_finished_checkpoint(warmup_dir) if cfg.stages.get('warmup') else None)
        elif store is not None:
            check_store(cfg, store)
    rehearse(_to_be_trained(cfg, work_dir, warmup_dir, resume))
    return store, creation


def _warmup_dir(cfg: Config, work_dir: Path) -> Path:
    """Where the warm-up is, which several runs may share."""
    return Path((cfg.stages.get('warmup') or {}).get('work_dir') or work_dir / 'warmup')


def _to_be_trained(cfg: Config, work_dir: Path, warmup_dir: Path, resume: bool) -> dict[str, Config]:
    """Title → config of the stages that have not begun, as far as they are known before the first of them."""
    stages = {}
    if cfg.stages.get('warmup'):
        stages['warm-up'] = warmup_config(cfg, warmup_dir)
    last = self_improving_config(cfg, work_dir / 'self_improving', None, None)
    if store_of(cfg, work_dir) is not None:
        # As many samples as a step will have, real ones in the place of those that are not there yet.
        own = copy.deepcopy(cfg)
        split_global_batch(own, get_world_size())
        last.pop('global_batch_size', None)
        loader = own.train_dataloader
        mix = BatchMix.parse(loader.dataset.get('mix', 'uniform'))
        last.train_dataloader.batch_size = sum(mix.composition(loader.batch_size))
    if stages:
        last.load_from = None  # the warm-up's result
    stages['self-improving stage'] = last
    begun = (FINISHED, BEGUN) if resume else (FINISHED,)
    return {
        title: stage
        for title, stage in stages.items()
        if not any(Path(stage.work_dir, name).is_file() for name in begun)
    }


def dry_run(cfg: Config, work_dir: str | Path) -> Iterator[str]:
    """Lines on what the stages of a training, or a plain one, are going to cache; all is checked, nothing is trained.

    Raises:
        FileNotFoundError, ValueError: See :func:`train`.
    """
    work_dir = Path(work_dir)
    if 'stages' not in cfg:
        check_plain(cfg)
        cfg.work_dir = str(work_dir)
        rehearse({'training': cfg})
        stages = {'training': cfg}
    else:
        check_before(copy.deepcopy(cfg), work_dir)
        stages = {'warm-up': warmup_config(cfg, _warmup_dir(cfg, work_dir))} if cfg.stages.get('warmup') else {}
        store = store_of(cfg, work_dir)
        there = store if store is not None and SampleStore(store).exists else None
        stages['self-improving'] = self_improving_config(cfg, work_dir / 'self_improving', None, there)
    for stage in stages.values():
        split_global_batch(stage, 1)
    yield from costs(stages)


def unfinished(cfg: Config, work_dir: Path) -> str | None:
    """Message on a training that was begun and not finished in a work dir; None where there is nothing of it.

    Raises ValueError for values that no config can have.
    """
    check_values(cfg)
    if 'stages' not in cfg:
        return _held('training', work_dir)
    stages = {'warm-up': _warmup_dir(cfg, work_dir)} if cfg.stages.get('warmup') else {}
    stages['self-improving'] = work_dir / 'self_improving'
    open_ones = (_held(title, folder) for title, folder in stages.items() if not (folder / FINISHED).is_file())
    return next((held for held in open_ones if held is not None), None)


def train_plain(cfg: Config, work_dir: str | Path, resume: bool = False) -> None:
    """Trains a config without ``stages`` as mmseg would, with our checks before it and a start that fits or is refused.

    Raises:
        FileNotFoundError, ValueError: Weights or data are not there or do not fit, see :func:`train`.
        InUseError: Another training is at work in the work dir.
    """
    launcher_of_environment()
    with one_training(work_dir):
        check_plain(cfg)
        cfg.work_dir = str(work_dir)
        if not (resume and Path(work_dir, LAST).is_file()):
            rehearse({'training': cfg})
        _tell_if_anew('training', cfg, resume)
        if resume:
            resume_where_possible(cfg)
        split_global_batch(cfg, get_world_size())
        build_runner(with_cached_views(cfg)).train()


def check_plain(cfg: Config) -> None:
    """What can be found before anything is built."""
    with building(cfg):
        check_values(cfg)
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        check_keys(cfg, ())
        check_weights(cfg)
        check_data(cfg)


def draw_curves(work_dir: Path, control: Path | None = None) -> None:
    """``curves.png`` of the self-improving stage, or of a plain training; where there can be none, one line says so.

    Args:
        work_dir: Gets the picture.
        control: Work dir of a training on real images alone, whose scores are drawn as well.
    """
    stage = _last_stage(work_dir)
    title, beside = 'training' if stage == work_dir else 'self-improving stage', None
    if control is not None:
        try:
            beside = read_scalars(_last_stage(control))
        except FileNotFoundError as reason:
            print_log(f'curves.png without the control: {reason}', 'current')
    try:
        curve_picture(read_scalars(stage), work_dir / 'curves.png', title, beside)
    except (FileNotFoundError, ValueError) as reason:
        print_log(f'no curves.png: {reason}; vis_backends=[dict(type="LocalVisBackend"), …] keeps them', 'current')


def _last_stage(work_dir: Path) -> Path:
    stage = work_dir / 'self_improving'
    return stage if stage.is_dir() else work_dir


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
        check_perceiver(backbone['diffusion'])


def _finished_checkpoint(folder: Path) -> str | None:
    """The checkpoint of a finished stage, of whatever it was made; the stage itself is going to refuse another's."""
    facts = finished_facts(folder, checkpoint=str)
    return None if facts is None else str(folder / facts['checkpoint'])


def _check_start(load_from: str | None) -> None:
    """The checkpoint that the first stage starts from must be there; of an address mmengine finds out."""
    if load_from and '://' not in load_from and not Path(load_from).is_file():
        raise FileNotFoundError(f'load_from={load_from}: no such checkpoint; correct it, or set load_from=None')


def _mark_of_start(load_from: str) -> str:
    """Identity of that checkpoint; an address is its own."""
    return load_from if '://' in load_from else weights_mark(load_from)


def run_stage(
    title: str,
    cfg: Config,
    resume: bool,
    parents: Mapping[str, str] = {},  # noqa: B006
    before: str | None = None,
    carry_optimizer: bool = False,
) -> dict:
    """One training stage as an mmengine run, unless it is finished.

    Args:
        title: For the log.
        cfg: Its config, ``work_dir`` included.
        resume: Continue from its last checkpoint.
        parents: Identities of what it builds on, see :func:`~mmdiff2in1.training.identity.identity`.
        before: Checkpoint of the stage before, which must fit in every tensor.
        carry_optimizer: Start with that stage's optimizer state (moments, not rates).

    Returns:
        ``checkpoint``, ``iters``, ``seconds`` and ``metrics`` of the last validation.
    """
    folder = identity(cfg, parents).folder(cfg.work_dir)
    with one_training(folder.path):  # several runs may share a warm-up
        facts = folder.result(checkpoint=str, metrics=dict)
        barrier()  # nobody writes before everybody has looked
        if facts is None:
            facts = _trained(folder, title, cfg, resume, before, carry_optimizer)
        else:
            print_log(f'{title}: finished before, skipped ({cfg.work_dir})', 'current')
    return facts | {'checkpoint': str(folder.path / facts['checkpoint'])}


def begun_anew(title: str, work_dir: Path) -> str | None:
    """Message where an unfinished stage is about to start from its beginning; None where there is nothing of it."""
    held = _held(title, work_dir)
    return None if held is None else f'{held}; it BEGINS ANEW, --resume goes on from there'


def _held(title: str, work_dir: Path) -> str | None:
    named = work_dir / LAST
    if not named.is_file():
        return None
    last = Path(named.read_text(errors='replace').strip()).name
    return f'{title}: {work_dir} holds {last} of an unfinished run'


def _tell_if_anew(title: str, cfg: Config, resume: bool) -> None:
    lost = None if resume or cfg.get('resume') else begun_anew(title, Path(cfg.work_dir))
    if lost is not None:
        print_log(lost, 'current', logging.WARNING)


def _trained(
    folder: StageFolder, title: str, cfg: Config, resume: bool, before: str | None, carry_optimizer: bool
) -> dict:
    """The part of :func:`run_stage` for a stage that is not finished."""
    if before is not None:
        # resume=True of the config means this stage; with load_from, mmengine would go on from the stage before.
        resume, cfg.resume = resume or bool(cfg.get('resume')), False
    keep_checkpoints_apart(cfg)
    if resume:
        resume_where_possible(cfg)
    _tell_if_anew(title, cfg, resume)
    split_global_batch(cfg, get_world_size())
    cfg = with_cached_views(cfg)
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
    return facts


def test(cfg: Config, checkpoint: str | Path, work_dir: Path) -> dict[str, float]:
    """Runs the test loop of a config on a checkpoint, which must fit it; where that has been done, reads the results.

    A test of another config, of other data or another checkpoint in the folder is done anew.
    """
    folder = identity(cfg, {'checkpoint': weights_mark(checkpoint)}, TESTED_BY).folder(work_dir)
    facts = folder.result(refuse=False, metrics=dict)
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
