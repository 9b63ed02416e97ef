"""The losses of multi-task heads, each against a loop over pixels; weights, guards, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmdiff2in1.models.losses import BalancedCrossEntropyLoss, EdgeLoss, PixelCrossEntropyLoss
from mmdiff2in1.models.multitask import task_loss
from mmdiff2in1.tasks import Depth, Edges, HumanParts, Saliency, SemanticSegmentation, SurfaceNormal

B, H, W = 2, 3, 5
TASKS = [SemanticSegmentation(4), HumanParts(), Saliency(), Edges(), SurfaceNormal(), Depth()]
IDS = [task.name for task in TASKS]


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def target_of(task):
    noise = random(1, B, task.target_channels, H, W)
    if task.num_classes:
        target = (noise.abs() * 97).long() % task.num_classes
    elif isinstance(task, Edges):
        target = noise.sigmoid()
    else:
        target = noise.abs() if isinstance(task, Depth) else F.normalize(noise, dim=1) * 0.9
    return task.invalidate(target, random(2, B, 1, H, W) > 0.8)


def pixels(output, target, weight, task):
    """(output C floats, target c floats, weight) of the pixels that say something."""
    for b in range(B):
        for y in range(H):
            for x in range(W):
                if task.valid(target)[b, 0, y, x]:
                    yield output[b, :, y, x].tolist(), target[b, :, y, x].tolist(), float(weight[b, 0, y, x])


def reference(task, output, target, weight):
    found = list(pixels(output, target, weight, task))
    total = sum(w for *_, w in found)
    share = sum(w for _, t, w in found if t == [0]) / total

    def loss(out, t):
        if task.num_classes:
            probability = math.exp(out[t[0]]) / sum(math.exp(v) for v in out)
            balance = {0: 1 - share, 1: share}[t[0]] if isinstance(task, Saliency) else 1
            return -balance * math.log(probability)
        if isinstance(task, Edges):
            p = 1 / (1 + math.exp(-out[0]))
            return -0.95 * t[0] * math.log(p) - 0.05 * (1 - t[0]) * math.log(1 - p)
        length = math.hypot(*out) if isinstance(task, SurfaceNormal) else 1
        return sum(abs(o / length - v) for o, v in zip(out, t, strict=True))

    return sum(w * loss(out, t) for out, t, w in found) / total


@pytest.mark.parametrize('task', TASKS, ids=IDS)
def test_a_loop_over_pixels(task):
    output, target = random(0, B, task.channels, H, W), target_of(task)
    ones = torch.ones(B, 1, H, W)
    assert 0 < int(task.valid(target).sum()) < B * H * W
    assert float(task_loss(task, output, target)) == pytest.approx(reference(task, output, target, ones), rel=1e-6)
    weight = random(3, B, 1, H, W).abs() * (random(4, B, 1, H, W) > -0.5)
    expected = reference(task, output, target, weight)
    assert float(task_loss(task, output, target, weight)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('task', TASKS, ids=IDS)
def test_nothing_known_teaches_nothing(task):
    output = random(0, B, task.channels, H, W).requires_grad_()
    target = torch.stack([task.unknown_target((H, W))] * B)
    loss = task_loss(task, output, target)
    loss.backward()
    assert loss == 0 and torch.equal(output.grad, torch.zeros_like(output))
    for weight in (None, torch.zeros(B, 1, H, W)):
        assert task_loss(task, output, target_of(task) if weight is not None else target, weight) == 0


@pytest.mark.parametrize('task', TASKS, ids=IDS)
def test_unknown_pixels_and_weightless_ones_get_no_gradient(task):
    output, target = random(0, B, task.channels, H, W).requires_grad_(), target_of(task)
    weight = (random(5, B, 1, H, W) > 0).float()
    task_loss(task, output, target, weight).backward()
    taught = (task.valid(target) & (weight > 0)).expand_as(output)
    assert (output.grad[~taught] == 0).all() and output.grad[taught].abs().sum() > 0


def test_half_precision_counts_in_single():
    for task in TASKS:
        output, target = random(0, B, task.channels, H, W), target_of(task)
        target = target if task.num_classes else target.float()
        found = task_loss(task, output.half(), target)
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(float(task_loss(task, output, target)), rel=2e-2)


def test_class_probabilities_are_targets_too():
    for task in (SemanticSegmentation(4), Saliency()):
        output, target = random(0, B, task.channels, H, W), target_of(task)
        valid = task.valid(target)
        sure = F.one_hot(target[:, 0].where(valid[:, 0], 0), task.num_classes).movedim(-1, 1) * valid
        assert float(task_loss(task, output, sure.float())) == pytest.approx(float(task_loss(task, output, target)))
        with pytest.raises(ValueError, match='expected'):
            task_loss(task, output, sure)


def test_one_logit_is_two_classes():
    task = SemanticSegmentation(2, threshold=0.5)
    output, target = random(0, B, 1, H, W), target_of(SemanticSegmentation(2))
    valid = target != 255
    expected = F.binary_cross_entropy_with_logits(output[valid], target[valid].double())
    assert float(task_loss(task, output, target)) == pytest.approx(float(expected))


def test_a_task_without_a_published_loss_has_its_own():
    task = SurfaceNormal(kappa=True)
    output, target = random(0, B, 4, H, W), target_of(SurfaceNormal())
    from mmdiff2in1.models.losses import AngularVMFLoss

    assert float(task_loss(task, output, target)) == pytest.approx(
        float(AngularVMFLoss()(task.activate(output), target))
    )


def test_refusals():
    with pytest.raises(ValueError, match=r'found logits \(2, 3, 3, 5\), expected \(B, 2'):
        BalancedCrossEntropyLoss()(torch.zeros(2, 3, 3, 5), torch.zeros(2, 1, 3, 5))
    with pytest.raises(ValueError, match='expected'):
        PixelCrossEntropyLoss()(torch.zeros(2, 3, 3, 5), torch.zeros(2, 1, 4, 5, dtype=torch.long))
    with pytest.raises(ValueError, match='edge_share=1'):
        EdgeLoss(edge_share=1)
    with pytest.raises(ValueError, match='EdgeLoss: found logits'):
        EdgeLoss()(torch.zeros(1, 2, 3, 5), torch.zeros(1, 1, 3, 5))
