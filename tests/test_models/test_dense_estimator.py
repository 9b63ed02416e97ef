"""Segmentors for maps: predictions at the size of the image, windows, mirrors, padding, any head, self-improving."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import mmdiff2in1.components  # noqa: F401  registers

NORMAL, DEPTH = dict(type='SurfaceNormal', kappa=True), dict(type='Depth', max_depth=8.0)
PREPROCESSOR = dict(type='DenseDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(16, 24))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')
    torch.manual_seed(0)


@MODELS.register_module()
class Stride2(nn.Module):
    """Two convolutions: enough to be trained."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        return (self.layers(images),)


@MODELS.register_module()
class HeadWithLoss(FCNHead):
    """Knows how it is trained, for classes."""

    def loss(self, inputs, batch_data_samples, train_cfg):
        return {}


def config(task, **changes):
    head = dict(type='FCNHead', in_channels=8, channels=8, in_index=0, num_convs=1, norm_cfg=dict(type='BN'))
    model = dict(
        type='DenseEstimator',
        task=task,
        data_preprocessor=dict(PREPROCESSOR),
        backbone=dict(type='Stride2'),
        decode_head=dict(type='DenseTaskHead', task=task, head=head),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    return ConfigDict(model | changes)


def sample(task, size=(16, 24), synthetic=False, region=None):
    field, channels = ('gt_normal_map', 3) if task is NORMAL else ('gt_depth_map', 1)
    values = torch.randn(channels, *size)
    values = nn.functional.normalize(values, dim=0) if channels == 3 else values.abs() + 0.5
    found = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, synthetic=synthetic))
    found.set_data({field: PixelData(data=values, metainfo=dict(pad=0.0))})
    if region is not None:
        found.set_data(dict(gt_valid_region=PixelData(data=region, metainfo=dict(pad=False))))
    return found


def losses_of(found):
    return {name: value for name, value in found.items() if 'loss' in name}


@pytest.mark.parametrize('task', [NORMAL, DEPTH])
@pytest.mark.parametrize(
    'head',
    [
        dict(type='FCNHead', in_channels=8, channels=8, in_index=0, num_convs=1),
        dict(type='FPNHead', in_channels=[8], in_index=[0], feature_strides=[2], channels=8),
        dict(type='SegformerHead', in_channels=[8], in_index=[0], channels=8),
    ],
)
def test_any_mmseg_head_predicts_a_map(task, head):
    model = MODELS.build(config(task, decode_head=dict(type='DenseTaskHead', task=task, head=head)))
    model.loss(torch.rand(2, 3, 16, 24), [sample(task) for _ in range(2)])
    model.eval()
    meta = dict(ori_shape=(32, 48), img_shape=(16, 24), pad_shape=(16, 24))
    (found,) = model.predict(torch.rand(1, 3, 16, 24), [SegDataSample(metainfo=meta)])
    if task is NORMAL:
        assert found.pred_normal_map.data.shape == (4, 32, 48)
        torch.testing.assert_close(found.pred_normal_map.data[:3].norm(dim=0), torch.ones(32, 48))
        assert (found.pred_normal_map.data[3] > 0).all()
    else:
        depth = found.pred_depth_map.data
        assert depth.shape == (1, 32, 48) and (depth > 0).all() and (depth < 8).all()


def test_the_loss_is_the_tasks_at_the_size_of_the_labels():
    model = MODELS.build(config(DEPTH)).eval()
    images, samples = torch.rand(2, 3, 16, 24), [sample(DEPTH) for _ in range(2)]
    (loss,) = losses_of(model.loss(images, samples)).values()
    with torch.no_grad():
        raw = model.decode_head(model.extract_feat(images))
    depth = nn.functional.interpolate(8 * raw.sigmoid(), (16, 24), mode='bilinear', align_corners=False)
    target = torch.stack([each.gt_depth_map.data for each in samples])
    d = (depth.log() - target.log()).flatten()
    assert float(loss) == pytest.approx(float((d.square().mean() - d.mean() ** 2 / 2).sqrt()), rel=1e-5)


def test_it_can_be_printed():
    assert 'task=Depth(max_depth=8.0, units_per_metre=1000.0)' in repr(MODELS.build(config(DEPTH)))


def test_two_losses_of_one_name_are_added():
    twice = [dict(type='ScaleInvariantLogLoss', loss_weight=weight) for weight in (1.0, 0.5)]
    cfg = config(DEPTH)
    cfg['decode_head']['loss_decode'] = twice
    torch.manual_seed(1)
    both = MODELS.build(cfg).eval()
    torch.manual_seed(1)
    one = MODELS.build(config(DEPTH)).eval()
    images, samples = torch.rand(1, 3, 16, 24), [sample(DEPTH)]
    (b,), (a,) = (losses_of(model.loss(images, samples)).values() for model in (both, one))
    assert float(b) == pytest.approx(1.5 * float(a))


class Analytic(nn.Module):
    """The normals of a plane whose slant depends on the column of the window: exact, and no more than that."""

    def forward(self, images):
        return (images,)


def test_mirrored_average_of_an_exact_model_is_exact():
    """A model that reads the normal off the pixel is the same through the mirror: the average changes nothing."""
    model = MODELS.build(config(NORMAL, test_cfg=dict(mode='whole', flip=True))).eval()
    x = torch.linspace(-0.9, 0.9, 24).expand(16, 24)
    truth = torch.stack([x, torch.zeros(16, 24), (1 - x**2).sqrt()])

    def exact(inputs, metas):
        """Channels: |x|, the side it faces as seen in the picture (the mirror turns it with the pixels), unused."""
        facing = torch.where(inputs[:, 1] > 0, 1.0, -1.0)
        n = torch.stack([inputs[:, 0] * facing, torch.zeros_like(facing), (1 - inputs[:, 0] ** 2).sqrt()], dim=1)
        return torch.cat([n, torch.ones_like(n[:, :1])], dim=1)

    class Mirrored:
        """What a camera sees of the mirrored scene: sides change."""

        def __call__(self, inputs, metas):
            seen = exact(inputs, metas)
            if inputs[0, 2, 0, 0] > inputs[0, 2, 0, -1]:  # the third channel counts columns: mirrored
                seen[:, 0] *= -1
            return seen

    model.encode_decode = Mirrored()
    image = torch.stack([x.abs(), x.sign(), torch.arange(24.0).expand(16, 24)])[None]
    meta = dict(ori_shape=(16, 24), img_shape=(16, 24), pad_shape=(16, 24))
    found = model.inference(image, [meta])
    torch.testing.assert_close(found[0, :3], truth)
    assert (model.tasks.only.flip_output(model.tasks.only.flip_output(found)) == found).all()


def test_windows_cover_the_image_and_mirror():
    """Slide inference of a pixelwise model is the whole inference; with the mirror it is the mean by hand."""
    cfg = config(DEPTH, test_cfg=dict(mode='slide', crop_size=(8, 8), stride=(5, 5), flip=True))
    model = MODELS.build(cfg).eval()
    model.encode_decode = lambda inputs, metas: inputs.sum(1, keepdim=True)
    image = torch.rand(1, 3, 16, 24)
    found = model.inference(image, [dict(ori_shape=(16, 24), img_shape=(16, 24))])
    torch.testing.assert_close(found, image.sum(1, keepdim=True))


def test_predictions_come_back_without_padding_and_unmirrored():
    model = MODELS.build(config(NORMAL)).eval()
    output = model.tasks.only.activate(torch.randn(1, 4, 16, 24))
    meta = dict(ori_shape=(10, 20), img_padding_size=(0, 4, 0, 6), flip=True, flip_direction='horizontal')
    (found,) = model.postprocess_result(output, [SegDataSample(metainfo=meta)])
    expected = output[0, :, :10, :20].flip(-1)
    expected[0] *= -1
    torch.testing.assert_close(found.pred_normal_map.data, expected)
    (alone,) = model.postprocess_result(output)
    torch.testing.assert_close(alone.pred_normal_map.data, output[0])


def test_test_time_augmentation_is_the_mean_of_its_views():
    model = MODELS.build(dict(type='DenseTTAModel', module=config(NORMAL)))
    views = []
    for _ in range(3):
        view = SegDataSample()
        output = model.module.tasks.only.activate(torch.randn(1, 4, 4, 6))
        views.append(view.set_data(dict(pred_normal_map=PixelData(data=output[0]))) or view)
    mean = torch.stack([view.pred_normal_map.data for view in views]).mean(0)
    (merged,) = model.merge_preds([views])
    torch.testing.assert_close(merged.pred_normal_map.data[3], mean[3])
    torch.testing.assert_close(merged.pred_normal_map.data[:3], nn.functional.normalize(mean[:3], dim=0))


def test_labels_are_padded_with_what_says_nothing():
    preprocessor = MODELS.build(PREPROCESSOR)
    samples = [sample(NORMAL, (10, 20), region=torch.ones(1, 10, 20, dtype=torch.bool)), sample(DEPTH, (16, 24))]
    samples[0].set_data(dict(gt_depth_map=PixelData(data=torch.ones(1, 10, 20), metainfo=dict(pad=0.0))))
    before = samples[0].gt_normal_map.data.clone()
    images = [torch.zeros(3, 10, 20, dtype=torch.uint8), torch.zeros(3, 16, 24, dtype=torch.uint8)]
    data = preprocessor(dict(inputs=images, data_samples=samples), training=True)
    first = data['data_samples'][0]
    assert data['inputs'].shape == (2, 3, 16, 24) and first.metainfo['pad_shape'] == (16, 24)
    for field, channels in (('gt_normal_map', 3), ('gt_depth_map', 1), ('gt_valid_region', 1)):
        array = first.get(field).data
        assert array.shape == (channels, 16, 24)
        assert not array[:, 10:].any() and not array[:, :, 20:].any()
    assert torch.equal(first.gt_normal_map.data[:, :10, :20], before)
    assert tuple(first.metainfo['img_shape']) == (10, 20)


@pytest.mark.parametrize('task', [NORMAL, DEPTH])
def test_self_improving_with_real_samples_alone_is_the_plain_model(task):
    torch.manual_seed(3)
    plain = MODELS.build(config(task))
    torch.manual_seed(3)
    wrapper = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=config(task)))
    assert wrapper.tasks is wrapper.exploiter.tasks
    images, samples = torch.rand(3, 3, 16, 24), [sample(task) for _ in range(3)]
    torch.manual_seed(4)  # of the dropout
    expected = plain.loss(images, copy.deepcopy(samples))
    torch.manual_seed(4)
    found = wrapper.loss(images, samples)
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.parametrize('top', [0, 3])
@pytest.mark.parametrize('task', [NORMAL, DEPTH])
def test_pseudo_labels_stay_out_of_the_padding_and_of_what_never_has_ground_truth(task, top):
    wrapper = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=config(task)))
    region = torch.zeros(1, 16, 24, dtype=torch.bool)
    region[:, 4:12, 6:18] = True
    created = sample(task, synthetic=True, region=region)
    created.set_metainfo(dict(img_shape=(10, 24), padding_size=(0, 0, top, 6 - top)))
    seen = {}
    loss = wrapper.exploiter.decode_head.loss_by_feat

    def spy(outputs, samples):
        seen.update({bool(each.metainfo['synthetic']): each for each in samples})
        return loss(outputs, samples)

    wrapper.exploiter.decode_head.loss_by_feat = spy
    found = wrapper.loss(torch.rand(2, 3, 16, 24), [sample(task), created])
    pseudo = seen[True].get(wrapper.tasks.only.field).data[None]
    expected = region.clone()
    expected[:, :top] = expected[:, top + 10 :] = False
    assert torch.equal(wrapper.tasks.only.valid(pseudo)[0], expected)
    assert float(found[f'kept_share/{next(iter(wrapper.tasks))}']) == pytest.approx(float(expected.sum()) / (10 * 24))
    assert 'gt_valid_region' not in seen[True]
    with torch.no_grad():
        wrapper.creator.eval()
    (total,) = [value for name, value in found.items() if name.startswith('synthetic/') and 'loss' in name]
    total.backward()
    assert all(parameter.grad is None for parameter in wrapper.creator.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in wrapper.exploiter.parameters())


def test_a_confidence_filter_of_normals_is_the_probability_of_a_small_error():
    strict = dict(type='SelfImprovingSegmentor', segmentor=config(NORMAL), min_confidence=0.5)
    wrapper = MODELS.build(strict)
    created = sample(NORMAL, synthetic=True)
    images = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        meta = dict(ori_shape=(16, 24), img_shape=(16, 24), pad_shape=(16, 24))
        output = wrapper.creator.encode_decode(images[1:], [meta])
    expected = (wrapper.tasks.only.probability_within(output[:, 3:], 22.5) >= 0.5).float().mean()
    assert float(wrapper.loss(images, [sample(NORMAL), created])['kept_share/normal']) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="'depth' gives no confidence"):
        MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=config(DEPTH), min_confidence=0.5))


def test_what_is_refused():
    with pytest.raises(ValueError, match='puts out 1 channels, TaskSet.*SurfaceNormal'):
        MODELS.build(config(NORMAL, decode_head=config(DEPTH)['decode_head']))
    with pytest.raises(TypeError, match='HeadWithLoss has a loss of its own'):
        MODELS.build(dict(type='DenseTaskHead', task=DEPTH, head=dict(type='HeadWithLoss', in_channels=8, channels=8)))
    model = MODELS.build(config(DEPTH))
    # A sample without depth teaches nothing of it; a head of its own cannot know the size of what it is to fill in.
    assert losses_of(model.loss(torch.rand(1, 3, 16, 24), [sample(NORMAL)])) == {'decode.loss_silog': 0}
    with pytest.raises(ValueError, match='none of the 1 samples has gt_depth_map.*the pipeline needs'):
        model.decode_head.loss_by_feat(torch.rand(1, 1, 4, 6), [sample(NORMAL)])
    with pytest.raises(ValueError, match='expected horizontal'):
        meta = dict(flip=True, flip_direction='vertical')
        model.postprocess_result(torch.rand(1, 1, 4, 4), [SegDataSample(metainfo=meta)])
