"""Before the first stage each is built and shown a sample: what is wrong with the last is found before the first runs.

Nothing of it stays: the folder is a temporary one, random states are put back, logs and pictures go nowhere.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import MessageHub, MMLogger, print_log
from mmengine.registry import OPTIMIZERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from mmseg.evaluation import IoUMetric
from torch import nn

from mmdiff2in1.checks.channels import check_channels_by_forward
from mmdiff2in1.core.building import explained
from mmdiff2in1.core.names import unknown_names
from mmdiff2in1.core.randomness import kept_randomness
from mmdiff2in1.engine import ExactResumeHook, SelfImprovingHook
from mmdiff2in1.generators.finite import all_finite
from mmdiff2in1.models.self_improving import SelfImprovingSegmentor

from .runs import build_runner, free_memory, unwrapped
from .view_settings import KEY, CachedViews, check_cached_views

MOST = 2
"""Samples of a batch that is tried: enough for batch norm."""
ENDLESS = ('InfiniteSampler', 'StreamSampler')
ALONE = 'the config fails so before it is wrapped, too: the plain segmentor gives no losses for this batch'
OF_IOU = ('mIoU', 'mDice', 'mFscore')


def rehearse(stages: Mapping[str, Config]) -> None:
    """Builds the loops, the optimizer, the hooks and the model of each stage, and takes a sample through them.

    A stage that starts from a checkpoint that is there loads it. Training: a batch of the loader's first samples gives
    losses; of a self-improving model once more, as if the last of them were created, unless a teacher would be loaded
    for it. Validation: one sample is predicted, and handed to the metrics where a hook waits for a figure by name.

    Args:
        stages: Title → config, complete but for what earlier stages will give.

    Raises:
        ValueError: Something cannot be built, computed or read, with stage and key of the config.
    """
    if stages:
        print_log(f'built and shown a sample before the start: {", ".join(stages)}', 'current')
    for title, cfg in stages.items():
        with kept_randomness(), scratch(cfg) as stage:
            _Rehearsal(title, stage).run()
        free_memory()


def figures_of_a_test(cfg: Config, wanted: str) -> list[str] | None:
    """Names of what the test of a stage gives, from a test of its first image by the model as it is built.

    Args:
        cfg: The stage's config.
        wanted: The figures of which it is asked whether they are among them, for a warning.

    Returns:
        None, with a warning, where the metrics of one image fail: a metric may need more.

    Raises:
        ValueError: Something cannot be built, computed or read, with the key of the config.
    """
    with kept_randomness(), scratch(cfg) as stage:
        figures = _Rehearsal('the test', stage).figures_of_the_test(wanted)
    free_memory()
    return figures


@contextmanager
def scratch(cfg: Config) -> Iterator[Config]:
    """A copy of a stage's config that leaves nothing behind."""
    stage = copy.deepcopy(cfg)
    with TemporaryDirectory(prefix='rehearsal') as folder:
        stage.experiment_name = Path(folder).name
        stage.work_dir, stage.log_level, stage.resume = folder, 'ERROR', False
        if stage.get('visualizer'):
            stage.visualizer.vis_backends = None
        hook = (stage.get('default_hooks') or {}).get('checkpoint') or {}
        hook.pop('out_dir', None)
        # The newest of each speaks for the process.
        before = {manager: dict(manager._instance_dict) for manager in (MMLogger, MessageHub, Visualizer)}
        try:
            yield stage
        finally:
            for manager, instances in before.items():
                manager._instance_dict.clear()
                manager._instance_dict.update(instances)


class _Rehearsal:
    """One stage, part by part."""

    def __init__(self, title: str, cfg: Config) -> None:
        self.title, self.cfg = title, cfg

    def run(self) -> None:
        """See `rehearse`."""
        with self._part('model, hooks, visualizer or randomness'):
            runner = build_runner(self.cfg)
        with self._part('train_dataloader or train_cfg'):
            runner._train_loop = runner.build_train_loop(runner._train_loop)
            self._check_length(runner)
        with self._part('optim_wrapper'):
            self._check_optimizer()
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            self._check_rates(runner)
            self._check_clipping(runner)
            self._check_accumulation(runner)
            self._check_checkpoints(runner)
        with self._part('param_scheduler'):
            if runner.param_schedulers is not None:
                runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        with self._part('val_dataloader, val_evaluator or val_cfg'):
            if runner._val_loop is not None:
                runner._val_loop = runner.build_val_loop(runner._val_loop)
                self._check_metrics(runner.val_loop.evaluator)
        with self._part('test_dataloader, test_evaluator or test_cfg'):
            if runner._test_loop is not None:
                runner._test_loop = runner.build_test_loop(runner._test_loop)
                self._check_metrics(runner.test_loop.evaluator)
        with self._part('weights of the model'):
            runner.call_hook('before_run')
            runner._init_model_weights()
            self._check_weights(unwrapped(runner.model))
        with self._part(f'load_from={self.cfg.get("load_from")}'):
            runner.load_or_resume()
            self._check_weights(unwrapped(runner.model))
        with self._part('custom_hooks'):
            for hook in runner.hooks:
                if isinstance(hook, SelfImprovingHook):
                    hook.before_train(runner)
        with self._part(KEY):
            self._check_cached_views(runner)
        unwrapped(runner.model).to(get_device())  # one that is going to be sharded still waits on the CPU
        with self._part('the first training samples'), torch.no_grad():
            self._first_losses(runner)
        with self._part('the first validation sample'), torch.no_grad():
            if runner._val_loop is not None:
                self._first_prediction(runner)

    def figures_of_the_test(self, wanted: str) -> list[str] | None:
        """See `figures_of_a_test`."""
        with self._part('model, hooks, visualizer or randomness'):
            runner = build_runner(self.cfg)
        with self._part('test_dataloader, test_evaluator or test_cfg'):
            runner._test_loop = runner.build_test_loop(runner._test_loop)
        loop = runner.test_loop
        for metric in loop.evaluator.metrics:
            if getattr(metric, 'output_dir', None):
                metric.output_dir = self.cfg.work_dir  # which goes
        unwrapped(runner.model).to(get_device())
        with self._part('the first test sample'), torch.no_grad():
            figures = _figures(loop, *_seen(runner, loop, 'test_dataloader'), wanted)
        return None if figures is None else list(figures)

    @contextmanager
    def _part(self, what: str) -> Iterator[None]:
        """Makes errors that are raised inside name this part."""
        try:
            yield
        except Exception as error:
            said = '; '.join([explained(error, self.cfg), *getattr(error, '__notes__', ())])
            raise ValueError(f'{self.title} cannot run: {what}: {said}') from error

    @staticmethod
    def _check_length(runner: Runner) -> None:
        loop: Any = runner.train_loop
        if loop.max_iters < 1 or loop.val_interval < 1:
            raise ValueError(
                f'train_cfg has {loop.max_iters} iterations and val_interval={loop.val_interval}, expected 1 or more'
            )
        sampler = type(loop.dataloader.sampler).__name__
        if isinstance(loop, EpochBasedTrainLoop) and sampler in ENDLESS:
            raise ValueError(
                f'train_cfg is an EpochBasedTrainLoop, but {sampler} of train_dataloader has no end, and so no epoch; '
                "set sampler=dict(type='DefaultSampler', shuffle=True), or type='IterBasedTrainLoop' with max_iters"
            )

    def _check_optimizer(self) -> None:
        kind = (self.cfg.optim_wrapper.get('optimizer') or {}).get('type')
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise ValueError(f'{kind} is not in the optimizer registry')

    @staticmethod
    def _check_rates(runner: Runner) -> None:
        wrapper: Any = runner.optim_wrapper
        for name, one in wrapper.items() if hasattr(wrapper, 'items') else [('', wrapper)]:
            for group in one.param_groups:
                for key in ('lr', 'weight_decay'):
                    value = group.get(key)
                    if isinstance(value, (int, float)) and not 0 <= value < math.inf:
                        raise ValueError(
                            f'{name} {key}={value} of the optimizer, expected a finite number >= 0'.strip()
                        )

    @staticmethod
    def _check_clipping(runner: Runner) -> None:
        """mmengine hands `clip_grad` on as it is, at the first step."""
        wrapper: Any = runner.optim_wrapper
        for one in wrapper.values() if hasattr(wrapper, 'values') else [wrapper]:
            given = getattr(one, 'clip_grad_kwargs', None)
            if not given:
                continue
            known = set(signature(one.clip_func).parameters)
            wrong = [name for name in given if name not in known]
            if wrong:
                raise ValueError(f'clip_grad: {unknown_names(wrong, sorted(known))}, which nothing reads')

    @staticmethod
    def _check_accumulation(runner: Runner) -> None:
        """A checkpoint holds no gradients: of one between two steps of the optimizer, a resume is not exact."""
        count = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        exact = any(isinstance(hook, ExactResumeHook) for hook in runner.hooks)
        for hook in runner.hooks if exact and count > 1 else ():
            if isinstance(hook, CheckpointHook) and not hook.by_epoch and hook.interval % count:
                raise ValueError(
                    f'default_hooks.checkpoint.interval={hook.interval} and accumulative_counts={count}: a checkpoint '
                    'between two steps of the optimizer loses the gradients so far, and a resumed run differs from a '
                    f'straight one; choose a multiple of {count}'
                )

    @staticmethod
    def _check_checkpoints(runner: Runner) -> None:
        """mmengine's hook takes any key; what nothing knows fails at the first checkpoint."""
        known = {*signature(runner.save_checkpoint).parameters} - {'out_dir', 'filename'}
        for hook in runner.hooks:
            wrong = sorted(set(hook.args) - known) if isinstance(hook, CheckpointHook) else []
            if wrong:
                raise ValueError(f'default_hooks.checkpoint has {", ".join(wrong)}, which nothing reads')

    @staticmethod
    def _check_metrics(evaluator: Any) -> None:
        for metric in evaluator.metrics:
            wrong = sorted(set(metric.metrics) - set(OF_IOU)) if isinstance(metric, IoUMetric) else []
            if wrong:
                raise ValueError(f'iou_metrics has {", ".join(wrong)}; known: {", ".join(OF_IOU)}')

    @staticmethod
    def _check_weights(model: nn.Module) -> None:
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not all_finite(tensor):
                raise ValueError(
                    f'{name} holds values that are not finite: the file is damaged, or its training failed'
                )

    def _check_cached_views(self, runner: Runner) -> None:
        settings = CachedViews.of(self.cfg)
        if settings is not None:
            check_cached_views(settings, unwrapped(runner.model), runner.train_dataloader.dataset)

    def _first_losses(self, runner: Runner) -> None:
        model, loader = unwrapped(runner.model), runner.train_dataloader
        size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
        samples = [loader.dataset[i] for i in range(min(MOST, size, len(loader.dataset)))]
        _check_packed(samples[0], 'train_dataloader')
        if not any(sample['data_samples'].keys() for sample in samples):
            raise ValueError(
                'they hold no label; expected a transform of train_dataloader.dataset.pipeline that loads one, such as '
                'LoadAnnotations or LoadDenseAnnotation, before PackSegInputs'
            )
        try:
            self._losses(runner, loader.collate_fn(copy.deepcopy(samples)))
        except Exception as error:
            if _fails_alone(model, loader.collate_fn(samples), error):
                error.add_note(ALONE)
            raise
        if isinstance(model, SelfImprovingSegmentor) and model.teachers is None:
            samples[-1]['data_samples'].set_metainfo(dict(synthetic=True))
            self._losses(runner, loader.collate_fn(samples))

    @staticmethod
    def _losses(runner: Runner, batch: Any) -> None:
        model = unwrapped(runner.model)
        model.train()
        with runner.optim_wrapper.optim_context(runner.model):
            data = model.data_preprocessor(batch, True)
            try:
                losses = model(**data, mode='loss')
            except RuntimeError:  # torch's, which names shapes and no keys
                if isinstance(data['inputs'], torch.Tensor):
                    check_channels_by_forward(model, data['inputs'])
                raise
        _, terms = model.parse_losses(losses)
        wrong = [name for name, value in terms.items() if not torch.as_tensor(value).isfinite().all()]
        if wrong:
            raise ValueError(f'{", ".join(wrong)} is not finite; look at the labels and the weights of the losses')

    @staticmethod
    def _first_prediction(runner: Runner) -> None:
        seen = _seen(runner, runner.val_loop, 'val_dataloader')
        awaited = _awaited(runner)
        figures = _figures(runner.val_loop, *seen, ', '.join(awaited)) if awaited else None
        for name, by in awaited.items() if figures is not None else ():
            if name not in figures:
                raise ValueError(f'{by} waits for {name!r}, which no metric gives; there are {", ".join(figures)}')


def _seen(runner: Runner, loop: Any, loader: str) -> tuple[Any, Any]:
    """The batch of the first sample of a loop, and what the model sees in it."""
    model, sample = unwrapped(runner.model), loop.dataloader.dataset[0]
    _check_packed(sample, loader)
    batch = loop.dataloader.collate_fn([sample])
    model.eval()
    return batch, model.val_step(batch)


def _figures(loop: Any, batch: Any, outputs: Any, wanted: str) -> Mapping[str, float] | None:
    """What the metrics of a loop say of its first sample; None, with a warning, where one needs more than that."""
    try:
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
        figures = loop.evaluator.evaluate(1)
    except Exception as error:
        said = f'the metrics of one image fail ({error!r}), so it is not known whether they give'
        warnings.warn(f'{said} {wanted}', stacklevel=2)
        return None
    if getattr(loop, 'exploiter', False):
        figures |= {f'exploiter/{name}': value for name, value in figures.items()}
    return figures


def _fails_alone(model: nn.Module, batch: Any, error: Exception) -> bool:
    """True if the segmentor inside, which knows nothing of this package, ends in the same error."""
    if not isinstance(model, SelfImprovingSegmentor):
        return False
    try:
        data = model.data_preprocessor(batch, True)
        model.exploiter.loss(data['inputs'], data['data_samples'])
    except Exception as alone:
        return (type(alone), str(alone)) == (type(error), str(error))
    return False


def _check_packed(sample: Any, loader: str) -> None:
    """Refuses a sample that no transform has packed."""
    found = list(sample) if isinstance(sample, Mapping) else []
    if not {'inputs', 'data_samples'} <= {*found}:
        raise ValueError(
            f'a sample of {loader} holds {", ".join(map(str, found)) or type(sample).__name__}; expected inputs and '
            'data_samples: end its pipeline with PackSegInputs'
        )


def _awaited(runner: Runner) -> dict[str, str]:
    """Figures that hooks wait for by name, and who does."""
    awaited: dict[str, str] = {}
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            names = [hook.save_best] if isinstance(hook.save_best, str) else hook.save_best
            awaited |= {name: 'save_best' for name in names if name != 'auto'}
        if isinstance(hook, EarlyStoppingHook):
            awaited[hook.monitor] = 'EarlyStoppingHook.monitor'
    return awaited
