"""Class probabilities as targets of one head for all tasks, against loops over the pixels.

Image 0 is real and has classes, image 1 is created and has θ_C's probabilities. Batch norms stand still.
"""

import math

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import tiny_invpt
import tiny_taskprompter
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from tiny_taskprompter import K

from mmdiff2in1.models import SelfImprovingSegmentor
from mmdiff2in1.models.multitask.task_losses import TASK_WEIGHTS
from mmdiff2in1.models.self_improving import GivenLabel
from mmdiff2in1.models.self_improving.labelling import labelled
from mmdiff2in1.tasks import TaskSet, stacked_targets
from mmdiff2in1.tasks.soft_classes import FIELD, to_topk

NAMES = ('semantic_segmentation', 'saliency', 'human_parts', 'depth')
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(kind, **settings):
    config = tiny_taskprompter.segmentor(*NAMES)
    if kind == 'invpt':
        config = tiny_invpt.segmentor(*NAMES, size=SIZE)
    torch.manual_seed(0)
    model = SelfImprovingSegmentor(config, normalize_by='pooled', **settings)
    tiny_taskprompter.stirred(model.creator, seed=1)
    tiny_taskprompter.stirred(model.exploiter.eval(), seed=2)
    return model


def batch():
    samples = tiny_taskprompter.samples(*NAMES, size=SIZE)
    for sample, created in zip(samples, (False, True), strict=True):
        sample.set_metainfo(dict(synthetic=created))
    return tiny_taskprompter.images(SIZE), samples


def slow(logits, p, samples, task, w):
    """(Σ c l, Σ w) over the pixels of both images: l by the definition, c the balance of saliency."""
    field = samples[0].get(task.field).data[0].tolist()
    q = logits.double().log_softmax(1)[..., ::4, ::4].tolist()
    pixels = []
    for y in range(0, SIZE[0], 4):
        for x in range(0, SIZE[1], 4):
            known = field[y][x] != 255
            sure = [float(k == field[y][x]) for k in range(len(p))]
            for i, (target, weight) in enumerate(((sure, float(known)), (p[:, y, x].tolist(), w))):
                pixels.append((weight, target, [q[i][k][y // 4][x // 4] for k in range(len(p))]))
    total = sum(weight for weight, *_ in pixels)
    share = sum(weight * target[0] for weight, target, _ in pixels) / total
    found = 0.0
    for weight, target, log_q in pixels:
        loss = -sum(a * b for a, b in zip(target, log_q, strict=True))
        balance = 1.0
        if task.name == 'saliency':
            balance = target[0] * (1 - share) + (1 - target[0]) * share
        found += weight * balance * loss
    return found / total


@pytest.mark.parametrize('kind', ['invpt', 'taskprompter'])
@pytest.mark.parametrize('weight', [1.0, 0.5])
def test_probabilities_of_the_creator_are_learned(kind, weight):
    """Every fourth pixel counts, so that the loops end: the others are unknown, or their probabilities 0."""
    model = build(kind, label_rule=dict(type='TeacherLabel', soft=True, temperature=2.0), synthetic_weight=weight)
    images, samples = batch()
    rule, apart = model.label_rule, torch.ones(1, 1, *SIZE, dtype=torch.bool)
    apart[..., ::4, ::4] = False
    for name, task in model.tasks.items():
        if name != 'depth':
            target = task.invalidate(samples[0].get(task.field).data[None], apart)[0]
            samples[0].get(task.field).data = target
    whole = type(rule).label

    class Sparse(type(rule)):
        def label(self, given, outputs, tasks):
            labels = whole(self, given, outputs, tasks)
            for name in set(labels) - {'depth'}:
                labels[name].target.masked_fill_(apart, 0)
            return labels

    rule.__class__ = Sparse
    losses = model.loss(images, samples)
    metas = [dict(ori_shape=SIZE, img_shape=SIZE, pad_shape=SIZE)] * 2
    with torch.no_grad():
        seen = model.tasks.split(model.creator.encode_decode(images, metas))
        own = model.tasks.split(model.exploiter.encode_decode(images, metas))
    for name in NAMES[:3]:
        p = (seen[name][1].double() / 2.0).softmax(0)
        expected = TASK_WEIGHTS[name] * slow(own[name], p, samples, model.tasks[name], weight)
        assert float(losses[f'decode.{name}.loss']) == pytest.approx(expected, rel=1e-4)
        assert float(losses[f'kept_share/{name}']) == pytest.approx(1 / 16)
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None for parameter in model.exploiter.parameters())


@pytest.mark.parametrize('kind', ['invpt', 'taskprompter'])
def test_probabilities_that_are_sure_are_the_classes(kind):
    """At a temperature near 0 soft labels are the hard ones, and so is the loss; divided by all pixels as well."""
    images, samples = batch()
    for divide_by in ('loss', 'all'):
        sharp = build(kind, label_rule=dict(type='TeacherLabel', soft=True, temperature=1e-9), divide_by=divide_by)
        hard, soft = build(kind, divide_by=divide_by).loss(images, samples), sharp.loss(images, samples)
        assert hard.keys() == soft.keys()
        for name, value in hard.items():
            assert math.isfinite(value)
            torch.testing.assert_close(soft[name], value, msg=lambda text, name=name: f'{name}: {text}')


def test_targets_of_which_some_are_probabilities():
    """Classes among probabilities are sure, unknown ones nothing; without any they stay integers."""
    task = TaskSet(tiny_taskprompter.TASKS['semantic_segmentation']).only
    first, second, bare = (*tiny_taskprompter.samples('semantic_segmentation', size=(4, 6)), type(batch()[1][0])())
    hard = first.gt_sem_seg.data
    assert stacked_targets(task, [first, second]).dtype == torch.int64
    p = torch.rand(5, 4, 6).softmax(0)
    second.gt_sem_seg.data = p
    found = stacked_targets(task, [first, second, bare], (4, 6))
    assert found.dtype == torch.float32 and found.shape == (3, 5, 4, 6)
    assert torch.equal(found[1], p) and not found[2].any()
    for y in range(4):
        for x in range(6):
            k = int(hard[0, y, x])
            assert found[0, :, y, x].tolist() == [float(k == each) for each in range(5)]


def test_stored_probabilities_are_those_of_the_classes_alone():
    """A sample's top-k map is of semantic segmentation; human parts keep the label that came along."""
    _, (_, sample) = batch()
    parts, p = sample.gt_human_parts.data.clone(), torch.rand(K, *SIZE).softmax(0)
    planes = torch.from_numpy(to_topk(p, K).astype('int32'))
    sample.set_data({FIELD: PixelData(data=planes)})
    tasks = TaskSet({name: tiny_taskprompter.TASKS[name] for name in NAMES})
    (found,), _ = labelled(GivenLabel(), None, torch.zeros(1, 3, *SIZE), [sample], tasks, SIZE)
    assert torch.equal(found.gt_human_parts.data, parts)
    torch.testing.assert_close(found.gt_sem_seg.data, p, atol=1e-4, rtol=0)
