"""Denoising pretraining of a config's model on images without labels, before it learns with them."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmseg.registry import DATASETS, MODELS
from PIL import Image

from mmdiff2in1.core.building import building
from mmdiff2in1.core.names import type_name
from mmdiff2in1.core.randomness import kept_randomness
from mmdiff2in1.engine.distributed import launcher_of_environment
from mmdiff2in1.models.checkpoints import load_weights, write_state
from mmdiff2in1.models.segmentors import DenoisingPretraining
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER, frozen_names
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.visualization import contact_sheet, curve_picture, read_scalars

from .chain import check_plain, run_stage
from .distillation import plain_config
from .identity import store_mark
from .rehearsal import rehearse
from .runs import one_training
from .synthesis_stage import SynthesisStage
from .view_settings import KEY

CHECKPOINT, PICTURE, CURVES = 'denoiser.pth', 'denoised.png', 'curves.png'
KEPT_HOOKS = ('ExactResumeHook', 'ChannelsLastHook', 'CompileLayersHook', 'ProgressBarHook')
"""Hooks of a config that know nothing of labels."""
ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Settings of a denoising pretraining.

    Attributes:
        images: Folders, files or patterns of images without labels, see `UnlabelledPool`; with the labelled images of
            the config they are the training set. None: those alone.
        iters: Steps.
        batch_size: Images per step and process.
        lr: Peak learning rate; None: that of the config.
        noise: Standard deviation in (0, 1], half the range of an image being 1; or the lowest and the highest.
    """

    images: str | Sequence[str] | None = None
    iters: int = 4000
    batch_size: int = 32
    lr: float | None = None
    noise: float | tuple[float, float] = 0.3

    def config(self, cfg: Config, work_dir: Path) -> Config:
        """The config of the training: the plain model of `cfg` as a denoiser, on crops and augmentation of `cfg`."""
        stage = plain_config(cfg)
        model = stage.model
        if model.get('data_preprocessor') is None and stage.get('data_preprocessor'):
            model.data_preprocessor = stage.data_preprocessor
        stage.model = ConfigDict(type='DenoisingPretraining', segmentor=model, noise=self.noise)
        self._data(stage, work_dir)
        warmup = min(100, self.iters // 10)
        stage.train_cfg = dict(type='IterBasedTrainLoop', max_iters=self.iters, val_interval=self.iters)
        stage.param_scheduler = [
            dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=self.iters, eta_min_ratio=1e-3)
        ]
        if warmup:
            stage.param_scheduler.insert(0, dict(type='LinearLR', by_epoch=False, start_factor=0.01, end=warmup))
        stage.optim_wrapper.pop('accumulative_counts', None)  # a step has `batch_size` images
        if self.lr is not None:
            stage.optim_wrapper.optimizer.lr = self.lr
        for part in ('val', 'test'):
            for key in ('dataloader', 'evaluator', 'cfg'):
                stage.pop(f'{part}_{key}', None)
        self._hooks(stage)
        if stage.get('load_from'):
            print_log(
                f'load_from={stage.load_from} is not read: a denoiser starts from weights that the model itself names',
                'current',
                logging.WARNING,
            )
        for key in ('load_from', 'stages', 'auto_scale_lr', KEY, MAY_DIFFER):
            stage.pop(key, None)
        stage.work_dir, stage.log_processor = str(work_dir / 'training'), dict(by_epoch=False)
        return stage

    def _data(self, stage: Config, work_dir: Path) -> None:
        loader = stage.train_dataloader
        if type_name(loader.dataset) != 'SyntheticSampleDataset':
            loader.dataset = ConfigDict(type='SyntheticSampleDataset', dataset=loader.dataset)
        store = None if self.images is None else str(work_dir / 'images')
        loader.dataset.update(store=store, num_samples=None, samples_per_image=None, mix='uniform', labels='none')
        loader.batch_size, loader.sampler = self.batch_size, dict(type='StreamSampler')
        for key in ('batch_sampler', 'shuffle'):
            loader.pop(key, None)
        stage.pop('global_batch_size', None)

    def _hooks(self, stage: Config) -> None:
        hooks = [hook for hook in stage.get('custom_hooks') or [] if type_name(hook) in KEPT_HOOKS]
        if not any(type_name(hook) == 'ExactResumeHook' for hook in hooks):
            hooks.append(dict(type='ExactResumeHook'))
        stage.custom_hooks = hooks
        stage.default_hooks = dict(
            stage.get('default_hooks') or {},
            logger=dict(type='LoggerHook', interval=min(50, self.iters), log_metric_by_epoch=False),
            checkpoint=dict(
                type='AtomicCheckpointHook', by_epoch=False, interval=min(500, self.iters), max_keep_ckpts=2
            ),
        )
        stage.default_hooks.pop('visualization', None)


def pretrain_as_denoiser(cfg: Config, asked: Denoising, work_dir: str | Path, resume: bool = False) -> Path:
    """Trains, and writes ``denoiser.pth``, ``denoised.png`` and ``curves.png`` into the work dir.

    Under torchrun every process calls this. What is finished is skipped.

    Args:
        cfg: Any that trains a segmentor; of a self-improving one its segmentor is taken.
        asked: Settings.
        work_dir: Gets ``images``, which images they are, and ``training``.
        resume: An unfinished training goes on from its last checkpoint.

    Returns:
        ``denoiser.pth``: the weights by the names of the plain segmentor, for ``load_from``. It says itself what it
        lacks (:func:`~mmdiff2in1.models.checkpoints.still_to_learn`).

    Raises:
        FileNotFoundError, ValueError: Images, weights or data that are not there; unlabelled images that are those of a
            validation or test set; a model that cannot be a denoiser.
        InUseError: Another training is at work in the work dir.
    """
    launcher_of_environment()
    work_dir = Path(work_dir)
    with one_training(work_dir):
        stage = asked.config(cfg, work_dir)
        check_plain(_without_store(stage))
        pool = _pool(cfg, stage, asked)
        rehearse({'denoising': _without_store(stage)})
        parents = {}
        if pool is not None:
            pool.create()
            parents = {'the unlabelled images': store_mark(SampleStore(stage.train_dataloader.dataset.store))}
        result = run_stage('denoising', stage, resume, parents)
        out = work_dir / CHECKPOINT
        if is_main_process():
            _write(stage, Path(result['checkpoint']), work_dir)
        barrier()
    return out


def check_denoising(cfg: Config, asked: Denoising, work_dir: str | Path) -> int:
    """Finds what would end the pretraining before it starts; returns how many unlabelled images there are."""
    stage = asked.config(cfg, Path(work_dir))
    check_plain(_without_store(stage))
    pool = _pool(cfg, stage, asked)
    rehearse({'denoising': _without_store(stage)})
    return 0 if pool is None else len(pool.job.unlabelled(SampleStore(pool.store)))


def _without_store(stage: Config) -> Config:
    """With the labelled images alone: before the others are listed."""
    own = copy.deepcopy(stage)
    own.train_dataloader.dataset.store = None
    return own


def _pool(cfg: Config, stage: Config, asked: Denoising) -> SynthesisStage | None:
    """What lists the unlabelled images; checked against those of the scored sets."""
    if asked.images is None:
        return None
    own = copy.deepcopy(stage)
    for part in ('val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            own[f'{part}_dataloader'] = copy.deepcopy(cfg[f'{part}_dataloader'])
    own.stages = dict(synthesis=dict(unlabelled=asked.images))
    try:
        pool = SynthesisStage(own, Path(stage.train_dataloader.dataset.store))
        _check_listed(pool)
        pool.check()
    except (FileNotFoundError, ValueError) as error:  # of a chain's synthesis, by the key that it has there
        raise type(error)(str(error).replace('stages.synthesis.unlabelled', '--images')) from error
    return pool


def _check_listed(pool: SynthesisStage) -> None:
    """The store may list no other images than those that are asked for."""
    store = SampleStore(pool.store)
    others = sorted(store.finished().keys() - pool.job.unlabelled(store).keys())
    if others:
        raise ValueError(
            f'{pool.store} lists {len(others)} images that --images does not name, first {others[0]}: choose another '
            '--work-dir, or delete that folder, which holds no images and is made anew'
        )


def _write(stage: Config, checkpoint: Path, work_dir: Path) -> None:
    """The denoiser, and what it looks like."""
    with kept_randomness(), building(stage):
        model = MODELS.build(stage.model)
    load_weights(model, checkpoint)
    frozen, state = frozen_names(model.segmentor), model.segmentor.state_dict()
    learned = {k: v for k, v in state.items() if k not in frozen and not k.startswith(model.may_differ)}
    write_state(work_dir / CHECKPOINT, learned, {MAY_DIFFER: list(model.may_differ)})
    Image.fromarray(_sheet(model, stage)).save(work_dir / PICTURE)
    curve_picture(read_scalars(stage.work_dir), work_dir / CURVES, 'denoising')


@torch.no_grad()
def _sheet(model: DenoisingPretraining, stage: Config) -> np.ndarray:
    """Some training images: as they are, noisy, denoised."""
    with kept_randomness():
        torch.manual_seed(0)
        np.random.seed(0)
        dataset = DATASETS.build(stage.train_dataloader.dataset)
        samples = [dataset[i] for i in range(len(dataset))[:: max(1, len(dataset) // ROWS)][:ROWS]]
        model.to(get_device()).eval()
        inputs = model.data_preprocessor(pseudo_collate(samples), training=True)['inputs']  # padded as in training
        drawn = model(inputs, mode='tensor')
    swapped = getattr(model.data_preprocessor, 'channel_conversion', False)
    channels = [0, 1, 2] if swapped else [2, 1, 0]
    columns = [
        ((images.float().cpu() + 1) * 127.5).round().byte()[:, channels].permute(0, 2, 3, 1).numpy() for images in drawn
    ]
    return contact_sheet(list(zip(*columns, strict=True)), column_captions=['image', 'noisy', 'denoised'])
