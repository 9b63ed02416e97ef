"""What a training step of InvPT and TaskPrompter needs beside its weights: ours, and the formulas written plainly.

One image at full size, all published tasks with edges, single precision, losses included. MiB are 2^20 bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mmseg.models  # noqa: F401  registers mmseg's parts
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import mmdiff2in1.components  # noqa: F401  registers the models
from mmdiff2in1.converters.invpt import TASKS, InvPT
from mmdiff2in1.converters.taskprompter import TaskPrompter
from mmdiff2in1.models import task_loss

from . import memory, plain_invpt, plain_taskprompter
from .estimate import Alive
from .saved import saved_bytes

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
MIB = 2**20
MODELS_AT_FULL_SIZE = {
    'InvPT, ViT-L, NYUD-MT': 'invpt_vit-l.py',
    'InvPT, ViT-B, NYUD-MT': 'invpt_vit-b.py',
    'InvPT, ViT-L, PASCAL-Context': 'invpt_vit-l_pascal-context.py',
    'TaskPrompter, ViT-L, NYUD-MT': 'taskprompter_vit-l.py',
    'TaskPrompter, ViT-L, PASCAL-Context': 'taskprompter_vit-l_pascal-context.py',
    'TaskPrompter, ViT-B, PASCAL-Context': 'taskprompter_vit-b.py',
}
PLAIN, OURS, ALL_KEPT, VIT_AGAIN = 'plain', 'ours', 'ours, nothing recomputed', 'ours, the ViT recomputed'
INVPT_WAYS = {ALL_KEPT: dict(decode_head=dict(checkpointing=False)), VIT_AGAIN: dict(backbone=dict(checkpointing=True))}


@dataclass(frozen=True)
class Step:
    """A training step in two halves.

    Attributes:
        backbone: () → maps.
        loss: Maps → the sum of the losses.
        weights: What is there before the step: parameters, buffers, the images.
    """

    backbone: Callable[[], Any]
    loss: Callable[[Any], Tensor]
    weights: list[Tensor]


@dataclass(frozen=True)
class Needed:
    """MiB of a step, beside its weights.

    Attributes:
        backbone: Kept by the backbone for the backward pass, each storage once; what it gives, too.
        kept: By all of the model and its losses.
        peak: The most that is there at any time of forward and backward pass, gradients of weights included; not the
            workspaces of kernels, nor the moments of Adam.
    """

    backbone: float
    kept: float
    peak: float


def ways(name: str) -> list[str]:
    """How the step of a model can be done; `PLAIN` first."""
    return [PLAIN, *([ALL_KEPT] if name.startswith('InvPT') else []), OURS,
            *([VIT_AGAIN] if name.startswith('InvPT') else [])]  # fmt: skip


def config_of(name: str, way: str = OURS) -> Config:
    """The model's config with edges, as it was published; without stochastic depth, which the formulas lack."""
    whole = Config.fromfile(CONFIGS / MODELS_AT_FULL_SIZE[name])
    whole.merge_from_dict(dict(model=INVPT_WAYS.get(way, {})))
    config = whole.model
    for part in (config, config.backbone, config.decode_head):
        for key in ('task', 'tasks'):
            if key in part:
                part[key].edge = dict(type='Edges')
    config.backbone.drop_path_rate = 0.0
    return config


def counted(name: str, way: str) -> Needed:
    """Followed on tensors without memory: nothing is computed, and attention is as on a CPU, fused."""
    config = config_of(name, way)
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = MODELS.build(config).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = step_of(model.to_empty(device='cpu'), config, way)
        kept = saved_bytes(lambda: [maps := step.backbone(), step.loss(maps)], step.weights)
        of_backbone = saved_bytes(step.backbone, step.weights)
        alive = Alive('cpu')
        alive.add(step.weights)
        before = alive.bytes
        with alive:
            step.loss(step.backbone()).backward()
    return Needed(of_backbone / MIB, kept / MIB, (alive.peak - before) / MIB)


def measured(name: str, way: str) -> float:
    """MiB at the peak of a real step with random weights, in a process of its own: on a GPU of tensors, else of the
    process, where the workspaces of kernels count, too.

    Raises:
        RuntimeError: The step failed, for want of memory most likely.
    """
    with get_context('spawn').Pool(1) as pool:
        return pool.apply(_measured, (name, way))


def _measured(name: str, way: str) -> float:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    memory.limit(device, 0)
    config = config_of(name, way)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config).train().to(device)
    step = step_of(model, config, way)
    memory.reset_peak(device)
    before = memory.peak(device)['memory_peak']
    step.loss(step.backbone()).backward()
    return (memory.peak(device)['memory_peak'] - before) * memory.GB / MIB


def step_of(model: nn.Module, config: Config, way: str) -> Step:
    """The step of `model`, or with `PLAIN` that of the formulas on its weights. All labels are unknown."""
    device = next(model.parameters()).device
    size = tuple(config.backbone.img_size)
    images = torch.zeros(1, 3, *size, device=device)
    labels = {name: task.unknown_target(size).clone().to(device) for name, task in model.tasks.items()}
    if way == PLAIN:
        return _plain(model, config, images, labels)
    sample = SegDataSample(metainfo=dict(img_shape=size))
    for name, task in model.tasks.items():
        sample.set_data({task.field: PixelData(data=labels[name])})
    head = model.decode_head
    return Step(
        lambda: model.backbone(images),
        lambda maps: torch.stack(list(head.loss_by_feat(head(maps), [sample]).values())).sum(),
        [*model.parameters(), *model.buffers(), images],
    )


def _plain(model: nn.Module, config: Config, images: Tensor, labels: dict[str, Tensor]) -> Step:
    backbone, tasks = config.backbone, model.tasks
    names = [theirs for theirs, ours in TASKS.items() if ours in tasks]
    of_invpt = backbone.type == 'ViTLevels'
    state = (InvPT() if of_invpt else TaskPrompter()).to_theirs(model.state_dict()).state
    for name, tensor in state.items():
        if tensor.is_floating_point() and 'running' not in name:
            tensor.requires_grad_()
    size = tuple(images.shape[2:])

    def loss(outputs: dict[str, list[Tensor]]) -> Tensor:
        pairs = [(TASKS[name], output) for name, each in outputs.items() for output in each]
        return torch.stack([task_loss(tasks[name], output, labels[name][None]) for name, output in pairs]).sum()

    if of_invpt:
        whole = plain_invpt.Reference(state, names, training=True)

        def of_decoder(maps: list[Tensor]) -> Tensor:
            raw = whole.decoder(maps)
            return loss(
                {
                    name: [F.interpolate(y, size, mode='bilinear', align_corners=False) for y in raw[name]]
                    for name in raw
                }
            )

        return Step(lambda: whole.backbone(images, backbone.heads, backbone.depth), of_decoder,
                    [*state.values(), images])  # fmt: skip
    setup = plain_taskprompter.Setup(names, backbone.heads, backbone.taps, backbone.channel_windows)
    net = plain_taskprompter.Named(state, training=True)
    return Step(
        # All raw scores are held by the result, as their code holds them.
        lambda: plain_taskprompter.backbone(net, images, setup),
        lambda maps: loss({name: [y] for name, y in plain_taskprompter.heads(net, maps[0], size).items()}),
        [*state.values(), images],
    )
