"""DiffusionBackbone's finer levels against the VAE's encoder read by hooks, and a stem made by hand.

The tiny model: strides 2, 4, 8 of the U-Net with 8, 21, 21 channels (5 classes), stride 1 of the encoder with 8.
"""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_pipelines import stable_diffusion_3

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.generators import Creation
from mmdiff2in1.models import DiffusionBackbone

CLASSES = ['wall', 'floor', 'red ball', 'table', 'a wall and a floor']
BOTH = dict(encoder=True, stem=6)


@pytest.fixture
def make(tiny_diffusion_config):
    def build(**options) -> DiffusionBackbone:
        torch.manual_seed(0)
        options = dict(diffusion=tiny_diffusion_config, classes=CLASSES) | options
        return MODELS.build(dict(type='DiffusionBackbone', **options)).eval()

    return build


def pictures(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def before_downsampling(backbone: DiffusionBackbone, images: torch.Tensor) -> list[torch.Tensor]:
    """What diffusers' own encoder sends into its downsamplings."""
    seen, vae = [], backbone.diffusion.vae
    layers = [block.downsamplers[0] for block in vae.encoder.down_blocks if block.downsamplers]
    hooks = [layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in layers]
    with torch.no_grad():
        vae.encode(images)
    for hook in hooks:
        hook.remove()
    return seen


def stem_by_hand(backbone: DiffusionBackbone, images: torch.Tensor) -> list[torch.Tensor]:
    """Convolution, group norm of 2 groups (6 channels) and ReLU, twice at stride 1, twice at stride 2."""
    x, levels, state = images, [], backbone.detail.stem.state_dict()
    for level in range(2):
        for layer in range(2):
            name = f'levels.{level}.{layer}'
            stride = 2 if level and not layer else 1
            x = F.conv2d(x, state[f'{name}.conv.weight'], stride=stride, padding=1)
            groups = x.unflatten(1, (2, 3))
            mean = groups.mean((2, 3, 4), keepdim=True)
            deviation = (groups.var((2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
            x = ((groups - mean) / deviation).flatten(1, 2)
            x = x * state[f'{name}.gn.weight'][:, None, None] + state[f'{name}.gn.bias'][:, None, None]
            x = x.clamp(min=0)
        levels.append(x)
    return levels


def close(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def same(found, expected):
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# What it shows ----------------------------------------------------------------


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_the_encoders_level_stands_before_an_unchanged_pyramid(make, regime):
    plain, backbone, images = make(regime=regime), make(regime=regime, detail=dict(encoder=True)), pictures()
    assert plain.state_dict().keys() == backbone.state_dict().keys()
    with torch.no_grad():
        found = backbone(images)
        same(found[1:], plain(images))
    same(found[:1], before_downsampling(backbone, images))
    assert backbone.out_channels == [8, *plain.out_channels] and backbone.strides == [1, 2, 4, 8]


def test_levels_of_a_vae_of_three_widths(make, tiny_diffusion_config):
    """A latent at a quarter of the resolution, as the encoder's levels at strides 1 and 2."""
    vae = tiny_diffusion_config['vae'] | dict(
        block_out_channels=(8, 12, 16),
        down_block_types=('DownEncoderBlock2D',) * 3,
        up_block_types=('UpDecoderBlock2D',) * 3,
    )
    backbone = make(diffusion=tiny_diffusion_config | dict(vae=vae), detail=BOTH)
    images = pictures(1, 16, 32)
    assert backbone.strides == [1, 2, 4, 8, 16] and backbone.out_channels == [8 + 6, 12 + 6, 8, 21, 21]
    with torch.no_grad():
        found = backbone(images)
    same([found[0][:, :8], found[1][:, :12]], before_downsampling(backbone, images))
    close([found[0][:, 8:], found[1][:, 12:]], stem_by_hand(backbone, images))
    some = make(diffusion=tiny_diffusion_config | dict(vae=vae), detail=dict(encoder=[2]))
    assert some.strides == [2, 4, 8, 16] and some.out_channels == [12, 8, 21, 21]
    with torch.no_grad():
        same(some(images)[:1], before_downsampling(some, images)[1:])


def test_the_stem_by_hand(make):
    """It is a level of its own at stride 1, and stands behind the U-Net's channels at stride 2."""
    plain, backbone, images = make(), make(detail=dict(stem=6)), pictures()
    for parameter in backbone.detail.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    fine, half = stem_by_hand(backbone, images)
    with torch.no_grad():
        level_0, level_1, level_2 = plain(images)
        found = backbone(images)
    close(found, [fine, torch.cat([level_0, half], 1), level_1, level_2])


@pytest.mark.parametrize(
    ('detail', 'channels', 'strides'),
    [
        (None, [8, 21, 21], [2, 4, 8]),
        (dict(encoder=True), [8, 8, 21, 21], [1, 2, 4, 8]),
        (dict(encoder=[1]), [8, 8, 21, 21], [1, 2, 4, 8]),
        (dict(stem=5), [5, 8 + 5, 21, 21], [1, 2, 4, 8]),
        (dict(stem=[5]), [5, 8, 21, 21], [1, 2, 4, 8]),
        (dict(stem=[5, 6, 7, 8, 9]), [5, 8 + 6, 21 + 7, 21 + 8, 9], [1, 2, 4, 8, 16]),
        (BOTH, [8 + 6, 8 + 6, 21, 21], [1, 2, 4, 8]),
        (dict(encoder=True, stem=[16, 24]), [8 + 16, 8 + 24, 21, 21], [1, 2, 4, 8]),
    ],
)
def test_channels_and_strides_are_those_of_the_levels(make, detail, channels, strides):
    backbone = make(detail=detail)
    assert backbone.out_channels == channels and backbone.strides == strides
    with torch.no_grad():
        found = backbone(pictures(1, 13, 24))
    assert [level.shape[1] for level in found] == channels
    assert [tuple(level.shape[-2:]) for level in found] == [(-(-13 // s), -(-24 // s)) for s in strides]
    assert all(level.dtype == torch.float32 and level.is_contiguous() for level in found)


@pytest.mark.parametrize('size', [(37, 53), (8, 8), (1, 1), (9, 16)])
def test_any_size_is_seen_as_part_of_a_padded_image(make, size):
    backbone, images = make(detail=BOTH), pictures(2, *size)
    whole = F.pad(images, (0, -size[1] % 8, 0, -size[0] % 8), mode='replicate')
    with torch.no_grad():
        expected = backbone(whole)
        found = backbone(images)
    close(found, [x[..., : -(-size[0] // s), : -(-size[1] // s)] for x, s in zip(expected, (1, 2, 4, 8), strict=True)])


def test_kept_padding_is_kept_in_the_finer_levels(make):
    feature = dict(preset='vpd_depth')
    backbone, images = make(detail=BOTH, feature=feature, regime='finetune'), pictures(2, 13, 21)
    grey = F.pad(images, (0, 3, 0, 3))
    with torch.no_grad():
        found = backbone(backbone.conditioned(images, [1, 0]))
    assert [tuple(level.shape[-2:]) for level in found] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    same([found[0][:, :8]], before_downsampling(backbone, grey))
    close([found[0][:, 8:], found[1][:, 8:]], stem_by_hand(backbone, grey))


def test_bfloat16_of_the_encoder_and_a_stem_in_single_precision(make):
    exact, rough, images = make(detail=BOTH), make(detail=BOTH, bf16=True), pictures()
    with torch.no_grad():
        expected, found = exact(images), rough(images)
    assert all(level.dtype == torch.float32 for level in found)
    assert torch.equal(found[0][:, 8:], expected[0][:, 8:])
    a, b = found[0][:, :8], expected[0][:, :8]
    assert not torch.equal(a, b) and (a - b).square().mean().sqrt() < 0.03 * b.square().mean().sqrt()


# Frozen and trained parts -----------------------------------------------------


@pytest.mark.parametrize('options', [{}, dict(regime='finetune'), dict(text_adapter=True)])
@pytest.mark.parametrize('feature', [{}, dict(posterior='sample', noise=True, timestep=300)])
@pytest.mark.parametrize('training', [False, True])
def test_frozen_part_then_the_rest_is_the_whole(make, options, feature, training):
    backbone = make(detail=BOTH, feature=feature, **options).train(training)
    images = pictures(3, 13, 24)
    torch.manual_seed(7)
    whole = backbone(images)
    torch.manual_seed(7)
    frozen = backbone.frozen_features(images)
    same(backbone(frozen), whole)
    assert frozen.size == (13, 24) and frozen.images.shape == (3, 3, 16, 24)
    assert len(frozen.levels) == (1 if options else 0) and (frozen.pyramid is None) == bool(options)
    assert not any(level.requires_grad for level in (*(frozen.pyramid or frozen.levels), frozen.images))
    for index in (torch.tensor([2, 0]), torch.tensor([True, False, True]), slice(1, 3)):
        close(backbone(frozen[index]), [level[index] for level in whole])
    assert len(frozen[torch.zeros(3, dtype=torch.bool)].images) == 0


@pytest.mark.parametrize('detail', [dict(encoder=True), dict(stem=6), BOTH])
@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_what_is_trained_gets_a_gradient(make, regime, detail):
    backbone = make(detail=detail, regime=regime).train()
    assert backbone.detail.training and not any(m.training for f in backbone.frozen_modules() for m in f.modules())
    levels = backbone(pictures(1, 16, 16))
    assert levels[0].requires_grad == ('stem' in detail)
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert {name.split('.')[0] for name in trained} == {
        *(['detail'] if 'stem' in detail else []),
        *(['diffusion'] if regime == 'finetune' else []),
    }
    if trained:
        sum(level.square().sum() for level in levels).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    assert not any(p.grad is not None for p in backbone.diffusion.vae.parameters())
    assert not any(module.training for module in backbone.eval().modules())


@pytest.fixture(params=['frozen', 'finetune'])
def self_improving(request, tiny_diffusion_config):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    head = dict(type='UShapedHead', in_channels=[14, 14, 21, 21], widths=8, num_classes=5, dropout_ratio=0)
    segmentor = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 16)),
        backbone=dict(
            type='DiffusionBackbone', diffusion=tiny_diffusion_config, classes=CLASSES, detail=BOTH,
            regime=request.param,
        ),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    model = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=segmentor))
    model.init_weights()
    model.regime = request.param
    return model.train()


def batch(kinds: list[bool]):
    generator, samples = torch.Generator().manual_seed(1), []
    for synthetic in kinds:
        shape = dict(img_shape=(16, 16), ori_shape=(16, 16), pad_shape=(16, 16))
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, **shape))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, 16, 16), generator=generator))
        samples.append(sample)
    return torch.rand(len(kinds), 3, 16, 16, generator=generator) * 2 - 1, samples


def test_the_encoder_runs_once_for_both_models_and_each_has_a_stem(self_improving):
    model, calls = self_improving, Counter()
    backbones = dict(exploiter=model.exploiter.backbone, creator=model.creator.backbone)
    assert backbones['exploiter'].diffusion.vae is backbones['creator'].diffusion.vae
    backbones['exploiter'].diffusion.vae.encoder.conv_in.register_forward_hook(lambda *_: calls.update(vae=1))
    for name, backbone in backbones.items():
        backbone.detail.stem.register_forward_hook(lambda *_, name=name: calls.update({name: 1}))
    losses = model.loss(*batch([False, False, True]))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert calls == dict(vae=1, exploiter=1, creator=1)
    stems = [dict(backbone.detail.named_parameters()) for backbone in backbones.values()]
    for name, of_exploiter in stems[0].items():
        of_creator = stems[1][name]
        assert of_exploiter is not of_creator and torch.equal(of_exploiter, of_creator)
        assert of_exploiter.grad.abs().sum() > 0 and of_creator.grad is None and not of_creator.requires_grad


def test_the_stem_is_averaged_and_kept(self_improving):
    model = self_improving
    tensors = model.ema_tensors()
    averaged = {
        id(a): b for a, b in zip(tensors.averaged_exploiter, tensors.averaged_creator, strict=True)
    }  # θ_E → θ_C
    own = zip(model.exploiter.backbone.detail.parameters(), model.creator.backbone.detail.parameters(), strict=True)
    assert all(averaged[id(a)] is b for a, b in own)
    for parameter in model.exploiter.backbone.detail.parameters():
        parameter.data += 1
    state = copy.deepcopy(model.state_dict())
    name = 'backbone.detail.stem.levels.1.0.conv.weight'
    assert torch.equal(state[f'exploiter.{name}'], state[f'creator.{name}'] + 1)
    images, _ = batch([True, True])
    with torch.no_grad():
        expected = model.exploiter.eval().backbone(images)
        for parameter in model.exploiter.backbone.detail.parameters():
            parameter.data += 1
        model.load_state_dict(state)
        same(model.exploiter.backbone(images), expected)


# Created images ---------------------------------------------------------------


@pytest.mark.parametrize('detail', [dict(encoder=True), dict(stem=6), BOTH])
@pytest.mark.parametrize('size', [(16, 24), (13, 24)])
def test_a_reconstruction_is_seen_as_the_image_itself(make, detail, size):
    """The latents of an image under the image, passed off as a creation."""
    backbone, images = make(detail=detail), pictures()
    with torch.no_grad():
        made = Creation(images, backbone.diffusion.encode(images), [])
        expected = [x[..., : -(-size[0] // s), :] for x, s in zip(backbone(images), backbone.strides, strict=True)]
        close(backbone(backbone.created_features(made, size)), expected)


def test_a_created_image_shows_its_pixels_and_its_latent(make):
    plain, backbone = make(), make(detail=BOTH)
    made = backbone.diffusion.create(pictures(), captions=['a wall', 'a red ball'], seeds=[0, 1], num_calls=2)
    with torch.no_grad():
        level_0, level_1, level_2 = plain(plain.created_features(made, (16, 24)))
        (encoder,) = before_downsampling(backbone, made.images)
        fine, half = stem_by_hand(backbone, made.images)
        found = backbone(backbone.created_features(made, (16, 24)))
    close(found, [torch.cat([encoder, fine], 1), torch.cat([level_0, half], 1), level_1, level_2])


def test_released_reading_with_finer_levels(make):
    options = dict(feature=dict(preset='released'), classes=None)
    plain, backbone = make(**options), make(detail=BOTH, **options)
    made = backbone.diffusion.create(
        pictures(), captions=['a wall', ''], seeds=[0, 1], num_calls=2, record=backbone.wanted()
    )
    with torch.no_grad():
        level_0, *others = plain(plain.created_features(made, (16, 24), 'released'))
        (encoder,) = before_downsampling(backbone, made.images)
        fine, half = stem_by_hand(backbone, made.images)
        found = backbone(backbone.created_features(made, (16, 24), 'released'))
    close(found, [torch.cat([encoder, fine], 1), torch.cat([level_0, half], 1), *others])


# Other models and settings ----------------------------------------------------


def test_stable_diffusion_3_has_them_too(tmp_path):
    """Patches at stride 4; the encoder's level and the stem's at 1, the stem's at 2."""
    stable_diffusion_3().save_pretrained(tmp_path)
    feature = dict(preset='released', timestep=100)
    torch.manual_seed(0)
    backbone = DiffusionBackbone(str(tmp_path), feature=feature, detail=BOTH).eval()
    plain, images = DiffusionBackbone(str(tmp_path), feature=feature).eval(), pictures(2, 14, 24)
    assert backbone.strides == [1, 2, 4] and backbone.out_channels == [32 + 6, 6, 64]
    padded = F.pad(images, (0, 0, 0, 2), mode='replicate')
    with torch.no_grad():
        fine, half, coarse = backbone(images)
        same([coarse], plain(images))
    same([fine[:, :32]], [before_downsampling(backbone, padded)[0][:, :, :14]])
    stem = stem_by_hand(backbone, padded)
    close([fine[:, 32:], half], [stem[0][:, :, :14], stem[1][:, :, :7]])


@pytest.mark.parametrize(
    ('detail', 'message'),
    [
        ({}, 'detail asks for no level; set encoder=True, stem=16 or both'),
        (dict(encoder=False, stem=[]), 'detail asks for no level'),
        (dict(encoder=[2]), r'detail.encoder=\[2\]: the encoder of this model has levels of strides \[1\]'),
        (dict(encoder=[1, 1]), 'each once'),
        (dict(stem=0), 'detail.stem=0: expected a number of channels'),
        (dict(stem=[4, -1]), r'detail.stem=\[4, -1\]'),
        (dict(steam=4), r"unknown detail fields \['steam'\]; known: encoder, stem"),
    ],
)
def test_impossible_settings_say_why(make, detail, message):
    with pytest.raises(ValueError, match=message):
        make(detail=detail)
