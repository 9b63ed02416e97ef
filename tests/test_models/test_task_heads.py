"""Several tasks on one backbone: each as it would be alone; missing labels teach nothing; all of it wrapped."""

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_tasks import FIELDS, SIZE, TASKS, K, head, images, loss_of, samples, segmentor, wrapped

from mmdiff2in1.tasks import TaskSet

ALL = tuple(TASKS)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(segmentor(*ALL))


def alone(model, name):
    """The model of one of its tasks, with the same weights."""
    single = MODELS.build(segmentor(name))
    single.backbone.load_state_dict(model.backbone.state_dict())
    single.decode_head.load_state_dict(model.decode_head.heads[name].state_dict())
    return single


def test_losses_and_outputs_are_those_of_each_task_alone(model):
    together = model.train().loss(images(), samples(*ALL, synthetic=False))
    output = model.eval().encode_decode(images(), [dict(img_shape=SIZE, pad_shape=SIZE)] * 2)
    assert output.shape == (2, K + 1 + 3, *SIZE)
    parts = model.tasks.split(output)
    for name in ALL:
        single = alone(model, name)
        # One forward pass more has moved the running statistics, not the losses.
        for key, value in single.train().loss(images(), samples(name, synthetic=False)).items():
            torch.testing.assert_close(together[f'decode.{name}.{key.removeprefix("decode.")}'], value)
        single.backbone.load_state_dict(model.backbone.state_dict())
        single.decode_head.load_state_dict(model.decode_head.heads[name].state_dict())
        expected = single.eval().encode_decode(images(), [dict(img_shape=SIZE, pad_shape=SIZE)] * 2)
        torch.testing.assert_close(parts[name], expected)


def test_predictions_stand_under_the_names_of_their_tasks(model):
    found = model.eval().predict(images())
    for sample in found:
        assert sample.pred_sem_seg.data.shape == (1, *SIZE) and sample.pred_sem_seg.data.max() < K
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))
        assert sample.pred_depth_map.data.shape == (1, *SIZE)
        torch.testing.assert_close(sample.pred_normal_map.data.norm(dim=0), torch.ones(SIZE))


@pytest.mark.parametrize('missing', ALL)
def test_a_missing_label_teaches_nothing(model, missing):
    """Neither an error nor a zero: the losses of the other tasks are what they are, and the head gets no gradient."""
    others = [name for name in ALL if name != missing]
    losses = model.train().loss(images(), samples(*others, synthetic=False))
    whole = model.loss(images(), samples(*ALL, synthetic=False))
    for key, value in losses.items():
        if f'.{missing}.' not in key:
            torch.testing.assert_close(value, whole[key])
    model.zero_grad()
    loss_of(losses).backward()
    for name in ALL:
        gradients = [p.grad.abs().sum() for p in model.decode_head.heads[name].parameters() if p.grad is not None]
        assert (sum(gradients) == 0) == (name == missing)


def test_a_label_that_one_image_of_the_batch_has(model):
    """Depth is known of the first image alone: its loss is that of a batch where the second says 0 everywhere."""
    first, second = samples(*ALL, synthetic=False)
    second = SegDataSample(metainfo=second.metainfo)
    found = model.train().loss(images(), [first, second])
    zeros = samples('depth', synthetic=False)[1]
    zeros.gt_depth_map.data.zero_()
    expected = alone(model, 'depth').train().loss(images(), [samples('depth', synthetic=False)[0], zeros])
    torch.testing.assert_close(found['decode.depth.loss_silog'], expected['decode.loss_silog'])


def test_the_wrapper_labels_all_tasks_and_counts_each():
    model = wrapped(*ALL, normalize_by='real')
    batch = [samples(*ALL, synthetic=False)[0], SegDataSample(metainfo=dict(img_shape=(8, 24), synthetic=True))]
    losses = model.loss(images(), batch)
    assert {name for name in losses if 'loss' in name} == {
        f'{kind}/decode.{name}'
        for kind in ('real', 'synthetic')
        for name in ('semantic_segmentation.loss_ce', 'depth.loss_silog', 'normal.loss_cosine_normal')
    }
    # The lower half of the created image is padding.
    assert {name: float(v) for name, v in losses.items() if 'kept' in name} == {f'kept_share/{n}': 1.0 for n in ALL}
    loss_of(losses).backward()
    assert all(p.grad is not None for p in model.exploiter.parameters() if p.requires_grad)


def test_created_images_are_taught_what_the_creator_sees():
    """y' of every task is θ_C's output, split and turned into a label by the task."""
    model = wrapped(*ALL)
    seen = {}
    inner = model.exploiter.decode_head.loss_by_feat
    model.exploiter.decode_head.loss_by_feat = lambda outputs, batch: seen.update(batch=batch) or inner(outputs, batch)
    from mmdiff2in1.models.self_improving.labelling import labelled

    found, _ = labelled(model.label_rule, model.creator, images(), samples(), model.tasks, SIZE)
    output = model.creator.encode_decode(images(), [dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE)] * 2)
    for name, part in TaskSet(TASKS).split(output).items():
        target, _ = model.tasks[name].pseudo_label(part)
        for i, sample in enumerate(found):
            assert torch.equal(sample.get(FIELDS[name]).data, target[i])


def test_unlabelled_real_images_of_a_plain_mmseg_config_teach_nothing():
    model = wrapped('semantic_segmentation')
    labelled_one = samples('semantic_segmentation', synthetic=False)[0]
    bare = SegDataSample(metainfo=dict(img_shape=SIZE, synthetic=False))
    ignored = SegDataSample(metainfo=dict(img_shape=SIZE, synthetic=False))
    ignored.gt_sem_seg = PixelData(data=torch.full((1, *SIZE), 255))
    a, b = (model.loss(images(), [labelled_one, other])['decode.loss_ce'] for other in (bare, ignored))
    assert a == b


def test_segmentor_and_heads_must_name_the_same_tasks_in_the_same_order():
    """One behind the other, outputs of one size change places unseen."""
    config = segmentor(*ALL)
    config.task = {name: TASKS[name] for name in reversed(ALL)}
    with pytest.raises(ValueError, match='give both the same tasks in the same order'):
        MODELS.build(config)
    one = segmentor('depth')
    one.task = dict(depth=dict(type='Depth', max_depth=20.0))
    with pytest.raises(ValueError, match='give both the same tasks'):
        MODELS.build(one)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(heads={name: head(name) for name in ALL[:2]}), 'expected one for each of semantic_segmentation, depth'),
        (
            dict(heads={name: head(name) | (dict(num_classes=3) if name == ALL[0] else {}) for name in ALL}),
            'the head of semantic_segmentation puts out 3 channels',
        ),
    ],
)
def test_heads_that_do_not_fit_are_named(change, message):
    config = dict(type='TaskHeads', tasks=TASKS, heads={name: head(name) for name in ALL})
    with pytest.raises(ValueError, match=message):
        MODELS.build(config | change)
