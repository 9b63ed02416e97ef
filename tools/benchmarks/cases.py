"""The jobs that are measured, ready to be repeated.

B, 3, H, W: RGB in [-1, 1].
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdiff2in1.engine.self_improving_hook import SelfImprovingHook

from .cells import COMPILED, Cell
from .compiled import CompiledPairs
from .heads import build_head, features_of, samples_of
from .model import CAPTION, CLASSES, build_diffusion, build_segmentor
from .options import computing, prepare
from .views import Pairs


@dataclass
class Job:
    """Attributes: `step` is repeated; `warm_up` comes first; `notes` are filled in while it runs."""

    step: Callable[[], Any]
    warm_up: Callable[[], Any]
    notes: dict[str, Any] = field(default_factory=dict)


def make_job(cell: Cell) -> Job:
    """Builds model and data of a cell on its device."""
    if cell.head:
        return _head(cell)
    if cell.warmup:
        pairs = Pairs(cell)
        return Job(pairs.step, pairs.warm_up, pairs.notes)
    if cell.case.startswith(COMPILED):
        compiled = CompiledPairs(cell)
        return Job(compiled.step, compiled.warm_up, compiled.notes)
    if cell.case.startswith('features'):
        return _features(cell)
    return dict(frozen=_training, finetune=_training, mixed=_training, create=_creation, ema=_average)[cell.case](cell)


def _features(cell: Cell) -> Job:
    model = prepare(build_segmentor(cell, cell.device).eval(), cell)
    images = _images(cell)

    def step() -> None:
        with torch.no_grad(), computing(cell):
            model.backbone(images)

    return Job(step, step)


def _training(cell: Cell) -> Job:
    """One optimizer step: losses, backward, AdamW (VPD's)."""
    model = prepare(build_segmentor(cell, cell.device, self_improving=cell.case == 'mixed'), cell)
    images, samples = _images(cell), _samples(cell)
    return _optimizing(cell, model, lambda: model.parse_losses(model.loss(images, samples))[0])


def _head(cell: Cell) -> Job:
    """A decode head alone: an optimizer step, or its prediction."""
    model = prepare(build_head(cell, cell.device), cell)
    features, samples = features_of(model, cell, cell.device), samples_of(model, cell, cell.device)
    if cell.case == cell.head:
        return _optimizing(cell, model, lambda: model.total_loss(features, samples))

    def step() -> None:
        with torch.no_grad(), computing(cell):
            model.predict(features, samples)

    return Job(step, step)


def _optimizing(cell: Cell, model: nn.Module, loss: Callable[[], Tensor]) -> Job:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = True if 'fused-adamw' in cell.options else None
    optimizer = OptimWrapper(torch.optim.AdamW(trained, lr=8e-5, weight_decay=0.01, fused=fused))

    def step() -> None:
        with computing(cell):
            total = loss()
        optimizer.update_params(total)

    return Job(step, step)


def _creation(cell: Cell) -> Job:
    """Images from images, T = 600. On the CPU the U-Net calls are timed one by one, too."""
    diffusion = prepare(build_diffusion(cell, cell.device), cell)
    images, seconds = _images(cell), []
    captions, seeds = [CAPTION] * cell.batch, list(range(cell.batch))
    if cell.device == 'cpu':
        diffusion.unet.register_forward_pre_hook(lambda *_: seconds.append(-time.perf_counter()))
        diffusion.unet.register_forward_hook(lambda *_: seconds.append(seconds.pop() + time.perf_counter()))

    def create(calls: int) -> None:
        with computing(cell):
            diffusion.create(images, captions=captions, seeds=seeds, T=600, num_calls=calls)

    def warm_up() -> None:
        create(1)
        seconds.clear()

    return Job(lambda: create(cell.calls), warm_up, dict(seconds_of_calls=seconds))


def _average(cell: Cell) -> Job:
    """The hook after a step by which exactly one update is due."""
    model = build_segmentor(cell, cell.device, self_improving=True)
    hook = SelfImprovingHook(alpha=0.998)
    runner: Any = SimpleNamespace(
        model=model,
        iter=0,
        train_loop=SimpleNamespace(dataloader=DataLoader([], batch_size=None)),
        logger=MMLogger.get_instance('benchmark'),
        message_hub=MessageHub.get_instance('benchmark'),
        optim_wrapper=OptimWrapper(torch.optim.SGD([next(p for p in model.parameters() if p.requires_grad)], lr=0.0)),
    )
    hook.before_train(runner)
    batch = dict(inputs=[None] * hook.samples_per_update)
    tensors = model.ema_tensors().averaged_creator
    # Both are read, one is written.
    moved = 3 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def step() -> None:
        hook.after_train_iter(runner, 0, batch)

    return Job(step, step, dict(bytes_moved=moved, averaged=sum(tensor.numel() for tensor in tensors)))


def _images(cell: Cell) -> Tensor:
    generator = torch.Generator(cell.device).manual_seed(0)
    shape = (cell.batch, 3, cell.size, cell.size)
    images = torch.rand(shape, generator=generator, device=cell.device) * 2 - 1
    return images.contiguous(memory_format=torch.channels_last) if 'channels_last' in cell.options else images


def _samples(cell: Cell) -> list[SegDataSample]:
    """Random labels; the second half of a `mixed` batch is synthetic."""
    shape, samples = (cell.size, cell.size), []
    generator = torch.Generator(cell.device).manual_seed(1)
    for i in range(cell.batch):
        synthetic = cell.case == 'mixed' and i >= cell.batch // 2
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, synthetic=synthetic))
        labels = torch.randint(CLASSES[cell.model], (1, *shape), generator=generator, device=cell.device)
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples
