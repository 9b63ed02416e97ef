"""HFBackbone on tiny random models: widths, strides, weights of a folder, error texts, EfficientNet-B5's shapes."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoBackbone,
    EfficientNetModel,
    SegformerForSemanticSegmentation,
    SwinForImageClassification,
)

from mmdiff2in1.models.backbones.efficientnet_levels import SamePadding, level_ends
from mmdiff2in1.models.backbones.hf_backbone import HFBackbone

TINY = dict(
    swin=dict(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, drop_path_rate=0.0),
    convnext=dict(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1]),
    dinov3_convnext=dict(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1]),
    segformer=dict(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        drop_path_rate=0.0,
        hidden_dropout_prob=0.0,
    ),
    dinov3_vit=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, image_size=32),
    dinov2=dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, image_size=28),
    efficientnet=dict(
        width_coefficient=0.25, depth_coefficient=0.4, hidden_dim=320, drop_connect_rate=0.0, batch_norm_momentum=0.9
    ),
)
B5 = dict(model_type='efficientnet', width_coefficient=1.6, depth_coefficient=2.2, hidden_dim=2048)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tiny(family, **settings):
    torch.manual_seed(0)
    return HFBackbone(dict(model_type=family, **TINY[family]), **settings)


@pytest.mark.parametrize(
    ('family', 'channels', 'strides', 'indices'),
    [
        ('swin', [8, 16, 32, 64], [4, 8, 16, 32], [1, 2, 3, 4]),
        ('convnext', [4, 8, 12, 16], [4, 8, 16, 32], [1, 2, 3, 4]),
        ('dinov3_convnext', [4, 8, 12, 16], [4, 8, 16, 32], [1, 2, 3, 4]),  # its "stem" is the image
        ('dinov2', [8], [14], [3]),
        ('dinov3_vit', [8], [16], [3]),
        ('segformer', [8, 16, 24, 32], [4, 8, 16, 32], [0, 1, 2, 3]),
        ('efficientnet', [8, 8, 16, 32, 320], [2, 4, 8, 16, 32], [0, 1, 2, 3, 4]),
    ],
)
def test_widths_and_strides_are_those_of_the_maps(family, channels, strides, indices):
    """None: of every stride the last map; every parameter that is trained has an effect."""
    backbone = tiny(family)
    assert (backbone.out_channels, backbone.strides, backbone.out_indices) == (channels, strides, indices)
    maps = backbone(torch.randn(2, 3, 224, 448))
    assert [tuple(x.shape) for x in maps] == [
        (2, c, 224 // s, 448 // s) for c, s in zip(channels, strides, strict=True)
    ]
    sum(x.square().sum() for x in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize('family', list(TINY))
def test_any_image_size(family):
    for size in ((37, 53), (65, 40)):
        maps = tiny(family)(torch.randn(1, 3, *size))
        assert all(x.isfinite().all() for x in maps)


def test_what_the_maps_do_not_need_is_not_trained():
    def idle(backbone):
        return sorted(name for name, p in backbone.model.named_parameters() if not p.requires_grad)

    assert idle(tiny('dinov2')) == ['embeddings.mask_token']
    assert idle(tiny('convnext')) == []
    assert idle(tiny('efficientnet')) == ['encoder.top_bn.bias', 'encoder.top_bn.weight']
    assert any(name.startswith('encoder.blocks.6.') for name in idle(tiny('efficientnet', out_indices=[0, 1])))


@pytest.mark.parametrize('family', ['swin', 'convnext', 'dinov2'])
def test_the_maps_are_those_of_transformers(family):
    backbone = tiny(family, out_indices=[1, 2]).eval()
    theirs = AutoBackbone.from_config(CONFIG_MAPPING[family](**TINY[family], out_indices=[1, 2])).eval()
    theirs.load_state_dict(backbone.model.state_dict())
    images = torch.randn(2, 3, 56, 70)
    with torch.no_grad():
        for ours, expected in zip(backbone(images), theirs(images).feature_maps, strict=True):
            assert torch.equal(ours, expected)


def test_the_levels_of_an_efficientnet_are_its_hidden_states():
    """At sizes where transformers pads rightly; the last level is the convolution in front of the last norm."""
    backbone = tiny('efficientnet').eval()
    theirs = EfficientNetModel(CONFIG_MAPPING['efficientnet'](**TINY['efficientnet'])).eval()
    theirs.load_state_dict(backbone.model.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, output = backbone(images), theirs(images, output_hidden_states=True)
        assert level_ends(theirs) == [0, 1, 2, 6, 9]  # 1, 1, 1, 2, 2, 2, 1 blocks in its seven stages
        for i, level in enumerate(level_ends(theirs)[:-1]):
            assert torch.equal(found[i], output.hidden_states[level + 1])
        last = theirs.encoder.top_activation(theirs.encoder.top_bn(found[4]))
        assert torch.equal(last, output.last_hidden_state)


@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('size', [(8, 8), (7, 10), (9, 5)])
def test_padding_is_that_of_tensorflow(kernel, size):
    """Output ceil(n / 2); the total is (out - 1) · 2 + kernel - n, the odd pixel at the end."""
    padded = SamePadding(kernel, 2)(torch.ones(1, 1, *size))
    for axis, n in enumerate(size):
        total = (-(-n // 2) - 1) * 2 + kernel - n
        line = padded[0, 0].amax(1 - axis)
        assert len(line) == n + total
        assert (line == 0).nonzero().flatten().tolist() == [
            *range(total // 2), *range(total // 2 + n, n + total)
        ]  # fmt: skip
    assert F.max_pool2d(padded, kernel, 2).shape[2:] == tuple(-(-n // 2) for n in size)


def test_odd_sizes_give_ceiled_maps():
    maps = tiny('efficientnet')(torch.randn(1, 3, 75, 101))
    assert [tuple(x.shape[2:]) for x in maps] == [(38, 51), (19, 26), (10, 13), (5, 7), (3, 4)]


def test_running_statistics_move_as_keras_moves_them():
    norms = [m for m in tiny('efficientnet').modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 20 and all(m.momentum == pytest.approx(0.1) and m.eps == 1e-3 for m in norms)
    default = HFBackbone(dict(model_type='efficientnet', width_coefficient=0.25, depth_coefficient=0.4, hidden_dim=320))
    assert all(m.momentum == pytest.approx(0.01) for m in default.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('family', list(TINY))
def test_the_weights_of_a_folder_are_loaded_bit_for_bit(tmp_path, family):
    saved = tiny(family).eval()
    for name, buffer in saved.named_buffers():
        if buffer.is_floating_point() and name in saved.state_dict():  # others follow from the config
            buffer.add_(0.25)
    saved.model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    fields = dict(model_type=family, **TINY[family])
    images = torch.randn(1, 3, 64, 64)
    for loaded in (HFBackbone(str(tmp_path)), HFBackbone(fields, pretrained=str(tmp_path))):
        loaded.eval()
        state = saved.state_dict()
        loaded.model.init_weights = pytest.fail
        loaded.init_weights()  # mmengine's runner calls it on every model
        assert loaded.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(loaded(images), saved(images), strict=True))


def test_a_segformer_lends_its_encoder(tmp_path):
    """The Hub has them as classifiers and segmentors; the maps are the stages, in their order."""
    torch.manual_seed(2)
    segmentor = SegformerForSemanticSegmentation(CONFIG_MAPPING['segformer'](**TINY['segformer'])).eval()
    segmentor.save_pretrained(tmp_path)
    backbone = HFBackbone(str(tmp_path), out_indices=[1, 3]).eval()
    assert (backbone.out_channels, backbone.strides) == ([16, 32], [8, 32])
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps, stages = backbone(images), segmentor(images, output_hidden_states=True).hidden_states
    assert torch.equal(maps[0], stages[1]) and torch.equal(maps[1], stages[3])


def test_a_classifier_lends_its_backbone(tmp_path):
    """As the Hub has them; norms of the maps are new, in half precision stored weights become float32."""
    torch.manual_seed(2)
    classifier = SwinForImageClassification(CONFIG_MAPPING['swin'](**TINY['swin'])).half()
    classifier.save_pretrained(tmp_path)
    backbone = HFBackbone(str(tmp_path), out_indices=[2, 4])
    assert backbone.out_channels == [16, 64] and backbone.strides == [8, 32]
    name = 'embeddings.patch_embeddings.projection.weight'
    found = next(p for n, p in backbone.model.named_parameters() if n.endswith(name))
    assert found.dtype == torch.float32
    assert torch.equal(found, classifier.swin.get_parameter(name).float())


def test_a_frozen_backbone_keeps_its_statistics():
    backbone = tiny('efficientnet', frozen=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert not any(x.requires_grad for x in maps) and not backbone.model.training
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    trained = tiny('efficientnet')
    assert trained(torch.randn(2, 3, 64, 64))[0].requires_grad
    name = 'model.embeddings.batchnorm.running_mean'
    assert not torch.equal(trained.state_dict()[name], before[name])


def test_it_is_built_from_a_config():
    model = dict(type='EncoderDecoder', backbone=dict(type='HFBackbone', model=dict(model_type='swin', **TINY['swin'])),
                 decode_head=dict(type='FPNHead', in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], channels=8,
                                  feature_strides=[4, 8, 16, 32], num_classes=3, norm_cfg=dict(type='BN')))  # fmt: skip
    built = MODELS.build(model).eval()
    assert built(torch.randn(1, 3, 64, 64)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(model='microsoft/swin-large'), r"found 'microsoft/swin-large', which is no folder .*hf download"),
        (dict(model=dict(model_type='swin'), pretrained='nowhere'), "found 'nowhere', which is no folder"),
        (dict(model=dict(model_type='swim')), "unknown model_type 'swim'"),
        (dict(model=dict(embed_dim=8)), 'unknown model_type None'),
        (dict(model=dict(model_type='swin', widths=8)), r"unknown config fields \['widths'\]; known: .*embed_dim"),
        (
            dict(model=dict(model_type='efficientnet', width_coefficient=0.25)),
            r'found hidden_dim=2560, expected 320, .* width_coefficient=0\.25, rounded; set hidden_dim=320',
        ),
        (dict(model=dict(model_type='bert')), 'bert: transformers has no backbone of this family'),
        (dict(model=dict(model_type='swin', **TINY['swin']), out_indices=[5]), r'\[5\], expected some of \[0, 1, 2, 3'),
        (dict(model=dict(model_type='swin', **TINY['swin']), out_indices=[]), r'out_indices=\[\], expected some of'),
        (
            dict(model=dict(model_type='dinov3_convnext', **TINY['dinov3_convnext']), out_indices=[0, 4]),
            r'out_indices=\[0, 4\], expected some of \[1, 2, 3, 4\]',
        ),
    ],
)
def test_mistakes_say_what_to_do(settings, expected):
    with pytest.raises(ValueError, match=expected):
        HFBackbone(**settings)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    tiny('swin').model.config.save_pretrained(tmp_path)
    (tmp_path / 'pytorch_model.bin').touch()
    with pytest.raises(FileNotFoundError, match=r'found no weights .*expected .*model\.safetensors'):
        HFBackbone(str(tmp_path))


def test_it_can_be_built_without_gradients():
    with torch.no_grad():
        assert tiny('dinov2').model.embeddings.mask_token.requires_grad is False


def test_a_folder_of_another_model_is_refused(tmp_path):
    swin = dict(model_type='swin', **TINY['swin'])
    tiny('convnext').model.save_pretrained(tmp_path / 'convnext')
    with pytest.raises(
        ValueError, match=r'\d+ parameters of SwinBackbone are missing or of another shape: .* does `model` describe it'
    ):
        HFBackbone(swin, pretrained=str(tmp_path / 'convnext'))
    tiny('swin').model.save_pretrained(tmp_path / 'swin')
    with pytest.raises(ValueError, match='or of another shape: .* does `model` describe it'):
        HFBackbone(dict(swin, embed_dim=16), pretrained=str(tmp_path / 'swin'))


def test_efficientnet_b5_has_the_published_shapes():
    """28,340,784 of the published classifier's 30,389,784 are left without its last layer, 2048 · 1000 + 1000."""
    with torch.device('meta'):
        backbone = HFBackbone(B5)
        maps = backbone(torch.empty(1, 3, 480, 640))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (24, 240, 320), (40, 120, 160), (64, 60, 80), (176, 30, 40), (2048, 15, 20)
    ]  # fmt: skip
    assert backbone.out_channels == [24, 40, 64, 176, 2048] and backbone.strides == [2, 4, 8, 16, 32]
    assert sum(p.numel() for p in backbone.parameters()) == 30_389_784 - 2_049_000
    assert sum(p.numel() for p in backbone.parameters() if not p.requires_grad) == 2 * 2048  # the norm behind it


@pytest.mark.parametrize('frozen', [True, False])
def test_creator_and_exploiter_share_a_frozen_backbone(frozen):
    """One run of it per mixed batch, once in memory, and the losses of a backbone that is run for each."""
    task = dict(type='SurfaceNormal', kappa=True)
    head = dict(type='FCNHead', in_channels=64, channels=8, in_index=3, num_convs=1, dropout_ratio=0)
    segmentor = dict(
        type='DenseEstimator',
        task=task,
        backbone=dict(type='HFBackbone', model=dict(model_type='swin', **TINY['swin']), frozen=frozen),
        decode_head=dict(type='DenseTaskHead', task=task, head=head),
        data_preprocessor=dict(type='DenseDataPreProcessor', size=(64, 64)),
        test_cfg=dict(mode='whole'),
    )
    model = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=segmentor)).train()
    shared = model.creator.backbone.model is model.exploiter.backbone.model
    assert shared == frozen
    runs = []
    for backbone in {
        id(each.model): each.model for each in (model.creator.backbone, model.exploiter.backbone)
    }.values():
        backbone.register_forward_hook(lambda *_: runs.append(1))
    samples = []
    for synthetic in (False, True):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), synthetic=synthetic))
        normals = torch.nn.functional.normalize(torch.randn(3, 64, 64), dim=0)
        samples.append(sample.set_data(dict(gt_normal_map=PixelData(data=normals))) or sample)
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    assert len(runs) == (1 if frozen else 2)
    assert all(value.isfinite() for value in losses.values())
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert any(p.grad is not None for p in model.exploiter.backbone.parameters()) is not frozen
