"""A rule and a weight for each task of one model: closed forms, with InvPT, TaskPrompter and plain heads.

Image 0 is real, image 1 created. Batch norms stand still (eval mode), so that an image's outputs are its own.
"""

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import tiny_invpt
import tiny_taskprompter
import tiny_tasks
import torch
from mmengine.registry import DefaultScope

from mmdiff2in1.models import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving import GivenLabel, RulePerTask, TeacherLabel
from mmdiff2in1.tasks import TaskSet

OWN_LAYERS = dict(invpt='outputs.{}.', taskprompter='branches.{}.', heads='heads.{}.')
"""Layers of a decode head that only one task has, and that no other task's output goes through."""
KEPT = dict(invpt='saliency', taskprompter='saliency', heads='normal')


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def config(kind):
    if kind == 'heads':
        return tiny_tasks.segmentor(*tiny_tasks.TASKS)
    return tiny_invpt.segmentor() if kind == 'invpt' else tiny_taskprompter.segmentor()


def still(kind, **settings):
    torch.manual_seed(0)
    divide_by = 'counted' if kind == 'heads' else 'loss'  # mmseg's own loss divides by the pixels of all images
    model = SelfImprovingSegmentor(config(kind), **dict(normalize_by='pooled', divide_by=divide_by) | settings)
    # An untrained θ_C sees one class everywhere, and θ_E agrees with it.
    tiny_taskprompter.stirred(model.creator, seed=1)
    tiny_taskprompter.stirred(model.exploiter.eval(), seed=2)
    return model


def batch(kind, synthetic=(False, True)):
    """Images and samples with labels of their own."""
    if kind == 'heads':
        images, samples = tiny_tasks.images(), tiny_tasks.samples(*tiny_tasks.TASKS)
    elif kind == 'invpt':
        images, samples = torch.randn(2, 3, 64, 128, generator=torch.Generator().manual_seed(1)), tiny_invpt.samples()
    else:
        images, samples = tiny_taskprompter.images(), tiny_taskprompter.samples()
    for sample, created in zip(samples, synthetic, strict=True):
        sample.set_metainfo(dict(synthetic=created))
    return images, samples


def of_task(losses, task, kind=''):
    """Values by name, of one task and kind of samples."""
    return {
        name.removeprefix(kind): value
        for name, value in losses.items()
        if 'loss' in name and f'.{task}.' in name and name.startswith(kind)
    }


def kept_real(kind, **settings):
    return still(kind, label_rule=dict(type='RulePerTask', rules={KEPT[kind]: None}), **settings)


@pytest.mark.parametrize('kind', KEPT)
@pytest.mark.parametrize('normalize_by', ['pooled', 'real'])
def test_a_task_that_is_kept_has_the_loss_of_the_real_image_alone(kind, normalize_by):
    model, (images, samples) = kept_real(kind, normalize_by=normalize_by), batch(kind)
    kept, prefix = KEPT[kind], 'real/' if normalize_by == 'real' else ''
    losses = model.loss(images, samples)
    alone = model.exploiter.loss(images[:1], samples[:1])
    found = of_task(losses, kept, prefix)
    assert set(found) == set(of_task(alone, kept))
    for name, value in found.items():
        torch.testing.assert_close(value, alone[name])
    assert all(value == 0 for value in of_task(losses, kept, 'synthetic/').values())
    taught = still(kind, normalize_by=normalize_by).loss(images, samples)
    for task in model.tasks:
        assert (f'kept_share/{task}' in losses) == (task != kept)
        for name, value in of_task(losses, task).items():
            assert torch.equal(value, taught[name]) == (task != kept or name.startswith('real/')), name


@pytest.mark.parametrize('kind', KEPT)
@pytest.mark.parametrize('normalize_by', ['pooled', 'batch'])
def test_a_created_image_teaches_the_heads_of_the_other_tasks_alone(kind, normalize_by):
    model, (images, samples) = kept_real(kind, normalize_by=normalize_by), batch(kind, synthetic=(True, True))
    losses = model.loss(images, samples)
    torch.stack([value for name, value in losses.items() if 'loss' in name]).sum().backward()
    layers = dict(model.exploiter.decode_head.named_parameters())
    for task in model.tasks:
        start = OWN_LAYERS[kind].format(task)
        gradients = [parameter.grad for name, parameter in layers.items() if name.startswith(start)]
        # Every parameter has one, as processes that train together need it.
        assert gradients and all(each is not None for each in gradients)
        assert any(bool(each.any()) for each in gradients) == (task != KEPT[kind])


@pytest.mark.parametrize('kind', KEPT)
def test_each_task_has_its_rule(kind):
    """Depth as the label that came along has it, the others as θ_C sees them."""
    (images, samples) = batch(kind, synthetic=(True, True))
    model = still(kind, label_rule=dict(type='RulePerTask', rules=dict(depth=dict(type='GivenLabel'))))
    assert model.label_rule.reads_outputs and model.label_rule.reads_given
    found = model.loss(images, samples)
    given = still(kind, label_rule=dict(type='GivenLabel')).loss(images, samples)
    seen = still(kind).loss(images, samples)
    for task in model.tasks:
        for name, value in of_task(found, task).items():
            torch.testing.assert_close(value, (given if task == 'depth' else seen)[name])
    assert found['decode.depth.loss' if kind != 'heads' else 'decode.depth.loss_silog'] > 0


@pytest.mark.parametrize('kind', KEPT)
@pytest.mark.parametrize('normalize_by', ['batch', 'real'])
def test_weights_by_task_where_kinds_are_apart(kind, normalize_by):
    weights = {'depth': 0.25, 'semantic_segmentation': 0.0}
    images, samples = batch(kind)
    plain = still(kind, normalize_by=normalize_by).loss(images, samples)
    found = still(kind, normalize_by=normalize_by, synthetic_weight=weights).loss(images, samples)
    assert set(found) == set(plain)
    for task in TaskSet(config(kind).task):
        for name, value in of_task(plain, task, 'synthetic/').items():
            torch.testing.assert_close(found[f'synthetic/{name}'], weights.get(task, 1.0) * value)
        for name, value in of_task(plain, task, 'real/').items():
            assert torch.equal(found[f'real/{name}'], value)


@pytest.mark.parametrize('kind', KEPT)
def test_weights_by_task_in_a_pool(kind):
    """Depth: (N_r L_r + w N_s L_s) / (N_r + w N_s), of the images' own means; other tasks as without."""
    w, rule = 0.25, dict(type='GivenLabel')
    images, samples = batch(kind)
    model = still(kind, label_rule=rule, synthetic_weight=dict(normal=w))
    found, plain = model.loss(images, samples), still(kind, label_rule=rule).loss(images, samples)
    counts = [float(model.tasks['normal'].valid(sample.gt_normal_map.data[None]).sum()) for sample in samples]
    alone = [model.exploiter.loss(images[i : i + 1], samples[i : i + 1]) for i in range(2)]
    for name, value in of_task(found, 'normal').items():
        real, created = (each[name] for each in alone)
        expected = (counts[0] * real + w * counts[1] * created) / (counts[0] + w * counts[1])
        torch.testing.assert_close(value, expected)
    for task in set(model.tasks) - {'normal'}:
        assert all(torch.equal(value, plain[name]) for name, value in of_task(found, task).items())


@pytest.mark.parametrize('kind', ['invpt', 'taskprompter'])
def test_a_confidence_by_task_of_one_head_for_all(kind):
    """The share that is kept of each task is that of its own confidence; saliency has none asked for."""
    images, samples = batch(kind, synthetic=(True, True))
    least = dict(semantic_segmentation=0.4, human_parts=0.6)
    model = still(kind, label_rule=dict(type='TeacherLabel', min_confidence=least))
    losses, size = model.loss(images, samples), tuple(images.shape[-2:])
    metas = [dict(ori_shape=size, img_shape=size, pad_shape=size)] * 2
    with torch.no_grad():
        seen = model.tasks.split(model.creator.encode_decode(images, metas))
    for task, number in least.items():
        share = (seen[task].softmax(1).amax(1) >= number).float().mean()
        torch.testing.assert_close(losses[f'kept_share/{task}'], share)
        assert 0 < share < 1
    assert losses['kept_share/saliency'] == 1


def test_what_does_not_fit_is_refused():
    def model(*names, **settings):
        return SelfImprovingSegmentor(tiny_tasks.segmentor(*names), **settings)

    def rule(**settings):
        return dict(type='RulePerTask', **settings)

    both = ('semantic_segmentation', 'depth')
    with pytest.raises(ValueError, match='RulePerTask names saliency; the tasks are semantic_segmentation, depth'):
        model(*both, label_rule=rule(rules=dict(saliency=None)))
    with pytest.raises(ValueError, match='no rule for any of depth: created images would teach nothing'):
        model('depth', label_rule=rule(rules=dict(depth=None)))
    with pytest.raises(ValueError, match='no rule for any of semantic_segmentation, depth'):
        model(*both, label_rule=rule(rules={}, default=None))
    with pytest.raises(ValueError, match='gives no confidence'):
        model(*both, label_rule=rule(rules=dict(depth=dict(type='TeacherLabel', min_confidence=0.5))))
    with pytest.raises(ValueError, match=r'look at the images in different ways.*default=None'):
        RulePerTask(dict(depth=dict(type='TeacherLabel', mirrored=True)))
    with pytest.raises(ValueError, match='synthetic_weight names saliency; the tasks are semantic_segmentation, depth'):
        model(*both, synthetic_weight=dict(saliency=0.0))
    with pytest.raises(ValueError, match='synthetic_weight=-1.0: expected a finite number'):
        model(*both, synthetic_weight=dict(depth=-1.0))


def test_of_one_task_it_is_that_rule():
    name = 'depth'
    images, samples = tiny_tasks.images(), tiny_tasks.samples(name)
    rules = (TeacherLabel(), RulePerTask({}), RulePerTask(dict(depth=TeacherLabel()), default=None))
    losses = [tiny_tasks.wrapped(name, label_rule=rule).loss(images, samples) for rule in rules]
    assert losses[0].keys() == losses[1].keys() == losses[2].keys()
    assert all(losses[0][key] == losses[1][key] == losses[2][key] for key in losses[0])
    weighted = tiny_tasks.wrapped(name, synthetic_weight=dict(depth=0.5)).loss(images, samples)
    torch.testing.assert_close(weighted['synthetic/decode.loss_silog'], 0.5 * losses[0]['synthetic/decode.loss_silog'])


def test_what_is_looked_at():
    assert not RulePerTask(dict(depth=GivenLabel()), default=None).reads_outputs
    assert not RulePerTask(dict(depth=None)).reads_given
    teacher = dict(config='a.py', checkpoint='a.pth')
    rule = RulePerTask(dict(depth=dict(type='GivenLabel'), saliency=None), dict(type='TeacherLabel', teacher=teacher))
    assert rule.teachers.teachers == (teacher,) and rule.reads_given and rule.reads_outputs
