"""One token per image, that of its scene's class: on its way from the samples to the U-Net, with VPD's depth head."""

import copy

import pytest
import torch
from conftest import TINY_DIFFUSION
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models.backbones.feature_config import feature_config
from mmdiff2in1.models.decode_heads import vpd_depth_head  # noqa: F401  registers
from mmdiff2in1.models.losses import scale_invariant_log  # noqa: F401  registers
from mmdiff2in1.models.segmentors import scene_conditioned  # noqa: F401  registers
from mmdiff2in1.training.labelling_stage import check_teachers

SCENES = ['table', 'ball', 'red wall']
TASK = dict(type='Depth', max_depth=10.0)
# Four levels, as VPD's depth head needs; the latent has half the image's resolution.
DIFFUSION = copy.deepcopy(TINY_DIFFUSION)
DIFFUSION['unet'] |= dict(
    block_out_channels=(16, 16, 16, 16),
    down_block_types=('CrossAttnDownBlock2D',) * 3 + ('DownBlock2D',),
    up_block_types=('UpBlock2D',) + ('CrossAttnUpBlock2D',) * 3,
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights that every model of this module begins with."""
    from mmdiff2in1.generators import LatentDiffusion

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('weights')
    LatentDiffusion.from_config(DIFFUSION).save_folder(folder)
    return str(folder)


def backbone(weights, scenes=SCENES, **options):
    # Class names: one call of the text encoder where VPD's embeddings take eighty.
    feature = dict(preset='vpd_depth', prompt='class_names') | options.pop('feature', {})
    return dict(type='DiffusionBackbone', diffusion=weights, classes=list(scenes), feature=feature, **options)


def estimator(weights, test_cfg=None, **options):
    """16 pixels per U-Net multiple, cells of 8 pixels: images of 24 × 24 are padded to 32 × 32 and lose one cell."""
    head = dict(
        type='VPDDepthDecodeHead', task=TASK, stride=2, in_channels=[16] * 4, embed_dim=4, feature_dim=32,
        num_deconv_filters=(8, 8, 8), fmap_border=1,
    )  # fmt: skip
    return dict(
        type='SceneConditionedEstimator',
        data_preprocessor=dict(type='SegDataPreProcessor'),
        task=TASK,
        backbone=backbone(weights, **options),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
    )


def pictures(batch=3, height=24, width=24):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def samples(categories, size=(24, 24), synthetic=()):
    found = []
    for index, category in enumerate(categories):
        meta = dict(img_shape=size, ori_shape=size, img_path=f'{index}.png', synthetic=index in synthetic)
        sample = SegDataSample(metainfo=meta | ({} if category is None else dict(category_id=category)))
        depth = torch.rand(1, *size, generator=torch.Generator().manual_seed(index)) * 9
        sample.set_data(dict(gt_depth_map=PixelData(data=depth)))
        found.append(sample)
    return found


def built(config, seed=0):
    torch.manual_seed(seed)
    model = MODELS.build(config).eval()
    for name, parameter in model.named_parameters():
        if 'decode_head' in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)  # as initialised, near zero, all outputs look alike
    return model


# The backbone -----------------------------------------------------------------


def test_the_features_are_those_of_a_backbone_with_that_class_alone(weights):
    images = pictures()
    of_all = MODELS.build(backbone(weights, text_adapter=True)).eval()
    of_all.text_adapter.gamma.data.fill_(0.5)
    alone = MODELS.build(
        backbone(weights, ['red wall'], text_adapter=True, feature=dict(preset='vpd', map_levels=(), padding='kept'))
    ).eval()
    alone.text_adapter.load_state_dict(of_all.text_adapter.state_dict())
    with torch.no_grad():
        found, expected = of_all(of_all.conditioned(images, [2, 0, 2])), alone(images)
        other = of_all(of_all.conditioned(images, [1, 0, 2]))
    for level, level_alone in zip(found, expected, strict=True):
        torch.testing.assert_close(level[::2], level_alone[::2], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(level[1], level_alone[1], atol=1e-3)
    assert not torch.allclose(other[0][0], found[0][0], atol=1e-3), 'the class matters'
    assert torch.allclose(other[0][1:], found[0][1:], atol=1e-5), 'to its own image'


def test_the_frozen_part_ends_at_the_latents_and_classes_are_selected_with_them(weights):
    frozen_backbone = MODELS.build(backbone(weights)).eval()
    frozen = frozen_backbone.conditioned(frozen_backbone.frozen_features(pictures()), [2, 0, 1])
    assert frozen.pyramid is None
    for index in (torch.tensor([2, 0]), slice(1, 3), torch.tensor([True, False, True])):
        part = frozen[index]
        assert part.category.tolist() == torch.tensor([2, 0, 1])[index].tolist() and len(part) == 2
        for level, whole in zip(frozen_backbone(part), frozen_backbone(frozen), strict=True):
            torch.testing.assert_close(level, whole[index], atol=1e-5, rtol=1e-4)


def test_kept_padding_is_mid_grey_and_stays_in_the_pyramid(weights):
    images = pictures()
    kept = MODELS.build(backbone(weights)).eval()
    padded = torch.nn.functional.pad(images, (0, 8, 0, 8))
    found, expected = (kept(kept.conditioned(x, [0, 1, 2])) for x in (images, padded))
    assert [tuple(level.shape[-2:]) for level in found] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    cropped = MODELS.build(backbone(weights, feature=dict(preset='vpd_depth', padding='cropped'))).eval()
    found = cropped(cropped.conditioned(images, [0, 1, 2]))
    assert [tuple(level.shape[-2:]) for level in found] == [(12, 12), (6, 6), (3, 3), (2, 2)]


def test_what_cannot_be_is_refused(weights):
    for fields, message in (
        (dict(map_levels=(1,)), 'all attend to the one token'),
        (dict(prompt='empty'), 'no token of a class'),
        (dict(tokens='scene'), "unknown tokens 'scene'; known: all, category"),
        (dict(padding='none'), "unknown padding 'none'; known: cropped, kept"),
    ):
        with pytest.raises(ValueError, match=message):
            feature_config('vpd_depth', **fields)
    made = MODELS.build(backbone(weights)).eval()
    with pytest.raises(ValueError, match='needs the class of each image, found none; use SceneConditioned'):
        made(pictures())
    with pytest.raises(ValueError, match=r'categories \[0, 1, 3\] of 3 images.*0 … 2'):
        made.conditioned(pictures(), [0, 1, 3])
    with pytest.raises(ValueError, match=r'categories \[0\] of 3 images'):
        made.conditioned(pictures(), [0])


# The segmentor ----------------------------------------------------------------


def test_samples_bring_their_class(weights):
    model = built(estimator(weights))
    images, batch = pictures(), samples([2, 0, 1])
    found = model.predict(images, batch)
    for index, category in enumerate([2, 0, 1]):
        with torch.no_grad():
            features = model.backbone(model.backbone.conditioned(images[index : index + 1], [category]))
            (expected,) = model.decode_head.predict(features, [dict(img_shape=(24, 24))], None)
        torch.testing.assert_close(found[index].pred_depth_map.data, expected, atol=1e-4, rtol=1e-4)
        assert expected.shape == (1, 24, 24) and expected.std() > 0.01
    again = model.predict(model.backbone.frozen_features(images), samples([2, 0, 1]))
    other = model.predict(images, samples([2, 1, 1]))
    maps = [[one.pred_depth_map.data for one in each] for each in (found, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(maps[0], maps[1], strict=True))
    assert torch.allclose(maps[0][0], maps[2][0], atol=1e-5) and not torch.allclose(maps[0][1], maps[2][1], atol=1e-3)


def test_windows_and_mirrored_images_keep_their_class(weights):
    """Two windows over 24 × 32 and their mirror images, as VPD tests; against the average by hand."""
    test_cfg = dict(mode='slide', crop_size=(24, 24), stride=(24, 8), flip=True)
    model = built(estimator(weights, test_cfg))
    images = pictures(2, 24, 32)
    found = model.predict(images, samples([1, 2], (24, 32)))
    total, count = torch.zeros(2, 1, 24, 32), torch.zeros(32)
    metas = [dict(img_shape=torch.Size((24, 24)), category_id=category) for category in (1, 2)]
    with torch.no_grad():
        for left in (0, 8):
            window = images[..., left : left + 24]
            straight = model.encode_decode(window, metas)
            mirrored = model.encode_decode(window.flip(-1), metas).flip(-1)
            total[..., left : left + 24] += (straight + mirrored) / 2
            count[left : left + 24] += 1
    for one, expected in zip(found, total / count, strict=True):
        torch.testing.assert_close(one.pred_depth_map.data, expected, atol=1e-4, rtol=1e-5)


def test_a_sample_without_a_class_says_what_to_do(weights):
    model = built(estimator(weights))
    for category, value in ((None, 'missing'), (-1, '-1')):
        with pytest.raises(ValueError, match=f"1.png has no scene class .category_id is {value}.*'category_id' among"):
            model.loss(pictures(), samples([0, category, 1]))
    with pytest.raises(ValueError, match='has no scene class'):
        model.forward(pictures())
    with pytest.raises(ValueError, match='takes no classes'):
        MODELS.build(estimator(weights, feature=dict(preset='vpd', map_levels=())))


def test_an_image_that_was_created_has_the_class_it_is_given(weights):
    from types import SimpleNamespace

    model = built(estimator(weights, feature=dict(preset='vpd_depth', latent_scale=True)))
    latents = model.backbone.diffusion.encode(pictures(2, 32, 32), 'mode', True)
    creation = SimpleNamespace(latents=latents, images=pictures(2, 24, 24), last=None)
    metas = [dict(img_shape=(24, 24), category_id=category) for category in (1, 2)]
    with torch.no_grad():
        found = model.decode_head.predict_created(model, creation, metas)
        expected = model.encode_decode(pictures(2, 32, 32)[..., :24, :24], metas)
    assert found.shape == expected.shape == (2, 1, 24, 24)
    with pytest.raises(ValueError, match='has no scene class'):
        model.decode_head.predict_created(model, creation, [dict(img_shape=(24, 24))] * 2)


# Training ---------------------------------------------------------------------


def test_gradients_reach_the_adapter_and_the_unet(weights):
    model = built(estimator(weights, regime='finetune', text_adapter=True)).train()
    losses = model.loss(pictures(), samples([2, 0, 1]))
    assert list(losses) == ['decode.loss_silog']
    losses['decode.loss_silog'].backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split('.')[1] for name in trained} == {'diffusion', 'text_adapter', 'head'}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in trained.values())
    # With one token the attention to it is 1 whatever keys and queries say: theirs is zero, none is missing (DDP).
    silent = {name for name, gradient in trained.items() if not gradient.any()}
    assert silent and all(any(part in name for part in ('attn2.to_q', 'attn2.to_k', 'norm2')) for name in silent)


@pytest.mark.parametrize('synthetic', ((), (1,), (0, 2)))
def test_in_the_self_improving_loop(weights, synthetic):
    plain = built(estimator(weights, text_adapter=True)).train()
    model = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=estimator(weights, text_adapter=True)))
    for part in (model.exploiter, model.creator):
        part.load_state_dict(plain.state_dict())
    model.train()
    shown = {}
    for name in ('creator', 'exploiter'):
        seen = shown[name] = []
        getattr(model, name).backbone.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.extend(zip(inputs[0].latents, inputs[0].category.tolist(), strict=True))
        )
    images, categories = pictures(4), [2, 0, 1, 0]
    batch = samples(categories, synthetic=synthetic)
    losses = model.loss(images, batch)
    latents = plain.backbone.frozen_features(images).latents
    for name, expected in (('exploiter', {0, 1, 2, 3}), ('creator', set(synthetic))):
        found = {next(i for i, z in enumerate(latents) if torch.equal(z, latent)): c for latent, c in shown[name]}
        assert found == {index: categories[index] for index in expected}, f'θ of {name} saw each image with its scene'
    if not synthetic:
        expected = plain.loss(images, batch)
        assert list(losses) == list(expected)
        assert torch.equal(losses['decode.loss_silog'], expected['decode.loss_silog'])
        return
    assert losses['kept_share/depth'] == 1
    total = losses['real/decode.loss_silog'] + losses['synthetic/decode.loss_silog']
    assert total.isfinite() and total > 0
    total.backward()
    assert model.exploiter.backbone.text_adapter.gamma.grad.isfinite().all()
    assert all(parameter.grad is None for parameter in model.creator.parameters())


def test_a_teacher_that_must_be_told_the_scene_is_refused_before_a_store_is_made(weights, tmp_path):
    model = ConfigDict(estimator(weights))
    torch.save(dict(state_dict=MODELS.build(model).state_dict(), meta={}), tmp_path / 'teacher.pth')
    teacher = dict(config=dict(model=model), checkpoint=str(tmp_path / 'teacher.pth'))
    cfg = Config(dict(model=dict(type='SelfImprovingSegmentor', segmentor=model), stages=dict(labelling={})))
    cfg.stages.labelling = dict(teacher=teacher)
    with pytest.raises(ValueError, match='SceneConditionedEstimator, which must be told what each image shows'):
        check_teachers(cfg)
    cfg.stages.pop('labelling')
    cfg.model.label_rule = dict(type='TeacherLabel', teacher=teacher)
    check_teachers(cfg)
