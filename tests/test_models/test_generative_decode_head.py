"""GenerativeDecodeHead: the head it wraps on real images, and the same head on created ones."""

import copy
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401 (registers everything)

K = 4
CLASSES = ['wall', 'floor', 'red ball', 'table']
FPN = dict(
    type='FPNHead', in_channels=[8, 16 + K, 16 + K], in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=6,
    num_classes=K, dropout_ratio=0.0, norm_cfg=dict(type='BN'), align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.7),
)  # fmt: skip


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def segmentor(two_layer_config, head: dict, feature: dict | None = None):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=(16, 24)
            ),
            backbone=dict(type='DiffusionBackbone', diffusion=two_layer_config, classes=CLASSES, feature=feature or {}),
            decode_head=head,
            test_cfg=ConfigDict(mode='whole'),
        )
    )
    model.init_weights()
    return model.eval()


@pytest.fixture
def bare(two_layer_config):
    return segmentor(two_layer_config, FPN)


@pytest.fixture
def wrapped(two_layer_config, bare):
    """With the weights of `bare`."""
    model = segmentor(two_layer_config, dict(type='GenerativeDecodeHead', head=FPN))
    model.backbone.load_state_dict(bare.backbone.state_dict())
    model.decode_head.head.load_state_dict(bare.decode_head.state_dict())
    return model


def batch(size=(16, 24)) -> tuple[torch.Tensor, list[SegDataSample]]:
    draw = torch.Generator().manual_seed(2)
    images, samples = torch.rand(2, 3, *size, generator=draw) * 2 - 1, []
    for _ in images:
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, padding_size=[0] * 4))
        labels = torch.randint(0, K, (1, *size), generator=draw)
        labels[:, :2] = 255
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return images, samples


def test_loss_gradients_and_prediction_are_those_of_the_bare_head(bare, wrapped):
    images, samples = batch()
    losses = [model.train().loss(images, copy.deepcopy(samples)) for model in (bare, wrapped)]
    assert losses[0].keys() == losses[1].keys() and 'decode.loss_ce' in losses[0]
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    for loss in losses:
        loss['decode.loss_ce'].backward()
    theirs, ours = dict(bare.decode_head.named_parameters()), dict(wrapped.decode_head.head.named_parameters())
    for name, parameter in theirs.items():
        grad = ours[name].grad
        assert (grad is None) == (parameter.grad is None) and (grad is None or torch.equal(grad, parameter.grad)), name
    with torch.no_grad():
        outputs = [model.eval().predict(images, copy.deepcopy(samples)) for model in (bare, wrapped)]
        for a, b in zip(*outputs, strict=True):
            assert torch.equal(a.seg_logits.data, b.seg_logits.data)
            assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        features = bare.extract_feat(images)
        assert torch.equal(wrapped.decode_head(features), bare.decode_head(features))
        assert torch.equal(wrapped(images), bare(images))  # mode='tensor'


def test_loss_by_hand(wrapped):
    """0.7 times the cross entropy over labelled pixels, logits brought to label size."""
    images, samples = batch()
    with torch.no_grad():
        logits = wrapped.decode_head(wrapped.extract_feat(images))
        logits = torch.nn.functional.interpolate(logits, size=(16, 24), mode='bilinear', align_corners=False)
        labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
        per_pixel = -logits.log_softmax(1).gather(1, labels.clamp(max=K - 1)[:, None])[:, 0]
        # mmseg's default averages over all pixels, ignored ones counted as zero.
        expected = 0.7 * (per_pixel * (labels != 255)).sum() / labels.numel()
        found = wrapped.loss(images, samples)['decode.loss_ce']
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attributes_are_those_of_the_wrapped_head(bare, wrapped):
    names = ('num_classes', 'out_channels', 'align_corners', 'ignore_index', 'threshold', 'in_channels', 'in_index')
    for name in (*names, 'channels', 'dropout_ratio', 'feature_strides', 'input_transform'):
        assert getattr(wrapped.decode_head, name) == getattr(bare.decode_head, name), name
    for name in ('num_classes', 'out_channels', 'align_corners'):
        assert getattr(wrapped, name) == getattr(bare, name)
    assert wrapped.decode_head.conv_seg is wrapped.decode_head.head.conv_seg
    with pytest.raises(AttributeError, match='no attribute .nothing'):
        wrapped.decode_head.nothing  # noqa: B018
    assert not hasattr(wrapped.decode_head, 'nothing')


def test_state_is_that_of_the_bare_head_below_one_name(bare, wrapped):
    theirs, ours = bare.decode_head.state_dict(), wrapped.decode_head.state_dict()
    assert list(ours) == [f'head.{name}' for name in theirs]
    assert all(torch.equal(ours[f'head.{name}'], tensor) for name, tensor in theirs.items())


def test_initialisation_reaches_the_wrapped_head(two_layer_config):
    head = FPN | dict(
        init_cfg=dict(type='Constant', val=0.25, override=dict(name='conv_seg', type='Constant', val=0.5))
    )
    model = segmentor(two_layer_config, dict(type='GenerativeDecodeHead', head=head))
    assert (model.decode_head.head.conv_seg.weight == 0.5).all()


def test_copies_and_pickles(wrapped):
    images, _ = batch()
    with torch.no_grad():
        expected = wrapped(images)
        for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
            assert torch.equal(other(images), expected)
            assert other.decode_head.num_classes == K and other.decode_head.head is not wrapped.decode_head.head
            other.decode_head.conv_seg.bias.add_(1)
        assert torch.equal(wrapped(images), expected)


def test_predict_created_by_hand(wrapped):
    images, samples = batch()
    d = wrapped.backbone.diffusion
    made = d.create(images, captions=['a wall', 'a red ball'], seeds=[0, 1], num_calls=2)
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        found = wrapped.decode_head.predict_created(wrapped, made, metas)
        tokens = wrapped.backbone.tokens.expand(2, -1, -1)
        seen = d.features(
            made.latents / 0.5, torch.tensor([1, 1]), tokens, taps=['out.8', 'out.4', 'out.1'], map_levels=[1, 2]
        )
        pyramid = [
            seen.taps['out.8'],
            torch.cat([seen.taps['out.4'], seen.maps[1]], 1),
            torch.cat([seen.taps['out.1'], seen.maps[2]], 1),
        ]
        logits = wrapped.decode_head.head(pyramid)
        expected = torch.nn.functional.interpolate(logits, size=(16, 24), mode='bilinear', align_corners=False)
    assert found.shape == (2, K, 16, 24)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_predict_created_reads_the_last_denoising_call(two_layer_config):
    feature = dict(preset='released', taps='vpd')
    head = dict(type='GenerativeDecodeHead', created='released', head=FPN | dict(in_channels=[8, 16, 16]))
    model = segmentor(two_layer_config, head, feature)
    images, samples = batch()
    made = model.backbone.diffusion.create(
        images,
        captions=['a wall', 'a red ball'],
        seeds=[0, 1],
        num_calls=2,
        grid='released',
        record=model.backbone.wanted(),
    )
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        found = model.decode_head.predict_created(model, made, metas)
        pyramid = [made.last.taps[name] for name in ('out.8', 'out.4', 'out.1')]
        logits = model.decode_head.head(pyramid)
        expected = torch.nn.functional.interpolate(logits, size=(16, 24), mode='bilinear', align_corners=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_unknown_reading_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown reading 'last'; known: perceive, released"):
        MODELS.build(dict(type='GenerativeDecodeHead', head=FPN, created='last'))
