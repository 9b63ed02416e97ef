"""How the cost of training and creation grows, on toys: models of some thousand weights, 64 × 64 pixels, one thread.

What grows with what is the same at full size; how much it costs there is not: see the tables of tools/benchmark.py.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets import BaseSegDataset
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdiff2in1.synthesis import SampleStore, Source, make_plan, synthesize
from mmdiff2in1.tasks import TaskSet

from .cells import Cell
from .costs import count
from .growth_store import measured
from .model import CAPTION, build_diffusion, build_segmentor
from .saved import saved_bytes

SIZE, BATCH, CALLS, REPEATS, SHARED = 64, 2, 4, 5, 48
TASKS: dict[str, dict[str, Any]] = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=5),
    depth=dict(type='Depth', max_depth=10.0),
    normal=dict(type='SurfaceNormal'),
    saliency=dict(type='Saliency'),
    edge=dict(type='Edges'),
)


def images(number: int, folder: Path) -> dict[str, Any]:
    """An epoch over a set: opening it, reading every image and its labels, a step for each batch."""
    rng = np.random.default_rng(0)
    for name, shape in (('images', (SIZE, SIZE, 3)), ('labels', (SIZE, SIZE))):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(folder / name / f'{index}.png'), rng.integers(0, 5, shape, np.uint8))
    cell = Cell('frozen', model='tiny', size=SIZE, batch=BATCH)
    model = build_segmentor(cell, 'cpu')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]

    def epoch() -> int:
        prefix = dict(img_path=str(folder / 'images'), seg_map_path=str(folder / 'labels'))
        dataset = BaseSegDataset(metainfo=dict(classes=list('abcde')), data_prefix=prefix, pipeline=pipeline,
                                 img_suffix='.png', seg_map_suffix='.png')  # fmt: skip
        step, steps = _Step(model), 0
        for samples in DataLoader(dataset, BATCH, collate_fn=list):
            batch = torch.stack([sample['inputs'] for sample in samples]).float() / 127.5 - 1
            step(batch, [sample['data_samples'] for sample in samples])
            steps += 1
        return steps

    epoch()
    return measured(epoch) | dict(steps=number // BATCH)


def pixels(side: int, _: Path) -> dict[str, Any]:
    """A step of a fine-tuned U-Net on images of that side."""
    return _training(Cell('finetune', model='tiny', size=side, batch=BATCH))


def classes(number: int, _: Path) -> dict[str, Any]:
    """The same with so many classes: as many tokens for the U-Net, maps of its attention, and outputs of the head."""
    return _training(Cell('finetune', model='tiny', size=SIZE, batch=BATCH), classes=number)


def tasks(number: int, _: Path) -> dict[str, Any]:
    """The same with a head for each of so many tasks."""
    chosen = dict(list(TASKS.items())[:number])
    return _training(Cell('finetune', model='tiny', size=SIZE, batch=BATCH), tasks=chosen)


def synthetic(number: int, _: Path) -> dict[str, Any]:
    """A step of the self-improving stage: two real images, and so many created ones, which θ_C labels."""
    return _training(Cell('mixed', model='tiny', size=SIZE, batch=BATCH + number), synthetic=number)


def samples(number: int, folder: Path) -> dict[str, Any]:
    """Creation of so many images at four U-Net calls each, with their files and records."""
    return _creation(number, folder, world_size=1)


def ranks(number: int, folder: Path) -> dict[str, Any]:
    """Creation of 48 images by so many processes, one after another, each with the machine to itself; the slowest."""
    return _creation(SHARED, folder, world_size=number)


def _training(
    cell: Cell, classes: int = 5, tasks: dict[str, dict[str, Any]] | None = None, synthetic: int = 0
) -> dict[str, Any]:
    """A step: median seconds, bytes that its forward pass keeps for the backward pass, operations on paper."""

    def build(device: str) -> Any:
        return build_segmentor(cell, device, cell.case == 'mixed', classes, tasks)

    model = build('cpu')
    wanted = TaskSet(tasks) if tasks else TaskSet(dict(TASKS['semantic_segmentation'], num_classes=classes))
    given = _samples(cell, wanted, synthetic)
    batch = torch.rand(cell.batch, 3, cell.size, cell.size) * 2 - 1
    step = _Step(model)
    step(batch, given)
    weights = [*model.parameters(), *model.buffers()]
    kept = saved_bytes(lambda: model.loss(batch, given), [*weights, batch])
    return _times(lambda: step(batch, given)) | dict(bytes=kept, flops=_flops(build, cell, synthetic))


def _flops(build: Callable[[str], Any], cell: Cell, synthetic: int) -> int:
    """Forward and backward pass of the student, and what θ_C computes to label; without the losses."""
    model = build('meta')
    student = model.exploiter if cell.case == 'mixed' else model
    student.backbone._range_checked = True  # needs values

    def run(batch: int, backward: bool) -> int:
        images = torch.empty(batch, 3, cell.size, cell.size, device='meta')

        def forward() -> None:
            outputs = student.decode_head(student.neck(student.backbone(images)))
            if backward:
                sum(each.sum() for each in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()

        return count(forward)

    labelling = run(synthetic, False) if synthetic else 0
    return run(cell.batch, True) + labelling


def _creation(number: int, folder: Path, world_size: int) -> dict[str, Any]:
    """Of the slowest process."""
    cell = Cell('create', model='tiny', size=SIZE, calls=CALLS)
    diffusion = build_diffusion(cell, 'cpu')
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        cv2.imwrite(str(folder / f'{index}.png'), rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    sources = [Source(f'{index}.png', CAPTION, (SIZE, SIZE)) for index in range(4)]
    plan = make_plan(
        sources, weights_hash=diffusion.weights_hash(), multiple=diffusion.multiple, num_samples=number,
        num_calls=CALLS,
    )  # fmt: skip
    calls = [0]
    diffusion.unet.register_forward_pre_hook(lambda _, inputs: calls.append(calls.pop() + len(inputs[0])))
    synthesize(diffusion, plan[:4], SampleStore(folder / 'warm'), data_root=folder, progress=False)
    found = []
    for rank in range(world_size):
        calls[0] = 0

        def work(rank: int = rank) -> None:
            synthesize(diffusion, plan, SampleStore(folder / 'store'), data_root=folder, rank=rank,
                       world_size=world_size, progress=False)  # fmt: skip

        found.append(measured(work) | dict(calls=calls[0]))
    return max(found, key=lambda each: each['seconds'])


class _Step:
    """An optimizer step of AdamW."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def __call__(self, images: Tensor, samples: list[SegDataSample]) -> None:
        self._model.parse_losses(self._model.loss(images, samples))[0].backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def _times(step: Callable[[], Any]) -> dict[str, Any]:
    seconds, worked = [], []
    for _ in range(REPEATS):
        start, before = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - start)
        worked.append(time.process_time() - before)
    return dict(seconds=median(seconds), core_seconds=median(worked), repeats=REPEATS)


def _samples(cell: Cell, wanted: TaskSet, synthetic: int) -> list[SegDataSample]:
    """Random targets; the last `synthetic` ones are of created images."""
    shape, found = (cell.size, cell.size), []
    for index in range(cell.batch):
        is_created = index >= cell.batch - synthetic
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, synthetic=is_created))
        for task in wanted.values():
            target, _ = task.pseudo_label(torch.rand(1, task.channels, *shape) + 0.5)
            sample.set_data({task.field: PixelData(data=target[0])})
        found.append(sample)
    return found
