"""Label rules, weights per pixel, and what losses are divided by: closed forms, on real mmseg heads.

Two created images of 16 × 24; K = 4 classes; the label of every other column is left out.
"""

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmseg.models.decode_heads import FCNHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS, TASK_UTILS
from tiny_tasks import SIZE, TASKS, K, images, loss_of, samples, segmentor, values, wrapped

from mmdiff2in1.models import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving import Label, LabelRule, TeacherLabel
from mmdiff2in1.tasks import TaskSet


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@TASK_UTILS.register_module()
class EveryOtherColumn(LabelRule):
    """A rule of the test, in a file of its own: the labels that came along, in even columns, with one weight."""

    reads_outputs, reads_given = False, True

    def __init__(self, weight: float | None = None, soft: bool = False) -> None:
        self.weight, self.soft = weight, soft

    def label(self, given, outputs, tasks):
        labels = {}
        for name, target in given.items():
            left_out = torch.zeros_like(target[:, :1], dtype=torch.bool)
            left_out[..., 1::2] = True
            hard = tasks[name].invalidate(target, left_out)
            if self.soft and name == 'semantic_segmentation':
                one_hot = F.one_hot(target[:, 0], K).permute(0, 3, 1, 2).float()
                hard = one_hot.masked_fill(left_out, 0)
            weight = None if self.weight is None else torch.full(left_out.shape, self.weight)
            labels[name] = Label(hard, weight)
        return labels


@MODELS.register_module()
class HeadThatTakesItsOwnTargets(FCNHead):
    """As PointRend's or Mask2Former's."""

    def loss(self, inputs, batch_data_samples, train_cfg):
        target = torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples])[:, 0].long()
        logits = resize(self.forward(inputs), target.shape[1:], mode='bilinear')
        return dict(loss_own=F.cross_entropy(logits, target, ignore_index=255))


@pytest.mark.parametrize('normalize_by', ['batch', 'pooled'])
def test_probabilities_and_a_head_with_a_loss_of_its_own(normalize_by):
    config = segmentor('semantic_segmentation')
    config.decode_head.type = 'HeadThatTakesItsOwnTargets'
    mixed = samples('semantic_segmentation')
    mixed[1].set_metainfo(dict(synthetic=False))
    settings = dict(segmentor=config, normalize_by=normalize_by)
    assert loss_of(SelfImprovingSegmentor(**settings).train().loss(images(), mixed)) > 0
    soft = SelfImprovingSegmentor(**settings, label_rule=dict(type='TeacherLabel', soft=True)).train()
    with pytest.raises(ValueError, match=r'HeadThatTakesItsOwnTargets has a loss of its own, .*soft=False'):
        soft.loss(images(), mixed)


def every_other(**settings):
    return dict(type='EveryOtherColumn', **settings)


@pytest.mark.parametrize('name', list(TASKS))
def test_what_a_loss_is_divided_by_means_the_same_for_every_task(name):
    """Half of the pixels count: divided by all, the loss is half of what it is divided by those."""
    found = {
        divide_by: loss_of(wrapped(name, label_rule=every_other(), divide_by=divide_by).loss(images(), samples(name)))
        for divide_by in ('loss', 'counted', 'all')
    }
    torch.testing.assert_close(found['all'], found['counted'] / 2)
    # Of their own, mmseg's losses divide by all pixels and ours by those that count.
    torch.testing.assert_close(found['loss'], found['all' if name == 'semantic_segmentation' else 'counted'])


@pytest.mark.parametrize('name', list(TASKS))
def test_one_weight_for_all_pixels_cancels_in_a_mean_and_scales_what_is_divided_by_all(name):
    def loss(weight, divide_by):
        model = wrapped(name, label_rule=every_other(weight=weight), divide_by=divide_by)
        return loss_of(model.loss(images(), samples(name)))

    torch.testing.assert_close(loss(0.3, 'counted'), loss(None, 'counted'))
    torch.testing.assert_close(loss(0.3, 'all'), 0.3 * loss(None, 'all'))
    nothing = loss(0.0, 'counted')
    assert nothing == 0 and nothing.requires_grad


def test_weights_are_those_of_a_slow_loop():
    """Cross-entropy, pixel by pixel, with a weight of its own for each."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.rand(2, 1, *SIZE, generator=generator)

    class Random(EveryOtherColumn):
        def label(self, given, outputs, tasks):
            labels = super().label(given, outputs, tasks)
            return {name: Label(label.target, weights) for name, label in labels.items()}

    model = wrapped('semantic_segmentation', label_rule=Random(), divide_by='counted')
    found = model.loss(images(), samples('semantic_segmentation'))['synthetic/decode.loss_ce']
    with torch.no_grad():
        logits = model.exploiter.decode_head(model.exploiter.extract_feat(images()))
        log_p = resize(logits, SIZE, mode='bilinear', align_corners=False).log_softmax(1)
    total = count = 0.0
    target = values('semantic_segmentation')[0]
    for b in range(2):
        for y in range(SIZE[0]):
            for x in range(0, SIZE[1], 2):
                total += float(weights[b, 0, y, x] * -log_p[b, target[y, x], y, x])
                count += float(weights[b, 0, y, x])
    assert float(found) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='CrossEntropyLoss'),
        dict(type='CrossEntropyLoss', avg_non_ignore=True),
        dict(type='CrossEntropyLoss', class_weight=[0.5, 2.0, 1.0, 3.0]),
        dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
        [dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss', loss_weight=0.3, avg_non_ignore=True)],
    ],
)
@pytest.mark.parametrize('sampler', [None, dict(type='OHEMPixelSampler', thresh=0.3, min_kept=20)])
def test_a_weight_of_one_changes_nothing_where_each_loss_divides_by_itself(loss, sampler):
    name, found = 'semantic_segmentation', []
    for weight in (None, 1.0, 0.5):
        config = segmentor(name)
        config.decode_head.update(loss_decode=loss, sampler=sampler)
        torch.manual_seed(0)
        model = SelfImprovingSegmentor(config, label_rule=every_other(weight=weight)).train()
        found.append(float(loss_of(model.loss(images(), samples(name)))))
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[2] == pytest.approx(found[0] / 2, rel=1e-6)


def test_a_head_that_wraps_another_is_weighted_as_that_one():
    name, found = 'semantic_segmentation', []
    for wraps in (False, True):
        config = segmentor(name)
        if wraps:
            config.decode_head = dict(type='GenerativeDecodeHead', head=config.decode_head)
        torch.manual_seed(0)
        model = SelfImprovingSegmentor(config, label_rule=every_other(weight=0.5), divide_by='all').train()
        found.append(loss_of(model.loss(images(), samples(name))))
    assert found[0] == found[1] > 0


def test_certain_probabilities_are_hard_labels():
    hard, soft = (
        wrapped('semantic_segmentation', label_rule=every_other(soft=soft), divide_by='counted').loss(
            images(), samples('semantic_segmentation')
        )
        for soft in (False, True)
    )
    torch.testing.assert_close(hard['synthetic/decode.loss_ce'], soft['synthetic/decode.loss_ce'])
    key = 'kept_share/semantic_segmentation'
    assert hard[key] == soft[key] == 0.5


def test_real_samples_are_not_touched_by_rule_weight_or_divisor():
    batch = [samples('depth', synthetic=False)[0], samples('depth')[0]]
    plain, weighted = (
        wrapped('depth', normalize_by='real', **settings).loss(images(), batch)
        for settings in (dict(), dict(label_rule=every_other(weight=0.5), divide_by='all'))
    )
    assert plain['real/decode.loss_silog'] == weighted['real/decode.loss_silog']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(loss_decode=dict(type='LovaszLoss', per_image=True)), 'LovaszLoss gives no loss per pixel'),
        (dict(type='OwnLossByFeat'), 'OwnLossByFeat computes its losses in a way of its own'),
        (dict(loss_decode=dict(type='TverskyLoss')), 'TverskyLoss gives no loss per pixel'),
    ],
)
def test_what_cannot_be_weighted_is_refused_by_name(change, message):
    from mmseg.models.decode_heads import FCNHead
    from mmseg.registry import MODELS

    @MODELS.register_module(force=True)
    class OwnLossByFeat(FCNHead):
        def loss_by_feat(self, seg_logits, batch_data_samples):
            return super().loss_by_feat(seg_logits, batch_data_samples)

    config = segmentor('semantic_segmentation')
    config.decode_head.update(change)
    model = SelfImprovingSegmentor(config, label_rule=every_other(weight=0.5)).train()
    with pytest.raises(ValueError, match=message):
        model.loss(images(), samples('semantic_segmentation'))
    # Without weights it goes through as ever.
    loss_of(
        SelfImprovingSegmentor(config, label_rule=every_other())
        .train()
        .loss(images(), samples('semantic_segmentation'))
    )


def test_a_continuous_loss_that_takes_no_weight_is_refused_by_name():
    from mmseg.registry import MODELS

    @MODELS.register_module(force=True)
    class Unweighted(torch.nn.Module):
        loss_name = 'loss_unweighted'

        def forward(self, output, target):
            return (output - target).abs().mean()

    config = segmentor('depth')
    config.decode_head.loss_decode = dict(type='Unweighted')
    SelfImprovingSegmentor(config, label_rule=every_other()).train().loss(images(), samples('depth'))
    with pytest.raises(ValueError, match=r'Unweighted takes no weight per pixel: forward\(output, target, weight'):
        SelfImprovingSegmentor(config, label_rule=every_other(weight=0.5)).train().loss(images(), samples('depth'))


def test_a_binary_head_learns_nothing_where_nothing_is_sure():
    """mmseg's binary cross-entropy stops at a batch without a known pixel."""
    config = segmentor('semantic_segmentation')
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    config.decode_head.update(num_classes=2, out_channels=1, threshold=0.5, loss_decode=loss)
    model = SelfImprovingSegmentor(config, min_confidence=1.0).train()
    losses = model.loss(images(), samples('semantic_segmentation'))
    assert losses['kept_share/semantic_segmentation'] == 0 and losses['synthetic/decode.loss_ce'] == 0
    losses['synthetic/decode.loss_ce'].backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.exploiter.decode_head.parameters())


def test_the_two_short_forms_are_rules():
    name = 'semantic_segmentation'
    for short, rule in (
        (dict(min_confidence=0.4), dict(type='TeacherLabel', min_confidence=0.4)),
        (dict(use_stored_labels=True), dict(type='GivenLabel')),
    ):
        a, b = (wrapped(name, **settings).loss(images(), samples(name)) for settings in (short, dict(label_rule=rule)))
        assert {k: float(v) for k, v in a.items()} == {k: float(v) for k, v in b.items()}
    with pytest.raises(ValueError, match='drop all but one'):
        wrapped(name, min_confidence=0.4, label_rule=dict(type='GivenLabel'))
    with pytest.raises(ValueError, match="Unknown divide_by='some'; known: loss, counted, all"):
        wrapped(name, divide_by='some')


def test_a_confidence_by_task():
    tasks = TaskSet(TASKS)
    TeacherLabel(dict(semantic_segmentation=0.5)).check(tasks)
    TeacherLabel(0.5).check(tasks)  # of those that have one
    with pytest.raises(ValueError, match="min_confidence names 'depth'; the tasks with a confidence are semantic"):
        TeacherLabel(dict(depth=0.5)).check(tasks)
    with pytest.raises(ValueError, match='gives no confidence'):
        TeacherLabel(0.5).check(TaskSet(TASKS['depth']))
    model = wrapped(*TASKS, label_rule=dict(type='TeacherLabel', min_confidence=dict(semantic_segmentation=1.0)))
    shares = {name: float(v) for name, v in model.loss(images(), samples()).items() if 'kept' in name}
    assert shares == {
        'kept_share/semantic_segmentation': 0.0, 'kept_share/depth': 1.0, 'kept_share/normal': 1.0,
    }  # fmt: skip
