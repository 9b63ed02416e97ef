"""A self-improving model of a few parameters and all that trains it, one of two processes and a killed one included."""

import copy
import os
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

import mmdiff2in1.datasets
import mmdiff2in1.engine  # noqa: F401
from mmdiff2in1.synthesis.store import SampleStore

CLASSES, SIZE = 3, 16
COPIED = ('num_batches_tracked', '.u')


class PowerIteration(nn.Module):
    """A vector that is recomputed in every forward pass, as spectral normalisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('u', torch.ones(4))

    def forward(self, x):
        if self.training:
            self.u = nn.functional.normalize(self.u + x.detach().flatten()[:4], dim=0)
        return x


class TwoModels(BaseModel):
    """θ_E and θ_C side by side, with the protocol of the real segmentor."""

    def __init__(self, exploiter: nn.Module) -> None:
        super().__init__()
        self.exploiter = exploiter
        self.creator = copy.deepcopy(exploiter).requires_grad_(False)
        self.which = 'creator'

    def train(self, mode=True):
        super().train(mode)
        self.creator.eval()
        return self

    def ema_tensors(self):
        averaged, copied = ([], []), ([], [])
        for creator, exploiter in zip(
            self.creator.state_dict().items(), self.exploiter.state_dict().values(), strict=True
        ):
            name, creator = creator
            lists = averaged if creator.is_floating_point() and not name.endswith(COPIED) else copied
            lists[0].append(creator)
            lists[1].append(exploiter)
        return averaged[0], averaged[1], copied[0], copied[1]

    @contextmanager
    def evaluated(self, which):
        before, self.which = self.which, which
        try:
            yield
        finally:
            self.which = before


@MODELS.register_module(force=True)
class TinyRegression(TwoModels):
    """Vectors of 4 numbers to their sum; float64, so that a closed form can be compared to the last digits."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), PowerIteration(), nn.Linear(6, 1)]
        super().__init__(nn.Sequential(*layers).double())

    def forward(self, inputs, target, mode):
        x = torch.stack(inputs)
        return dict(loss=(self.exploiter(x)[:, 0] - torch.stack(target)).square().mean())


@DATASETS.register_module(force=True)
class Vectors(Dataset):
    def __getitem__(self, index):
        x = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(index))
        return dict(inputs=x, target=x.sum())

    def __len__(self):
        return 200


@MODELS.register_module(force=True)
class TinySegmentor(TwoModels):
    """Images (3, H, W) uint8 to classes, with dropout; synthetic ones learn from the creator."""

    def __init__(self, dropout=0.5) -> None:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(nn.Sequential(*layers, nn.Conv2d(8, CLASSES, 1)))

    def forward(self, inputs, data_samples, mode):
        images = torch.stack(inputs).float() / 255
        if mode == 'predict':
            logits = getattr(self, self.which)(images + torch.randn_like(images) * 0.01)
            for sample, prediction in zip(data_samples, logits.argmax(1), strict=True):
                sample.prediction = prediction
            return data_samples
        target = torch.stack([sample.gt_sem_seg.data[0].long() for sample in data_samples])
        synthetic = torch.tensor([sample.metainfo.get('synthetic', False) for sample in data_samples])
        with torch.no_grad():
            target[synthetic] = self.creator(images).argmax(1)[synthetic]
        return dict(loss=nn.functional.cross_entropy(self.exploiter(images), target, ignore_index=255))


@METRICS.register_module(force=True)
class PixelAccuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        for sample in data_samples:
            right = sample['prediction'] == sample['gt_sem_seg']['data'][0]
            self.results.append(right.float().mean().item())

    def compute_metrics(self, results):
        return dict(accuracy=float(np.mean(results)))


@HOOKS.register_module(force=True)
class Recorder(Hook):
    """Keeps θ_E as each step leaves it, before the average is taken."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.exploiters = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        self.exploiters.append({k: v.clone() for k, v in model.exploiter.state_dict().items()})


def by_recursion(creator, exploiters, batch, *, alpha=0.9, every=40, accumulate=1):
    """θ_C after all steps, float64: one multiplication per `every` samples, nothing in closed form."""
    creator = {name: value.double().clone() for name, value in creator.items()}
    pending = 0
    updates = 0
    for step, exploiter in enumerate(exploiters, start=1):
        pending += batch
        if step % accumulate and step != len(exploiters):
            continue
        while pending >= every:
            pending -= every
            updates += 1
            for name, value in creator.items():
                new = exploiter[name].double()
                creator[name] = new if name.endswith(COPIED) else alpha * value + (1 - alpha) * new
    return creator, pending, updates


@HOOKS.register_module(force=True)
class KillInCheckpoint(Hook):
    """Sends SIGKILL when half of the checkpoint of `iteration` is written."""

    priority = 'HIGH'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            os.fsync = lambda descriptor: (os.ftruncate(descriptor, 1000), os.kill(os.getpid(), signal.SIGKILL))


@HOOKS.register_module(force=True)
class Stop(Hook):
    """Ends the run after `iteration` steps, its checkpoint included, as Ctrl-C does."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def make_scene_files(root: Path) -> None:
    """Six real images with labels, two of them again as synthetic samples of a store."""
    rng = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (root / name).mkdir(parents=True)
    store = SampleStore(root / 'store')
    for index in range(6):
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f'images/{index}.png'), image)
        cv2.imwrite(str(root / f'labels/{index}.png'), rng.integers(0, CLASSES, (SIZE, SIZE), dtype=np.uint8))
        if index < 4:
            record = dict(sample_id=f's{index}', source=f'images/{index}.png')
            store.add(record, 255 - image)


def scene_dataset(root: Path, augment: bool = True) -> dict:
    augmentation = [
        dict(type='RandomFlip', prob=0.5),
        dict(type='RandomCrop', crop_size=(12, 12)),
        dict(type='PhotoMetricDistortion'),
    ]
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        serialize_data=False,  # mmengine collects all garbage after serialising: half a second each time
        metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [9, 9, 9], [200, 0, 0]]),
        pipeline=[*load, *(augmentation if augment else []), dict(type='PackSegInputs')],
    )


def segmentation_runner(work_dir: Path, root: Path, *, max_iters=8, num_workers=0, **settings) -> Runner:
    """Trains on 3 real and 2 synthetic samples per step, checkpoint every 2 steps, validation every 3."""
    val_loader = dict(
        batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=scene_dataset(root, augment=False),
    )  # fmt: skip
    arguments = dict(
        model=dict(type='TinySegmentor'),
        train_dataloader=dict(
            batch_size=3,
            num_workers=num_workers,
            sampler=dict(type='StreamSampler'),
            batch_sampler=dict(type='MixedBatchSampler'),
            dataset=dict(
                type='SyntheticSampleDataset',
                dataset=scene_dataset(root),
                store=str(root / 'store'),
                mix=dict(added=2),
            ),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=3),
        optim_wrapper=dict(
            constructor='ExploiterOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=0.01),
        ),  # fmt: skip
        param_scheduler=dict(type='PolyLR', end=8, by_epoch=False),
        val_dataloader=val_loader,
        val_cfg=dict(type='SelfImprovingValLoop'),
        val_evaluator=dict(type='PixelAccuracy'),
        default_hooks=dict(
            checkpoint=dict(
                type='AtomicCheckpointHook',
                interval=2,
                by_epoch=False,
                max_keep_ckpts=1,
                save_best='accuracy',
                rule='greater',
            ),
            sampler_seed=dict(type='DistSamplerSeedHook'),
        ),  # fmt: skip
        custom_hooks=[
            dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=7),
            dict(type='ExactResumeHook'),
        ],
        randomness=dict(seed=5),
    )
    arguments['custom_hooks'] += settings.pop('extra_hooks', [])
    return build_runner(work_dir, **(arguments | settings))


def regression_runner(
    work_dir: Path, global_batch: int, *, world_size=1, accumulate=1, max_iters=30, **settings
) -> Runner:
    arguments = dict(
        model=dict(type='TinyRegression'),
        train_dataloader=dict(
            batch_size=global_batch // world_size, num_workers=0, sampler=dict(type='InfiniteSampler'),
            dataset=dict(type='Vectors'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1000),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02), accumulative_counts=accumulate),
        custom_hooks=[dict(type='Recorder'), dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=40)],
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=10)),
        randomness=dict(seed=3),
    )  # fmt: skip
    return build_runner(work_dir, **(arguments | settings))


def build_runner(work_dir: Path, **arguments) -> Runner:
    runner = Runner(
        work_dir=str(work_dir),
        default_scope='mmseg',
        log_level='ERROR',
        # Unique: mmengine shares log and message hub between runners of one name.
        experiment_name=f'{Path(work_dir).name}{time.perf_counter_ns()}',
        **arguments,
    )
    return runner


DISTRIBUTED = dict(
    launcher='pytorch',
    cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)),
    env_cfg=dict(dist_cfg=dict(backend='gloo')),
)


def average_of_two_processes(work_dir: Path) -> None:
    """θ_C before, θ_E around the hook in each step, θ_C after; for three batch sizes."""
    for batch in (4, 16, 128):
        average = dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=40)
        hooks = [dict(type='Recorder'), average, dict(type='Recorder', priority='LOWEST')]
        runner = regression_runner(work_dir / str(batch), batch, world_size=2, custom_hooks=hooks, **DISTRIBUTED)
        first = copy.deepcopy(runner.model.module.creator.state_dict())
        runner.train()
        before, after = (hook.exploiters for hook in runner.hooks if isinstance(hook, Recorder))
        creator = runner.model.module.creator.state_dict()
        torch.save((first, before, after, creator), work_dir / f'{batch}.{get_rank()}.pth')


def resume_of_two_processes(work_dir: Path, root: Path) -> None:
    """A straight run of 10 steps of 10 samples, updates after steps 4 and 8, and one resumed after step 6."""
    hooks = [dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=40), dict(type='ExactResumeHook')]
    for name, stop, resume in (('straight', None, False), ('resumed', 6, False), ('resumed', None, True)):
        stops = [dict(type='Stop', iteration=stop)] if stop else []
        runner = segmentation_runner(
            work_dir / name, root, max_iters=10, resume=resume, custom_hooks=hooks + stops, **DISTRIBUTED
        )
        try:
            runner.train()
        except KeyboardInterrupt:
            continue
        metrics = {key: scalar.data[0] for key, scalar in runner.message_hub.log_scalars.items() if 'accuracy' in key}
        torch.save((runner.iter, runner.model.state_dict(), metrics), work_dir / f'{name}.{get_rank()}.pth')


def one_of_two(rank: int, meeting: Path, function: Callable[..., None], *arguments: object) -> None:
    """Calls ``function`` as the process ``rank`` of two, which meet in a file."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group('gloo', init_method=f'file://{meeting}', rank=rank, world_size=2)
    function(*arguments)
    torch.distributed.destroy_process_group()


def killed_in_checkpoint(work_dir: Path, root: Path, iteration: int) -> None:
    segmentation_runner(work_dir, root, extra_hooks=[dict(type='KillInCheckpoint', iteration=iteration)]).train()
