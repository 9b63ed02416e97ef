"""`normalize_by='pooled'`: one mean over all pixels of a batch that count, real and synthetic, against slow references.

Image 0 is real, image 1 synthetic, 16 × 24; K = 4 classes. A rule of the test labels the first few columns of the
synthetic image with what came along.
"""

import math

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import TASK_UTILS
from tiny_tasks import FIELDS, SIZE, TASKS, K, images, loss_of, samples, segmentor, values

from mmdiff2in1.models import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving import Label, LabelRule
from mmdiff2in1.tasks import TaskSet

CE, KAPPA = dict(type='CrossEntropyLoss', avg_non_ignore=True), dict(type='SurfaceNormal', kappa=True)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@TASK_UTILS.register_module()
class FirstColumns(LabelRule):
    """The label that came along in the first columns, nothing elsewhere."""

    reads_outputs, reads_given = False, True

    def __init__(self, columns: int, soft: bool = False) -> None:
        self.columns, self.soft = columns, soft

    def label(self, given, outputs, tasks):
        labels = {}
        for name, target in given.items():
            left_out = torch.zeros_like(target[:, :1], dtype=torch.bool)
            left_out[..., self.columns :] = True
            if self.soft:
                target = F.one_hot(target[:, 0], K).permute(0, 3, 1, 2).float().masked_fill(left_out, 0)
            else:
                target = tasks[name].invalidate(target, left_out)
            labels[name] = Label(target)
        return labels


def model_of(name, columns=5, loss=None, soft=False, **settings):
    config = segmentor(name)
    if loss is not None:
        config.decode_head.loss_decode = loss
    if loss is not None and loss['type'] == 'AngularVMFLoss':
        config.task = dict(normal=KAPPA)
        config.decode_head.task = KAPPA
    torch.manual_seed(0)
    rule = dict(type='FirstColumns', columns=columns, soft=soft)
    return SelfImprovingSegmentor(config, label_rule=rule, normalize_by='pooled', **settings).train()


def batch_of(name):
    """A real and a synthetic sample with other labels; the last rows of the real one are not known."""
    real, synthetic = samples(name, synthetic=False)[0], samples(name)[0]
    task = TaskSet(TASKS[name]).only
    unknown = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    unknown[..., 12:, :] = True
    real.set_data({FIELDS[name]: PixelData(data=task.invalidate(values(name)[None], unknown)[0])})
    synthetic.set_data({FIELDS[name]: PixelData(data=values(name).roll(3, 1).flip(-1))})
    return [real, synthetic]


def output_of(model):
    """(2, C, H, W) in float64, for one call: batch statistics are those of the batch."""
    with torch.no_grad():
        raw = model.exploiter.decode_head(model.exploiter.extract_feat(images()))
        if hasattr(model.exploiter.decode_head, 'task'):
            raw = model.tasks.only.activate(raw)
        return F.interpolate(raw, SIZE, mode='bilinear', align_corners=False).double()


def pixels(name, columns):
    """(image, row, column) of those that count."""
    real = [(0, y, x) for y in range(12) for x in range(SIZE[1])]
    return real + [(1, y, x) for y in range(SIZE[0]) for x in range(columns)]


def cross_entropy(output, target):
    return math.log(sum(math.exp(value) for value in output.tolist())) - float(output[int(target)])


def cosine(output, target):
    return 1 - float(output @ target.double() / output.norm())


def vmf(output, target):
    cos, kappa = float(output[:3] @ target.double() / output[:3].norm()), float(output[3])
    if abs(cos) >= 0.999:
        return None
    return -math.log(kappa**2 + 1) + kappa * math.acos(cos) + math.log(1 + math.exp(-kappa * math.pi))


MEANS = [
    ('semantic_segmentation', CE, cross_entropy),
    ('normal', dict(type='CosineNormalLoss'), cosine),
    ('normal', dict(type='AngularVMFLoss'), vmf),
]


@pytest.mark.parametrize(('name', 'loss', 'of_pixel'), MEANS)
@pytest.mark.parametrize('weight', [1.0, 0.3, 0.0])
def test_the_mean_over_the_pixels_that_count(name, loss, of_pixel, weight):
    """Σ w l / Σ w; with a weight, cross-entropy is divided so when asked: mmseg's own does not divide by weights."""
    divide_by = 'loss' if weight == 1 else 'counted'
    model, batch = model_of(name, loss=loss, synthetic_weight=weight, divide_by=divide_by), batch_of(name)
    found, output = loss_of(model.loss(images(), batch)), output_of(model)
    total = count = 0.0
    for b, y, x in pixels(name, 5):
        value = of_pixel(output[b, :, y, x], batch[b].get(FIELDS[name]).data[:, y, x])
        if value is not None:
            factor = weight if b == 1 else 1.0
            total, count = total + factor * value, count + factor
    assert found.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize('weight', [1.0, 0.3])
def test_one_root_over_the_depths_of_the_batch(weight):
    """VPD's SILog: both of its means run over the pool."""
    model, batch = model_of('depth', synthetic_weight=weight), batch_of('depth')
    found, output = loss_of(model.loss(images(), batch)), output_of(model)
    errors = [
        (weight if b == 1 else 1.0, math.log(batch[b].gt_depth_map.data[0, y, x]) - math.log(output[b, 0, y, x]))
        for b, y, x in pixels('depth', 5)
    ]
    count = sum(w for w, _ in errors)
    mean = sum(w * d for w, d in errors) / count
    squared = sum(w * d**2 for w, d in errors) / count
    assert float(found) == pytest.approx(math.sqrt(squared - 0.5 * mean**2), rel=1e-4)


def test_losses_that_divide_by_all_pixels_do_so_over_the_pool():
    """mmseg's cross-entropy as it is: the sum over what counts, divided by all pixels of both images."""
    plain, counted = (
        loss_of(model_of('semantic_segmentation', loss=loss).loss(images(), batch_of('semantic_segmentation')))
        for loss in (dict(type='CrossEntropyLoss'), CE)
    )
    torch.testing.assert_close(plain, counted * (12 * 24 + 16 * 5) / (2 * 16 * 24))


def gradients(model, loss):
    model.exploiter.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.exploiter.parameters()])


@pytest.mark.parametrize(
    ('name', 'loss', 'divide_by'),
    [(name, loss, 'loss') for name, loss, _ in MEANS]
    + [('depth', dict(type='ScaleInvariantLogLoss'), 'loss'), ('semantic_segmentation', None, 'counted')],
)
def test_where_no_synthetic_pixel_counts_the_gradient_is_that_of_the_real_part(name, loss, divide_by):
    """A mean of each kind, r / (r + s) of the real one, cuts it in half here."""
    model, batch = model_of(name, columns=0, loss=loss, divide_by=divide_by), batch_of(name)
    pool = gradients(model, loss_of(model.loss(images(), batch)))
    head = model.exploiter.decode_head
    real = head(model.exploiter.extract_feat(images()))[:1]
    kinds = head.loss_by_feat(real, batch[:1])
    if divide_by == 'counted':  # mmseg's own divides by ignored pixels too
        kinds = {name: value * (16 / 12) if 'loss' in name else value for name, value in kinds.items()}
    torch.testing.assert_close(pool, gradients(model, loss_of(kinds)), rtol=1e-4, atol=1e-7)
    if divide_by == 'loss':
        model.normalize_by = 'batch'
        apart = gradients(model, loss_of(model.loss(images(), batch)))
        torch.testing.assert_close(apart, pool / 2, rtol=1e-4, atol=1e-7)


def test_few_synthetic_pixels_weigh_as_many_pixels():
    """One column of 16 pixels beside 12 rows of 24: 16 / 304 of the pool, half of the loss where kinds are apart."""
    model, batch = model_of('normal', columns=1), batch_of('normal')
    pool = loss_of(model.loss(images(), batch))
    model.normalize_by = 'batch'
    parts = model.loss(images(), batch)
    real, synthetic = (2 * parts[f'{kind}/decode.loss_cosine_normal'] for kind in ('real', 'synthetic'))
    torch.testing.assert_close(pool, (288 * real + 16 * synthetic) / 304)


@pytest.mark.parametrize('weight', [1.0, 0.3])
def test_probabilities_beside_labels_of_real_images(weight):
    """A rule's soft labels of certainty are its hard ones; real labels become as soft."""
    hard, soft = (
        model_of('semantic_segmentation', soft=soft, divide_by='counted', synthetic_weight=weight).loss(
            images(), batch_of('semantic_segmentation')
        )['decode.loss_ce']
        for soft in (False, True)
    )
    torch.testing.assert_close(hard, soft)


def test_several_tasks_have_a_pool_each():
    torch.manual_seed(0)
    rule = dict(type='FirstColumns', columns=5)
    model = SelfImprovingSegmentor(segmentor(*TASKS), label_rule=rule, normalize_by='pooled').train()
    batch = samples(*TASKS)
    batch[0].set_metainfo(dict(synthetic=False))
    del batch[0].gt_depth_map  # the real image has no depth
    losses = model.loss(images(), batch)
    assert {name for name in losses if 'loss' in name} == {
        'decode.semantic_segmentation.loss_ce', 'decode.depth.loss_silog', 'decode.normal.loss_cosine_normal'
    }  # fmt: skip
    for name in TASKS:
        assert losses[f'kept_share/{name}'].item() == pytest.approx(5 / 24)
    model.normalize_by = 'batch'
    alone = 2 * model.loss(images(), batch)['synthetic/decode.depth.loss_silog']
    torch.testing.assert_close(losses['decode.depth.loss_silog'], alone)


def test_weights_a_loss_cannot_take_are_refused_by_name():
    from mmseg.registry import MODELS

    @MODELS.register_module(force=True)
    class Unweighted(torch.nn.Module):
        loss_name = 'loss_unweighted'

        def forward(self, output, target):
            return (output - target).abs().mean()

    model = model_of('depth', loss=dict(type='Unweighted'), synthetic_weight=0.5)
    with pytest.raises(
        ValueError, match='Unweighted takes no weight per pixel.*synthetic_weight=1 where normalize_by='
    ):
        model.loss(images(), batch_of('depth'))
    model.synthetic_weight = 1.0
    assert loss_of(model.loss(images(), batch_of('depth'))) > 0
