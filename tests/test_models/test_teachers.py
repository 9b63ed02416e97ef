"""Teachers: what they see, how several become one label, and that nothing of them is trained or stored.

S = 2 created images of 16 × 24 in 8 bits, BGR as a pipeline loads them. The student normalises RGB, the teacher BGR.
"""

import copy

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_tasks import FIELDS, SIZE, TASKS, K, samples, segmentor

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models import FrozenFeatures, SelfImprovingSegmentor, TeacherLabel
from mmdiff2in1.models.predicting import outputs_of
from mmdiff2in1.models.self_improving.label_rules.sinkhorn import sinkhorn
from mmdiff2in1.models.self_improving.labelling import labelled
from mmdiff2in1.models.self_improving.teachers import to_pixels
from mmdiff2in1.models.self_improving.trained_teacher import Teacher
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet

CLASSES = 'semantic_segmentation'
STUDENT = dict(type='SegDataPreProcessor', mean=[120.0, 110, 100], std=[60.0, 50, 40], bgr_to_rgb=True, size=SIZE)
OTHER = dict(type='SegDataPreProcessor', mean=[90.0, 80, 70], std=[255.0, 30, 20], test_cfg=dict(size_divisor=32))


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def teacher(tmp_path):
    """Makes a teacher of random weights: dict(config=…, checkpoint=…)."""

    def make(*names, seed=1, **changes):
        config = ConfigDict(segmentor(*names), data_preprocessor=OTHER, **changes)
        torch.manual_seed(seed)
        built = MODELS.build(config)
        for tensor in built.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(torch.rand(tensor.shape) - (0 if tensor.ndim == 1 else 0.5))
        file = tmp_path / f'teacher-{seed}.pth'
        torch.save(dict(state_dict=built.state_dict(), meta={}), file)
        return dict(config=config, checkpoint=str(file))

    return make


def raw():
    return torch.randint(256, (2, 3, *SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def student(*names, **rule):
    torch.manual_seed(0)
    rule = dict(type='TeacherLabel', **rule)
    return SelfImprovingSegmentor(segmentor(*names), data_preprocessor=STUDENT, label_rule=rule).train()


def prepared(model, images=None, synthetic=True):
    """The batch as a training step gets it."""
    own = list(raw() if images is None else images)
    found = [SegDataSample(metainfo=dict(synthetic=synthetic)) for _ in own]
    return model.data_preprocessor(dict(inputs=own, data_samples=found), True)


def labels_of(model, images=None):
    data = prepared(model, images)
    inputs, found = data['inputs'], data['data_samples']
    who = model.creator if model.teachers is None else model.teachers.before(model.creator, inputs, found)
    made, shares = labelled(model.label_rule, who, inputs, found, model.tasks, SIZE)
    fields = {name: torch.stack([each.get(FIELDS[name]).data for each in made]) for name in model.tasks}
    return fields, shares


def alone(teacher, images, tasks):
    """What a teacher puts out when mmseg itself tests it, by task (S, C, H, W)."""
    model = Teacher.load(**teacher).segmentor
    height, width = images.shape[-2:]
    own = [SegDataSample(metainfo=dict(ori_shape=(height, width), img_shape=(height, width))) for _ in images]
    found = model.test_step(dict(inputs=list(images), data_samples=own))
    return {name: torch.stack([task.output_of(each) for each in found]) for name, task in tasks.items()}


@pytest.mark.parametrize('names', [(CLASSES,), ('depth',), ('normal',), tuple(TASKS)])
def test_a_teacher_labels_what_it_predicts_by_itself(names, teacher):
    """Through its own data preprocessor: another mean, another order of the channels, padded to a multiple of 32."""
    one = teacher(*names)
    model = student(*names, teacher=one)
    found, _ = labels_of(model)
    for name, output in alone(one, raw(), model.tasks).items():
        expected = model.tasks[name].pseudo_label(output)[0]
        if name == CLASSES:
            assert torch.equal(found[name], expected) and len(expected.unique()) > 1
        else:
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('centred', [False, True])
def test_the_padding_of_the_student_is_shown_to_no_teacher(teacher, centred):
    """Two images, one of them smaller: each as if it were alone, wherever the padding is."""
    one = teacher(CLASSES)
    model = student(CLASSES, teacher=one)
    model.data_preprocessor = MODELS.build(STUDENT | dict(type='DenseDataPreProcessor', centred=centred))
    small = raw()[1][:, :10, :18]
    found, shares = labels_of(model, [raw()[0], small])
    inside = torch.zeros(1, *SIZE, dtype=torch.bool)
    top, left = (3, 3) if centred else (0, 0)
    inside[:, top : top + 10, left : left + 18] = True
    expected = alone(one, small[None], model.tasks)[CLASSES].argmax(1)
    assert torch.equal(found[CLASSES][1][inside], expected.flatten())
    assert (found[CLASSES][1][~inside] == 255).all()
    assert shares[CLASSES] == 1


def test_pixels_come_back():
    model = student(CLASSES)
    torch.testing.assert_close(to_pixels(prepared(model)['inputs'], model.data_preprocessor), raw().float())
    with pytest.raises(TypeError, match='BaseDataPreprocessor; expected a SegDataPreProcessor'):
        to_pixels(torch.zeros(1), SelfImprovingSegmentor(segmentor(CLASSES)).data_preprocessor)


def test_the_creator_alone_is_no_teacher():
    """The rule of the paper, bit for bit, whatever way it is written."""
    plain, named = student(CLASSES), student(CLASSES, teacher='creator', scales=(1,))
    assert plain.teachers is None and named.teachers is None
    losses = [{k: float(v) for k, v in model.loss(**prepared(model)).items()} for model in (plain, named)]
    assert losses[0] == losses[1]


def test_several_teachers_are_the_mean_of_their_probabilities(teacher):
    two = [teacher(CLASSES, seed=1), teacher(CLASSES, seed=2)]
    found, _ = labels_of(student(CLASSES, teacher=two, soft=True))
    tasks = TaskSet(TASKS[CLASSES])
    expected = sum(alone(each, raw(), tasks)[CLASSES].softmax(1) for each in two) / 2
    torch.testing.assert_close(found[CLASSES], expected, rtol=1e-3, atol=1e-5)


def test_the_creator_may_be_one_of_them(teacher):
    one = teacher('depth')
    model = student('depth', teacher=['creator', one])
    found, _ = labels_of(model)
    inputs = prepared(model)['inputs']
    shapes = dict(ori_shape=SIZE, img_shape=SIZE, pad_shape=SIZE)
    with torch.no_grad():
        own = model.creator.encode_decode(inputs, [shapes] * 2)
    torch.testing.assert_close(
        found['depth'], (own + alone(one, raw(), model.tasks)['depth']) / 2, rtol=1e-4, atol=1e-4
    )


def test_views_are_those_of_an_explicit_loop(teacher):
    one = teacher('normal')
    model = student('normal', teacher=one, mirrored=True, scales=(1.0, 2.0))
    found, _ = labels_of(model)
    total, task = 0, model.tasks['normal']
    for scale in (1, 2):
        size = (SIZE[0] * scale, SIZE[1] * scale)
        large = F.interpolate(raw().float(), size, mode='bilinear')
        for mirror in (False, True):
            output = alone(one, large.flip(-1) if mirror else large, model.tasks)['normal']
            if mirror:
                output = output.flip(-1) * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)
            total = total + F.normalize(F.interpolate(output, SIZE, mode='bilinear'), dim=1)
    torch.testing.assert_close(found['normal'], task.pseudo_label(total)[0], rtol=1e-3, atol=1e-3)


def test_a_mirrored_creator(teacher):
    """θ_C in two views needs no other model."""
    model = student('depth', mirrored=True)
    inputs = prepared(model)['inputs']
    metas = [dict(ori_shape=SIZE, img_shape=SIZE, pad_shape=SIZE)] * 2
    with torch.no_grad():
        there, back = (model.creator.encode_decode(x, metas) for x in (inputs, inputs.flip(-1)))
    found, _ = labels_of(model)
    torch.testing.assert_close(found['depth'], (there + back.flip(-1)) / 2, rtol=1e-4, atol=1e-4)


def outputs(confidence=6.0):
    return confidence * torch.randn(2, K, *SIZE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_soft_labels_at_a_temperature(temperature):
    tasks, z = TaskSet(TASKS[CLASSES]), outputs()
    rule = TeacherLabel(min_confidence=0.9, soft=True, temperature=temperature)
    target = rule.label({}, {CLASSES: z}, tasks)[CLASSES].target
    powers = z.softmax(1) ** (1 / temperature)
    sure = z.softmax(1).amax(1, keepdim=True) >= 0.9
    torch.testing.assert_close(target, powers / powers.sum(1, keepdim=True) * sure, rtol=1e-4, atol=1e-6)
    assert 0.1 < sure.float().mean() < 0.9


def test_soft_labels_are_learned(teacher):
    """The cross-entropy of probabilities, as a mean over all pixels."""
    model = student(CLASSES, teacher=teacher(CLASSES), soft=True, temperature=2.0)
    target = labels_of(model)[0][CLASSES]
    data = prepared(model)
    loss = model.loss(**data)['synthetic/decode.loss_ce']
    with torch.no_grad():
        logits = model.exploiter.decode_head(model.exploiter.extract_feat(data['inputs']))
        log_p = F.interpolate(logits, SIZE, mode='bilinear').log_softmax(1)
    torch.testing.assert_close(loss.detach(), -(target * log_p).sum(1).mean(), rtol=1e-4, atol=1e-5)


def test_sinkhorn_meets_both_sums():
    scores = outputs(1.0).movedim(1, -1).reshape(-1, K).log_softmax(1)
    found = sinkhorn(scores, iterations=300)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    torch.testing.assert_close(found.sum(0), torch.full((K,), len(found) / K), rtol=1e-3, atol=0)
    # After three iterations the classes are nearer to equal than they were, and each pixel is exact.
    biased = (scores + torch.tensor([2.0, 0, 0, -2])).log_softmax(1)
    few = sinkhorn(biased)
    torch.testing.assert_close(few.sum(1), torch.ones(len(few)))
    assert few.sum(0).std() < 0.2 * biased.exp().sum(0).std()


def test_sinkhorn_of_two_pixels_is_known():
    """q_11 / q_12 = √(ad / bc) for the scores (a b; c d)."""
    a, b, c, d = 0.9, 0.1, 0.6, 0.4
    found = sinkhorn(torch.tensor([[a, b], [c, d]]).log(), iterations=200)
    share = (a * d) ** 0.5 / ((a * d) ** 0.5 + (b * c) ** 0.5)
    torch.testing.assert_close(found, torch.tensor([[share, 1 - share], [1 - share, share]]))


def test_sinkhorn_gives_nothing_to_a_class_that_nobody_shows():
    sure = torch.tensor([[0.9, 0.1, 1e-3], [0.2, 0.8, 1e-3], [0.7, 0.3, 1e-3]]).log() / 0.05
    found = sinkhorn(sure, iterations=200)
    assert (found[:, 2] == 0).all() and not found.isnan().any()
    torch.testing.assert_close(found.sum(0)[:2], torch.full((2,), 1.5), rtol=1e-3, atol=0)


def test_balanced_labels_hard_and_soft():
    tasks = TaskSet(TASKS[CLASSES])
    z = outputs(1.0) + torch.tensor([2.0, 0, 0, 0]).view(1, K, 1, 1)  # class 0 nearly everywhere
    soft = TeacherLabel(soft=True, balanced=True, temperature=0.5).label({}, {CLASSES: z}, tasks)[CLASSES].target
    flat = z.log_softmax(1).movedim(1, -1).reshape(-1, K) / 0.5
    torch.testing.assert_close(soft.movedim(1, -1).reshape(-1, K), sinkhorn(flat))
    hard = TeacherLabel(balanced=True, temperature=0.5).label({}, {CLASSES: z}, tasks)[CLASSES].target
    assert torch.equal(hard, soft.argmax(1, keepdim=True))
    plain = TeacherLabel().label({}, {CLASSES: z}, tasks)[CLASSES].target
    assert (plain == 0).float().mean() > 0.5 > (hard == 0).float().mean()


def test_the_mean_of_one_logit_is_that_of_its_probability():
    task = SemanticSegmentation(2, threshold=0.3)
    a, b = torch.tensor([-3.0, 0.5]), torch.tensor([1.0, 4.0])
    mean = task.mean_output([a.view(1, 1, 1, 2), b.view(1, 1, 1, 2)])
    probabilities = [task.activate(each.view(1, 1, 1, 2)) for each in (a, b)]
    torch.testing.assert_close(task.activate(mean), sum(probabilities) / 2)


def test_nothing_of_a_teacher_is_trained_averaged_stored_or_drawn(teacher):
    one = teacher(CLASSES)
    plain, taught = student(CLASSES), student(CLASSES, teacher=one)
    taught.loss(**prepared(taught))
    assert taught.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in taught.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert len(taught.ema_tensors().averaged_creator) == len(plain.ema_tensors().averaged_creator)
    optimizer = build_optim_wrapper(
        taught,
        dict(type='OptimWrapper', constructor='ExploiterOptimWrapperConstructor', optimizer=dict(type='SGD', lr=1.0)),
    )
    (loaded,) = taught.teachers.load()
    theirs = {id(tensor) for tensor in loaded.segmentor.parameters()}
    assert not theirs & {id(p) for group in optimizer.param_groups for p in group['params']}
    before = copy.deepcopy(loaded.segmentor.state_dict())
    taught.train()
    optimizer.update_params(sum(v for k, v in taught.loss(**prepared(taught)).items() if 'loss' in k))
    after = loaded.segmentor.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.segmentor.training and not any(p.requires_grad for p in loaded.segmentor.parameters())


def test_a_student_starts_alike_with_and_without_a_teacher(teacher):
    found = []
    for rule in ({}, dict(teacher=teacher(CLASSES))):
        model = student(CLASSES, **rule)
        torch.manual_seed(3)
        model.init_weights()
        found.append([tensor.clone() for tensor in model.state_dict().values()] + [torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_of_a_self_improving_checkpoint_the_creator_teaches(teacher, tmp_path):
    whole = student(CLASSES)
    for tensor in whole.creator.parameters():
        tensor.data += 0.1
    torch.save(dict(state_dict=whole.state_dict(), meta={}), tmp_path / 'whole.pth')
    config = dict(model=dict(type='SelfImprovingSegmentor', segmentor=segmentor(CLASSES), data_preprocessor=STUDENT))
    found = Teacher.load(config, tmp_path / 'whole.pth').segmentor.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.creator.state_dict().items())


def test_the_files_of_a_teacher_are_read_when_a_training_begins(teacher):
    one = dict(teacher(CLASSES), checkpoint='gone.pth')
    model = student(CLASSES, teacher=one)
    model.eval()
    with pytest.raises(FileNotFoundError, match='gone.pth does not exist'):
        model.init_weights()


def test_a_size_that_a_teacher_does_not_take_is_told(teacher, monkeypatch):
    """mmseg's UNet, for instance, asserts that its strides divide the sides."""

    def refuse(segmentor, images, samples):
        assert images[0].shape[-1] % 8 == 0, 'sides of 8'
        return outputs_of(segmentor, images, samples)

    monkeypatch.setattr('mmdiff2in1.models.self_improving.teachers.outputs_of', refuse)
    labels_of(student(CLASSES, teacher=teacher(CLASSES), scales=(1.0, 2.0)))
    with pytest.raises(ValueError, match='cannot see images of 5 × 7 pixels, scale 0.3 of 16 × 24: sides of 8'):
        labels_of(student(CLASSES, teacher=teacher(CLASSES), scales=(1.0, 0.3)))


def test_marks_tell_teachers_and_views_apart(teacher):
    tasks = student(CLASSES).tasks
    one, two = teacher(CLASSES, seed=1), teacher(CLASSES, seed=2)

    def mark(**rule):
        return student(CLASSES, **rule).teachers.mark()

    marks = [mark(teacher=one), mark(teacher=two), mark(teacher=[one, two]), mark(teacher=one, mirrored=True)]
    assert len(set(marks)) == 4 and marks[0] == mark(teacher=one) and list(tasks) == [CLASSES]
    with pytest.raises(ValueError, match="teacher names 'creator'"):
        mark(teacher=['creator', one])


@pytest.mark.parametrize(
    ('rule', 'message'),
    [
        (dict(teacher='model.pth'), r"teacher holds 'model.pth'; expected dict\(config="),
        (dict(teacher=[dict(config='a.py')]), 'expected dict'),
        (dict(teacher=[]), r'teacher=\[\]: expected at least one$'),
        (dict(scales=()), r'scales=\(\): expected at least one, and each above 0$'),
        (dict(scales=(1.0, 0.0)), r'scales=\(1.0, 0.0\): expected at least one, and each above 0$'),
        (dict(scales=(float('inf'),)), 'each above 0'),
        (dict(temperature=0), 'temperature=0: expected a number above 0'),
        (dict(temperature=2), 'temperature=2 changes no hard label'),
    ],
)
def test_settings_that_mean_nothing(rule, message):
    with pytest.raises(ValueError, match=message):
        TeacherLabel(**rule)


def test_what_does_not_fit_is_refused(teacher):
    depth = teacher('depth', seed=3)
    with pytest.raises(ValueError, match="the teacher predicts depth; the student needs 'semantic_segmentation'"):
        student(CLASSES, teacher=depth).init_weights()
    more = copy.deepcopy(teacher(CLASSES, seed=4))
    more['config'].decode_head.num_classes = K
    student(CLASSES, teacher=more).init_weights()
    tasks = TaskSet(SemanticSegmentation(K + 1))
    with pytest.raises(ValueError, match=f'the teacher has {K} classes for semantic_segmentation, the student {K + 1}'):
        Teacher.load(**more).check(tasks)
    named = Teacher.load(**more, classes=list('abcd'))
    named.check(TaskSet(TASKS[CLASSES]), ['A', 'b', 'c', 'd'])
    with pytest.raises(ValueError, match="class 2 is 'c' for the teacher and 'x' for the student; 2 of 4 names differ"):
        named.check(TaskSet(TASKS[CLASSES]), ['a', 'b', 'x', 'y'])
    with pytest.raises(ValueError, match='depth has no classes: soft and balanced must be False'):
        student('depth', soft=True)


def test_features_show_a_teacher_nothing(teacher):
    model = student(CLASSES, teacher=teacher(CLASSES))
    features = FrozenFeatures(SIZE, pyramid=(torch.zeros(2, 1, *SIZE),))
    with pytest.raises(TypeError, match='a teacher looks at images, found FrozenFeatures'):
        model.loss(features, samples(CLASSES))
