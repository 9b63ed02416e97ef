"""What a training step of InvPT needs beside its weights, counted on tensors without memory, against plain formulas.

`pytest -s` prints the table. One image; kept: what autograd holds when the forward pass has ended, each storage once.
Peak: the most that is there at any time of forward and backward pass beside the weights, gradients included, the
workspace of kernels and the moments of Adam excepted.
"""

import weakref

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from invpt_reference import NYUD, PASCAL, WITHOUT_EFFECT, Reference, published_shapes
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.invpt import TASKS, TYPES
from mmdiff2in1.models import task_loss
from mmdiff2in1.tasks import TaskSet

MIB = 2**20
CASES = dict(nyud=(NYUD, (448, 576)), pascal=(PASCAL, (512, 512)))


class Kept:
    """Counts the storages that autograd keeps, each once, those of weights and images aside."""

    def __init__(self, *known):
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.tensors, self.found = [], {}

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)

    def keep(self, tensor):
        self.tensors.append(tensor)  # alive, so that no other storage gets its number
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.found[storage._cdata] = storage.nbytes()
        return tensor

    @property
    def mib(self):
        return sum(self.found.values()) / MIB


class Peak(TorchDispatchMode):
    """The most bytes that tensors made under it take at any time."""

    def __init__(self):
        super().__init__()
        self.now = self.highest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if torch.is_tensor(tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is not None and storage._cdata not in given:
                size = storage.nbytes()
                self.now += size
                self.highest = max(self.highest, self.now)
                weakref.finalize(storage, self.freed, size)
        return result

    def freed(self, size):
        self.now -= size


def measured(weights, images, backbone, rest):
    """MiB kept by `backbone(images)`, by `rest(maps)` in addition, and the peak of the step."""
    kept = Kept(*weights, images)
    with kept.hooks():
        maps = backbone(images)
        of_backbone = kept.mib
        loss = rest(maps)
    total = kept.mib
    del kept, maps, loss
    with Peak() as peak:
        rest(backbone(images)).backward()
    for weight in weights:
        weight.grad = None
    return of_backbone, total - of_backbone, peak.highest / MIB


def targets(tasks, size):
    return {name: task.unknown_target(size)[None].clone() for name, task in tasks.items()}


def plain(published, size):
    """Every formula as it stands."""
    grid = size[0] // 16 * size[1] // 16
    shapes = published_shapes(published, positions=1 + grid)
    state = {
        name: torch.zeros(shape, requires_grad='running' not in name and 'num_batches' not in name)
        for name, shape in shapes.items()
        if not any(part in name for part in WITHOUT_EFFECT)
    }
    model, tasks = Reference(state, published, training=True), task_set(published)
    wanted = targets(tasks, size)

    def rest(maps):
        losses = []
        for name, parts in model.decoder(maps).items():
            for raw in parts:
                full = F.interpolate(raw, size, mode='bilinear', align_corners=False)
                losses.append(task_loss(tasks[TASKS[name]], full, wanted[TASKS[name]]))
        return sum(losses)

    weights = [tensor for tensor in state.values() if tensor.requires_grad]
    return measured(weights, torch.zeros(1, 3, *size), lambda images: model.backbone(images, heads=16, depth=24), rest)


def task_set(published):
    configs = {TASKS[name]: dict(type=TYPES[TASKS[name]]) for name in published}
    configs['semantic_segmentation']['num_classes'] = published['semseg']
    return TaskSet(configs)


def without_memory(module):
    """Tensors of the fake mode in the place of those on the meta device."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part.register_parameter(name, nn.Parameter(torch.empty(weight.shape)))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def ours(published, size, checkpointing=True, of_backbone=False):
    tasks = task_set(published)
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='ViTLevels', img_size=size, drop_path_rate=0.0, checkpointing=of_backbone))
        head = MODELS.build(dict(type='InvPTHead', tasks=dict(tasks), checkpointing=checkpointing))
    with FakeTensorMode():
        for module in (backbone, head):
            without_memory(module.train())
        sample = SegDataSample(metainfo=dict(img_shape=size))
        sample.set_data({task.field: PixelData(data=task.unknown_target(size).clone()) for task in tasks.values()})
        weights = [*backbone.parameters(), *head.parameters()]
        return measured(
            weights,
            torch.zeros(1, 3, *size),
            backbone,
            lambda maps: sum(head.loss_by_feat(head(maps), [sample]).values()),
        )


@pytest.mark.parametrize('name', ['nyud', pytest.param('pascal', marks=pytest.mark.slow)])
def test_half_of_the_memory_of_plain_formulas(name):
    published, size = CASES[name]
    with DefaultScope.overwrite_default_scope('mmseg'):
        with FakeTensorMode():
            rows = {'plain formulas': plain(published, size)}
        rows |= {
            'ours, all kept': ours(published, size, checkpointing=False),
            'ours': ours(published, size),
            'ours, ViT recomputed': ours(published, size, of_backbone=True),
        }
    print(f'\n{name} {size[0]} × {size[1]}, MiB{"kept: ViT":>20}{"decoder":>10}{"both":>10}{"peak":>10}')
    for row, (of_backbone, of_decoder, peak) in rows.items():
        print(f'{row:<32}{of_backbone:>10.0f}{of_decoder:>10.0f}{of_backbone + of_decoder:>10.0f}{peak:>10.0f}')
    reference, own = rows['plain formulas'], rows['ours']
    assert sum(own[:2]) <= sum(reference[:2]) / 2
    assert own[1] <= reference[1] / 8
    assert own[2] <= reference[2] / 2
    assert sum(rows['ours, ViT recomputed'][:2]) <= sum(reference[:2]) / 12
