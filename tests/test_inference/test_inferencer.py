"""The inferencer on tiny models with random weights: what it sees, what it creates, what it refuses.

K = 3 classes. The U-Net of the tiny diffusion model needs image sides that are multiples of 8.
"""

import copy
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS
from PIL import Image
from safetensors.torch import save_file

from mmdiff2in1.core.images import from_model, resize_image, to_model
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.models.checkpoints import read_checkpoint

# By its path: `conftest` is the name of several files here.
TINY_DIFFUSION = runpy.run_path(str(Path(__file__).parents[1] / 'conftest.py'))['TINY_DIFFUSION']
K = 3
CLASSES = ('floor', 'wall', 'red ball')
PALETTE = [[150, 110, 70], [1, 2, 3], [200, 0, 9]]
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=(16, 16))


def head(**settings):
    plain = dict(
        type='FCNHead', in_channels=19, in_index=1, channels=8, num_convs=1, num_classes=K, dropout_ratio=0,
        concat_input=False, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    return plain | settings


def perceiving(decode_head=None, feature=None, **settings):
    """A plain segmentor on diffusion features."""
    backbone = dict(
        type='DiffusionBackbone', diffusion=copy.deepcopy(TINY_DIFFUSION), classes=CLASSES,
        feature=dict(latent_scale=True, timestep=50) | (feature or {}),
    )  # fmt: skip
    return dict(
        type='EncoderDecoder', data_preprocessor=PREPROCESSOR, backbone=backbone,
        decode_head=decode_head or dict(type='GenerativeDecodeHead', head=head()),
        train_cfg=dict(), test_cfg=dict(mode='whole'),
    ) | settings  # fmt: skip


def without_diffusion():
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1,), norm_cfg=dict(type='BN'),
    )  # fmt: skip
    return perceiving(backbone=backbone, decode_head=head(in_channels=8, in_index=0))


def config(model=None, self_improving=True, pipeline=(), **stages):
    model = model or perceiving()
    loaders = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    steps = [*loaders, *pipeline, dict(type='PackSegInputs')]
    return Config(
        dict(
            custom_imports=dict(imports=['mmdiff2in1.components'], allow_failed_imports=False),
            default_scope='mmseg',
            model=dict(type='SelfImprovingSegmentor', segmentor=model) if self_improving else model,
            test_pipeline=steps,
            test_dataloader=dict(
                dataset=dict(type='BaseSegDataset', metainfo=dict(classes=CLASSES, palette=PALETTE), pipeline=steps)
            ),
            stages=dict(synthesis=dict(T=600, num_calls=3, solver='ddim', size=16) | stages),
        )
    )


def randomised(cfg, seed=0):
    """The model of a config with reproducible weights; θ_E unlike θ_C, as long as trained weights would be."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(seed)
        model = MODELS.build(copy.deepcopy(cfg.model))
    heads = [each.decode_head for each in (getattr(model, 'creator', model), getattr(model, 'exploiter', None)) if each]
    for i, each in enumerate(heads):
        generator = torch.Generator().manual_seed(seed + i)
        for parameter in each.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.eval()


def write(model, path, **more):
    """A checkpoint as mmengine writes it."""
    hub = dict(log_scalars={'train/loss': HistoryBuffer([0.5, 0.25], [1, 1])}, best=np.float64(3.5))
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE), iter=7)
    torch.save(dict(meta=meta, state_dict=model.state_dict(), message_hub=hub) | more, path)
    return path


@pytest.fixture
def saved(tmp_path):
    """saved(cfg) → (model, path of its checkpoint)."""

    def save(cfg):
        model = randomised(cfg)
        return model, write(model, tmp_path / 'model.pth')

    return save


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """The self-improving model on diffusion features, and an inferencer with its checkpoint: they take a while."""
    cfg = config()
    model = randomised(cfg)
    checkpoint = write(model, tmp_path_factory.mktemp('scenes') / 'model.pth')
    return SimpleNamespace(
        cfg=cfg, model=model, checkpoint=checkpoint, inferencer=Diff2in1Inferencer(cfg, checkpoint, device='cpu')
    )


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_hand(segmentor, image):
    """Logits (1, K, H, W) of the segmentor's own `encode_decode`; `image` uint8 RGB."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    size = image.shape[:2]
    with torch.no_grad():
        return segmentor.encode_decode(x, [dict(ori_shape=size, img_shape=size, pad_shape=size)])


def balance(segmentor, image, middle=0.0):
    """Move the head's biases so that the median of every channel's logits is `middle`: no class wins everywhere."""
    medians = by_hand(segmentor, image).flatten(2).median(-1).values[0]
    segmentor.decode_head.conv_seg.bias.data += middle - medians


# --- perceiving ------------------------------------------------------------------------------------------------------


def test_a_model_says_what_it_is(scenes):
    size = sum(each.numel() for each in scenes.model.creator.parameters()) / 1e6
    kind = type(scenes.model.creator).__name__
    assert repr(scenes.inferencer) == f'Diff2in1Inferencer({kind}, {size:.1f} M parameters; sees semantic_segmentation)'


def test_the_map_is_the_argmax_of_the_segmentors_own_logits_at_the_images_size(scenes):
    images = [noise(37, 53), noise(16, 16, 1), noise(8, 40, 2), noise(16, 16, 3), noise(37, 53, 4)]
    seen = scenes.inferencer(images, batch_size=2)
    classes = set()
    for image, one in zip(images, seen, strict=True):
        probability = by_hand(scenes.model.creator, image).softmax(1)[0]
        assert one.map.shape == image.shape[:2] and one.map.dtype == np.uint8
        agreeing = one.map == probability.argmax(0).numpy()
        assert agreeing.mean() > 0.999  # a batch of two differs from a single image in the last bit
        np.testing.assert_allclose(one.confidence, probability.amax(0).numpy(), atol=1e-4)
        np.testing.assert_array_equal(one.image, image)
        np.testing.assert_array_equal(one.colours, np.array(PALETTE, np.uint8)[one.map])
        classes |= set(one.map.ravel().tolist())
    assert len(classes) > 1


def test_the_result_is_that_of_mmsegs_own_inference(saved):
    cfg = config(without_diffusion(), pipeline=[dict(type='Resize', scale=(24, 16), keep_ratio=False)])
    model, checkpoint = saved(cfg)
    image = noise(30, 41)
    balance(model.creator, image)
    write(model, checkpoint)
    expected = inference_model(init_model(copy.deepcopy(cfg), str(checkpoint), device='cpu'), image[..., ::-1].copy())
    one = Diff2in1Inferencer(cfg, checkpoint, device='cpu')(image)[0]
    np.testing.assert_array_equal(one.map, expected.pred_sem_seg.data[0].numpy())
    assert one.map.shape == (30, 41)


def test_padding_of_the_preprocessor_is_cut_off_again(saved):
    padding = PREPROCESSOR | dict(test_cfg=dict(size_divisor=32), pad_val=0)
    cfg = config(without_diffusion() | dict(data_preprocessor=padding), self_improving=False)
    model, checkpoint = saved(cfg)
    image = noise(20, 30)
    padded = np.full((32, 32, 3), 127.5, np.float64)  # the preprocessor pads after normalising
    padded[:20, :30] = image
    expected = by_hand(model, padded)[0, :, :20, :30].argmax(0)
    one = Diff2in1Inferencer(cfg, checkpoint, device='cpu')(image)[0]
    assert (one.map == expected.numpy()).mean() > 0.999


def test_creator_and_exploiter_are_each_what_they_are_alone(saved):
    cfg, plain = (config(without_diffusion(), self_improving) for self_improving in (True, False))
    model, checkpoint = saved(cfg)
    torch.save(dict(state_dict=model.exploiter.state_dict()), checkpoint.with_name('theta_e.pth'))
    torch.save(dict(state_dict=model.creator.state_dict()), checkpoint.with_name('theta_c.pth'))
    image = noise(24, 24)

    def seen(*args, **kwargs):
        return Diff2in1Inferencer(*args, device='cpu', **kwargs)(image)[0].confidence

    by_creator, by_exploiter = seen(cfg, checkpoint), seen(cfg, checkpoint, model='exploiter')
    assert not np.allclose(by_creator, by_exploiter)
    np.testing.assert_array_equal(by_creator, seen(plain, checkpoint.with_name('theta_c.pth')))
    np.testing.assert_array_equal(by_exploiter, seen(plain, checkpoint.with_name('theta_e.pth')))
    # A plain config takes the one that ships; a plain checkpoint fills both.
    np.testing.assert_array_equal(by_creator, seen(plain, checkpoint))
    for which in ('creator', 'exploiter'):
        np.testing.assert_array_equal(by_exploiter, seen(cfg, checkpoint.with_name('theta_e.pth'), model=which))


def test_every_form_of_an_image_gives_the_same_result(saved, tmp_path):
    cfg = config(without_diffusion())
    inferencer = Diff2in1Inferencer(cfg, saved(cfg)[1], device='cpu')
    image, folder = noise(16, 24), tmp_path / 'photos'
    folder.mkdir()
    for name in ('b.png', 'a.png', 'notes.txt'):
        Image.fromarray(image).save(folder / name, format='png')
    rgba = np.dstack([image, np.full((16, 24), 9, np.uint8)])
    forms = [
        image,
        str(folder / 'a.png'),
        folder / 'b.png',
        Image.fromarray(image),
        rgba,
        Image.fromarray(rgba),
        folder,
    ]
    seen = inferencer(forms, batch_size=1)
    names = [None, 'a.png', 'b.png', None, None, None, 'a.png', 'b.png']
    assert [one.path and one.path.split('/')[-1] for one in seen] == names
    for one in seen:
        np.testing.assert_array_equal(one.image, image)
        np.testing.assert_array_equal(one.map, seen[0].map)
    wide = noise(16, 32)
    many = [image, folder, wide, image]  # sizes change on the way
    whole = inferencer(many, batch_size=2)
    in_turn = inferencer.iterate(many, batch_size=2)
    for one, other in zip(in_turn, whole, strict=True):
        assert one.path == other.path
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.map, other.map)
    with pytest.raises(ValueError, match='batch_size is 0'):
        inferencer.iterate(many, batch_size=0)
    grey = image[..., 0]
    greys = inferencer([grey, grey[..., None], Image.fromarray(grey)], batch_size=1)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for one in [*greys, *inferencer(deep)]:
        np.testing.assert_array_equal(one.image, np.dstack([grey] * 3))
        np.testing.assert_array_equal(one.map, greys[0].map)


@pytest.mark.parametrize(
    ('bad', 'error', 'message'),
    [
        ('missing.png', FileNotFoundError, 'missing.png'),
        ('cut.png', ValueError, 'cut.png'),
        ('empty', FileNotFoundError, 'empty holds no images'),
        ([], ValueError, 'no images'),
        (np.zeros((4, 4, 3)), TypeError, 'float64; expected uint8'),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r'\(4, 4, 2\); expected'),
        (7, TypeError, 'is a int'),
    ],
)
def test_what_is_no_image_is_found_before_the_model_runs(saved, tmp_path, monkeypatch, bad, error, message):
    cfg = config(without_diffusion())
    inferencer = Diff2in1Inferencer(cfg, saved(cfg)[1], device='cpu')
    monkeypatch.setattr(inferencer.segmentor, 'inference', lambda *_: pytest.fail('the model ran'))
    Image.fromarray(noise(16, 16)).save(tmp_path / 'good.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'good.png').read_bytes()[:400])
    (tmp_path / 'empty').mkdir()
    given = [tmp_path / 'good.png', tmp_path / bad] if isinstance(bad, str) else bad
    with pytest.raises(error, match=message):
        inferencer(given)


@pytest.mark.parametrize('self_improving', [True, False])
def test_a_depth_model_gives_metres(saved, self_improving):
    depth_head = head(in_channels=8, in_index=0, num_classes=1, threshold=0.5)
    cfg = config(without_diffusion() | dict(decode_head=depth_head), self_improving)
    if self_improving:
        cfg.model.task = dict(type='Depth', max_depth=10.0)
    else:
        cfg.model.type = 'DepthEstimator'
    model, checkpoint = saved(cfg)
    segmentor, image = getattr(model, 'creator', model), noise(16, 24)
    balance(segmentor, image, 10.0)
    write(model, checkpoint)
    one = Diff2in1Inferencer(cfg, checkpoint, device='cpu')(image)[0]
    metres = by_hand(segmentor, image)[0, 0]
    assert one.map.dtype == np.float32 and one.confidence is None and one.colours.shape == (16, 24, 3)
    np.testing.assert_allclose(one.map, metres.clamp(0, 10).numpy(), atol=1e-5)
    assert 0.3 < (one.map == 10).mean() < 0.7


def test_one_logit_for_two_classes(saved):
    binary = head(in_channels=8, in_index=0, num_classes=2, out_channels=1, threshold=0.7)
    binary['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    cfg = config(without_diffusion() | dict(decode_head=binary), self_improving=False)
    model, checkpoint = saved(cfg)
    image = noise(16, 24)
    balance(model, image, 0.85)  # sigmoid(0.85) is 0.7
    write(model, checkpoint)
    one = Diff2in1Inferencer(cfg, checkpoint, device='cpu')(image)[0]
    np.testing.assert_array_equal(one.map, (by_hand(model, image)[0, 0].sigmoid() > 0.7).numpy())
    assert set(np.unique(one.map)) == {0, 1}


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Exploit:
    def __reduce__(self):
        return os.system, ('false',)


def test_a_checkpoint_is_read_without_running_what_is_in_it(saved):
    cfg = config(without_diffusion())
    model, checkpoint = saved(cfg)
    with pytest.raises(Exception, match='HistoryBuffer'):
        torch.load(checkpoint, weights_only=True)
    found = read_checkpoint(checkpoint)
    assert found['meta']['iter'] == 7 and found['state_dict'].keys() == model.state_dict().keys()
    assert HistoryBuffer not in torch.serialization.get_safe_globals()
    unsafe = write(model, checkpoint.with_name('unsafe.pth'), other=Exploit())
    with pytest.raises(ValueError, match=r'unsafe\.pth holds posix\.system, .*save it anew'):
        Diff2in1Inferencer(cfg, unsafe, device='cpu')


def test_damaged_and_foreign_files(saved, tmp_path):
    cfg = config(without_diffusion())
    _, checkpoint = saved(cfg)
    (tmp_path / 'cut.pth').write_bytes(checkpoint.read_bytes()[:5000])
    torch.save(dict(meta={}, state_dict={}), tmp_path / 'empty.pth')
    for name, error, message in (
        ('none.pth', FileNotFoundError, 'none.pth does not exist'),
        ('cut.pth', ValueError, 'cut.pth cannot be read'),
        ('empty.pth', ValueError, 'expected a state dict'),
    ):
        with pytest.raises(error, match=message):
            Diff2in1Inferencer(cfg, tmp_path / name, device='cpu')


def test_missing_and_unexpected_keys_are_listed(saved, tmp_path):
    for self_improving, prefix in ((True, 'creator.'), (False, '')):
        cfg = config(without_diffusion(), self_improving)
        model, checkpoint = saved(cfg)
        state = model.state_dict()
        del state[f'{prefix}decode_head.conv_seg.bias']
        if self_improving:
            del state['exploiter.decode_head.conv_seg.bias']
        state[f'{prefix}neck.weight'] = torch.zeros(1)
        torch.save(dict(state_dict=state), tmp_path / 'other.pth')
        with pytest.raises(RuntimeError) as error:
            Diff2in1Inferencer(cfg, tmp_path / 'other.pth', device='cpu')
        assert f'missing {1 + self_improving}: ' in str(error.value)
        assert f'{prefix}decode_head.conv_seg.bias' in str(error.value)
        assert f'unexpected 1: {prefix}neck.weight' in str(error.value)
    state['decode_head.conv_seg.bias'] = torch.zeros(K + 1)
    with pytest.raises(RuntimeError, match='conv_seg.bias'):
        torch.save(dict(state_dict=state), tmp_path / 'other.pth')
        Diff2in1Inferencer(cfg, tmp_path / 'other.pth', device='cpu')


def test_frozen_weights_that_both_share_may_be_absent(saved, tmp_path, tiny_diffusion):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    model = perceiving()
    model['backbone']['diffusion'] = str(tmp_path / 'weights')
    for self_improving in (True, False):
        cfg = config(model, self_improving)
        built, checkpoint = saved(cfg)
        whole = Diff2in1Inferencer(cfg, checkpoint, device='cpu')(noise(16, 16))[0]
        light = {name: tensor for name, tensor in built.state_dict().items() if '.diffusion.' not in f'.{name}'}
        assert len(light) < len(built.state_dict()) / 2
        torch.save(dict(state_dict=light), tmp_path / 'light.pth')
        save_file({name: tensor.contiguous() for name, tensor in light.items()}, tmp_path / 'light.safetensors')
        for name in ('light.pth', 'light.safetensors'):
            one = Diff2in1Inferencer(cfg, tmp_path / name, device='cpu')(noise(16, 16))[0]
            np.testing.assert_array_equal(one.confidence, whole.confidence)
            np.testing.assert_array_equal(one.colours, whole.colours)  # the palette is the test set's


def test_which_model():
    with pytest.raises(ValueError, match="no model 'ema'; known: creator, exploiter"):
        Diff2in1Inferencer(config(without_diffusion()), model='ema')
    with pytest.raises(ValueError, match='the config holds one EncoderDecoder'):
        Diff2in1Inferencer(config(without_diffusion(), self_improving=False), model='exploiter')


# --- creating --------------------------------------------------------------------------------------------------------

PIXELS = ('image', 'map', 'confidence', 'colours')


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in PIXELS)


@pytest.mark.parametrize(('created', 'calls_for_the_map'), [('perceive', 1), ('released', 0)])
def test_a_prompt_becomes_an_image_and_the_map_of_its_latent(saved, scenes, created, calls_for_the_map):
    model, inferencer = scenes.model, scenes.inferencer
    if created == 'released':  # it knows no class maps: a caption stands where the class names are
        released = dict(type='GenerativeDecodeHead', head=head(in_channels=16), created=created)
        cfg = config(perceiving(released, feature=dict(map_levels=())))
        model, checkpoint = saved(cfg)
        inferencer = Diff2in1Inferencer(cfg, checkpoint, device='cpu')
    assert inferencer.diffusion is inferencer.segmentor.backbone.diffusion
    made = inferencer.generate(['a red ball', 'a table'], seeds=[5, 6], guidance_scale=1.5, size=(16, 24))
    backbone = model.creator.backbone
    creation = backbone.diffusion.create(
        captions=['a red ball', 'a table'], seeds=[5, 6], T=1000, num_calls=3, solver='ddim', guidance_scale=1.5,
        size=(16, 24), record=backbone.wanted() if created == 'released' else None,
    )  # fmt: skip
    frozen = backbone.created_features(creation, (16, 24), created)
    with torch.no_grad():
        logits = F.interpolate(
            model.creator.decode_head.head(model.creator.extract_feat(frozen)), (16, 24), mode='bilinear'
        )
    for i, one in enumerate(made):
        np.testing.assert_array_equal(one.image, from_model(creation.images)[i])
        np.testing.assert_array_equal(one.map, logits[i].argmax(0).numpy())
        np.testing.assert_allclose(one.confidence, logits[i].softmax(0).amax(0).numpy(), atol=1e-6)
        np.testing.assert_array_equal(one.colours, np.array(PALETTE, np.uint8)[one.map])
        assert one.recipe() == dict(
            source=None, caption=['a red ball', 'a table'][i], seed=5 + i, T=1000, grid='even', num_calls=3,
            solver='ddim', guidance_scale=1.5, calls=3, perception_calls=calls_for_the_map, size=[16, 24],
        )  # fmt: skip
    assert any(len(np.unique(one.map)) > 1 for one in made)


def test_the_seed_decides_and_theta_e_sees_it_differently(scenes):
    inferencer = scenes.inferencer
    first = inferencer.generate('a red ball', seeds=[3, 4, 3])
    again = inferencer.generate('a red ball', seeds=[3, 4, 3])
    assert all(same(one, other) for one, other in zip(first, again, strict=True))
    assert np.abs(first[0].image.astype(int) - first[2].image).max() <= 1
    assert not np.array_equal(first[0].image, first[1].image)
    assert first[0].image.shape == (16, 16, 3)  # the size of stages.synthesis
    assert first[0].guidance_scale == 2.0
    alone = inferencer.generate('a red ball', seeds=4, batch_size=1)[0]
    assert np.abs(alone.image.astype(int) - first[1].image).max() <= 1
    by_exploiter = Diff2in1Inferencer(scenes.cfg, scenes.checkpoint, 'exploiter', 'cpu').generate(
        'a red ball', seeds=[3, 4, 3]
    )
    np.testing.assert_array_equal(by_exploiter[0].image, first[0].image)  # the frozen U-Net is shared
    assert not np.allclose(by_exploiter[0].confidence, first[0].confidence)


def test_images_are_varied_at_the_configs_noise_level_and_size(scenes):
    model, inferencer = scenes.model, scenes.inferencer
    images = [noise(32, 48), noise(16, 16, 1)]
    made = inferencer.generate(images=images, captions='a table', seeds=8)
    assert [(one.seed, one.T, one.guidance_scale, one.caption) for one in made] == [
        (8, 600, 1.0, 'a table'),
        (9, 600, 1.0, 'a table'),
    ]
    sources = [resize_image(images[0], (16, 24)), images[1]]
    for i, (one, source) in enumerate(zip(made, sources, strict=True)):
        np.testing.assert_array_equal(one.source, source)
        creation = model.creator.backbone.diffusion.create(
            to_model([source]), captions=['a table'], seeds=[8 + i], T=600, num_calls=3, solver='ddim'
        )
        np.testing.assert_array_equal(one.image, from_model(creation.images)[0])
        assert one.map.shape == source.shape[:2]
    near = inferencer.generate(images=images[1], T=1, num_calls=1)[0]
    far = inferencer.generate(images=images[1], T=900)[0]
    assert (near.T, near.calls, near.caption, far.T) == (1, 1, '', 900)
    own_size = inferencer.generate(images=images[0], size=32)[0]
    assert own_size.image.shape == (32, 48, 3)


def test_a_config_that_draws_its_noise_level_stands_for_the_middle(scenes, monkeypatch):
    monkeypatch.setitem(scenes.inferencer.cfg.stages.synthesis, 'T', dict(low=200, high=600))
    made = scenes.inferencer.generate(images=noise(16, 16))
    assert made[0].T == 400


def test_pixels_are_perceived_where_the_latent_is_not_the_models_own(saved, scenes, tmp_path, tiny_diffusion):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    resnet = config(without_diffusion(), self_improving=False)
    resnet_of_stages = config(without_diffusion(), diffusion=str(tmp_path / 'weights'))
    for cfg, checkpoint, options in (
        (resnet, saved(resnet)[1], dict(diffusion=tmp_path / 'weights')),
        (resnet_of_stages, None, {}),
        (scenes.cfg, scenes.checkpoint, dict(diffusion=tmp_path / 'weights')),
    ):
        inferencer = Diff2in1Inferencer(cfg, checkpoint, device='cpu', **options)
        assert isinstance(inferencer.diffusion, LatentDiffusion)
        assert inferencer.diffusion.weights_hash() == tiny_diffusion.weights_hash()
        one = inferencer.generate('a red ball', seeds=2)[0]
        seen = inferencer(one.image)[0]
        np.testing.assert_array_equal(one.map, seen.map)
        assert one.perception_calls == 1


def test_a_model_that_has_nothing_to_create_with(saved):
    cfg = config(without_diffusion(), self_improving=False)
    cfg.pop('stages')
    inferencer = Diff2in1Inferencer(cfg, saved(cfg)[1], device='cpu')
    with pytest.raises(ValueError, match='ResNetV1c has no diffusion model.*builtin:scenes'):
        inferencer.generate('a red ball')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(), 'either prompts or images'),
        (dict(prompts='a', images=noise(8, 8)), 'either prompts or images'),
        (dict(prompts=[]), 'no prompts'),
        (dict(prompts=['a', ' ']), r'prompts \[1\] are empty'),
        (dict(prompts='a', T=600), 'T=600 keeps part of a source image'),
        (dict(prompts=['a', 'b'], seeds=[1, 2, 3]), '3 seeds for 2'),
        (dict(prompts='a', seeds=[]), '0 seeds for 1'),
        (dict(images=noise(8, 8), captions=['a', 'b']), '2 captions for 1 images'),
        (dict(images=noise(8, 8), T=0), 'T=0'),
        (dict(images=noise(8, 8), T=5, num_calls=9), '9 denoising calls'),
        (dict(prompts='a', solver='euler'), "unknown solver 'euler'"),
    ],
)
def test_impossible_requests(scenes, arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.inferencer.generate(**arguments)
