"""DiffusionBackbone against features made by hand, one step at a time.

The tiny model: latent at half resolution; level 0, 1, 2 at strides 2, 4, 8; images padded to multiples of 8.
"""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmdiff2in1.models import DiffusionBackbone, FeatureConfig, FrozenFeatures
from mmdiff2in1.models.backbones import feature_config
from mmdiff2in1.models.backbones.class_prompt import TEMPLATES
from mmdiff2in1.models.backbones.text_adapter import TextAdapter

CLASSES = ['wall', 'floor', 'red ball', 'table', 'a wall and a floor']
# Level of each block of the tiny U-Net and its channels, by hand.
LEVELS = {
    0: {'in.0': 8, 'in.1': 8, 'in.2': 8, 'out.5': 16, 'out.6': 8, 'out.7': 8, 'out.8': 8},
    1: {'in.3': 8, 'in.4': 16, 'in.5': 16, 'out.2': 16, 'out.3': 16, 'out.4': 16},
    2: {'in.6': 16, 'in.7': 16, 'in.8': 16, 'mid': 16, 'out.0': 16, 'out.1': 16},
}


@pytest.fixture
def make(two_layer_config):
    def build(**options) -> DiffusionBackbone:
        torch.manual_seed(0)
        options = dict(diffusion=two_layer_config, classes=CLASSES) | options
        return MODELS.build(dict(type='DiffusionBackbone', **options)).eval()

    return build


def pictures(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def unet_calls(backbone: DiffusionBackbone) -> list:
    calls = []
    backbone.diffusion.unet.conv_in.register_forward_hook(lambda module, args, output: calls.append((args[0], output)))
    return calls


def pyramid_by_hand(backbone, z, context, timestep, taps, map_levels, size=None) -> list[torch.Tensor]:
    """Level by level: the taps in the order they were named, then the maps, cropped to ceil(size / stride)."""
    t = torch.full((len(z),), timestep)
    seen = backbone.diffusion.features(z, t, context.expand(len(z), -1, -1), taps=taps, map_levels=map_levels)
    pyramid = []
    for level, blocks in LEVELS.items():
        maps = [seen.taps[name] for name in taps if name in blocks]
        maps += [seen.maps[level]] if level in map_levels else []
        if maps:
            rows, columns = z.shape[-2:] if size is None else (-(-side // 2) for side in size)
            pyramid.append(torch.cat(maps, 1)[:, :, : -(-rows // 2**level), : -(-columns // 2**level)])
    return pyramid


def close(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def same(found, expected):
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# What it shows ----------------------------------------------------------------


def test_vpd_preset_by_hand(make):
    """Unscaled posterior mode, no noise, t = 1, one token per class, a tap per level, maps at levels 1 and 2."""
    backbone, images = make(), pictures()
    assert backbone.taps == ('out.1', 'out.4', 'out.8')
    with torch.no_grad():
        d = backbone.diffusion
        z = d.vae.encode(images).latent_dist.mean
        context = torch.stack([d.text.class_embeddings([name], TEMPLATES)[0] for name in CLASSES])
        expected = pyramid_by_hand(backbone, z, context, 1, backbone.taps, (1, 2))
        found = backbone(images)
    close(found, expected)
    assert backbone.out_channels == [8, 16 + 5, 16 + 5] == [level.shape[1] for level in found]
    assert [tuple(level.shape[-2:]) for level in found] == [(8, 12), (4, 6), (2, 3)]
    for level in found[1:]:  # class maps are probabilities
        torch.testing.assert_close(level[:, 16:].sum(1), torch.ones_like(level[:, 0]))


def test_released_preset_by_hand(make):
    """Sampled, scaled posterior, noise of t = 0 added, the empty caption, every block."""
    backbone, images = make(feature=dict(preset='released'), classes=None), pictures(1)
    d = backbone.diffusion
    with torch.no_grad():
        posterior = d.vae.encode(images).latent_dist
        drawn, noise = (torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        z = 0.5 * (posterior.mean + posterior.std * drawn)
        a = d.schedule.alphas_cumprod[0]
        z = a.sqrt() * z + (1 - a).sqrt() * noise
        taps = [f'in.{i}' for i in range(9)] + ['mid'] + [f'out.{i}' for i in range(9)]
        expected = pyramid_by_hand(backbone, z, d.encode_text([''])[0], 0, taps, ())
        close(backbone(images), expected)
    assert backbone.out_channels == [64, 88, 96]


@pytest.mark.parametrize(
    ('feature', 'channels'),
    [
        (dict(map_levels=()), [8, 16, 16]),
        (dict(map_levels=[1]), [8, 21, 16]),
        (dict(map_levels=[2]), [8, 16, 21]),
        (dict(prompt='empty', map_levels=()), [8, 16, 16]),
        (dict(taps='all'), [64, 88 + 5, 96 + 5]),
        (dict(taps=['mid']), [5, 21]),  # a level of maps alone
        (dict(taps=['out.4', 'in.4', 'in.0'], map_levels=[1]), [8, 37]),
        (dict(taps=[], map_levels=[1]), [5]),
        (dict(taps=['out.2', 'out.5'], map_levels=[], timestep=999), [16, 16]),
        (dict(preset='released', taps='vpd'), [8, 16, 16]),
        (dict(preset='released', prompt='class_names', map_levels=[1, 2]), [64, 93, 101]),
    ],
)
def test_out_channels_are_those_of_the_features(make, feature, channels):
    backbone, images = make(feature=feature), pictures(1, 8, 16)
    assert backbone.out_channels == channels
    with torch.no_grad():
        found = backbone(images)
    assert [level.shape[1] for level in found] == channels
    assert all(level.dtype == torch.float32 and level.is_contiguous() for level in found)


def test_taps_stand_in_the_order_they_were_named(make):
    backbone, images = make(feature=dict(taps=['out.4', 'in.4', 'in.0'], map_levels=[1])), pictures()
    with torch.no_grad():
        z = backbone.diffusion.encode(images, scale=False)
        expected = pyramid_by_hand(backbone, z, backbone.tokens, 1, ['out.4', 'in.4', 'in.0'], [1])
        close(backbone(images), expected)


@pytest.mark.parametrize('size', [(37, 53), (8, 8), (1, 1), (9, 16), (16, 15), (40, 8)])
def test_any_size_is_padded_by_repetition_and_cropped_back(make, size):
    backbone, images = make(), pictures(2, *size)
    padding = [(0, 0), (0, 0), (0, -size[0] % 8), (0, -size[1] % 8)]
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode='edge'))
    with torch.no_grad():
        z = backbone.diffusion.encode(padded, scale=False)
        expected = pyramid_by_hand(backbone, z, backbone.tokens, 1, backbone.taps, (1, 2), size)
        found = backbone(images)
    close(found, expected)
    strides = (2, 4, 8)
    assert [tuple(level.shape[-2:]) for level in found] == [tuple(-(-side // s) for side in size) for s in strides]


# Sharing ----------------------------------------------------------------------


@pytest.mark.parametrize('options', [{}, dict(regime='finetune'), dict(text_adapter=True)])
@pytest.mark.parametrize('feature', [{}, dict(preset='released', prompt='class_names', map_levels=[1])])
@pytest.mark.parametrize('training', [False, True])
def test_frozen_part_then_the_rest_is_the_whole(make, options, feature, training):
    backbone, images = make(feature=feature, **options).train(training), pictures(2, 13, 24)
    torch.manual_seed(7)
    whole = backbone(images)
    torch.manual_seed(7)
    frozen = backbone.frozen_features(images)
    same(backbone(frozen), whole)
    assert (frozen.pyramid is None) == bool(options) and (frozen.latents is None) == (not options)
    assert frozen.size == (13, 24) and len(frozen) == 2 and frozen.shape == (2, 3, 13, 24)
    assert {level.requires_grad for level in whole} == {bool(options)}
    assert not any(level.requires_grad for level in frozen.pyramid or (frozen.latents,))


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_selected_samples_of_the_frozen_part(make, regime):
    backbone, images = make(regime=regime), pictures(3)
    with torch.no_grad():
        frozen, whole = backbone.frozen_features(images), backbone(images)
        for index in (torch.tensor([2, 0]), torch.tensor([True, False, True]), slice(1, 3)):
            picked = frozen[index]
            expected = [level[index] for level in whole]
            assert len(picked) == 2 and picked.size == frozen.size and picked.shape == (2, 3, 16, 24)
            close(backbone(picked), expected)
            if regime == 'frozen':
                same(backbone(picked), expected)
        assert len(frozen[torch.zeros(3, dtype=torch.bool)]) == 0


def test_frozen_features_are_values():
    frozen = FrozenFeatures((4, 4), latents=torch.zeros(2, 4, 2, 2))
    with pytest.raises(AttributeError):
        frozen.latents = None


@pytest.mark.parametrize(
    ('low', 'high', 'found'),
    [(0.0, 255.0, r'\[0, 255\]'), (-2.1, 0.9, r'\[-2.1, 0.9\]'), (-1.0, 1.01, r'\[-1, 1.01\]')]
    + [(float('nan'), 0.0, 'nan')],
)
def test_images_of_another_preprocessor_are_refused(make, low, high, found):
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0, 0, :2] = torch.tensor([low, high])
    with pytest.raises(ValueError, match=found + r'.*mean=\[127.5\] \* 3, std=\[127.5\] \* 3, bgr_to_rgb=True'):
        make()(images)


def test_only_the_first_images_are_checked(make, monkeypatch):
    """Reading the range makes a GPU wait."""
    backbone, read, aminmax = make(), [], torch.Tensor.aminmax
    monkeypatch.setattr(torch.Tensor, 'aminmax', lambda self: (read.append(self), aminmax(self))[1])
    images = pictures()
    images[0, 0, 0, :2] = torch.tensor([-1.0009, 1.0009])  # rounding
    with torch.no_grad():
        for _ in range(3):
            backbone(images)
    assert len(read) == 1 and read[0] is images


def test_the_layout_of_the_unet_is_read_once(make, monkeypatch):
    backbone, images = make(), pictures()
    with torch.no_grad():
        expected = backbone(images)
        monkeypatch.delattr('mmdiff2in1.generators.latent_diffusion.ldm_blocks')
        same(backbone(images), expected)


def test_the_frozen_regime_trains_nothing_and_runs_the_unet_once(make):
    backbone, images = make().train(), pictures().requires_grad_()
    calls = unet_calls(backbone)
    frozen = backbone.frozen_features(images)
    assert len(calls) == 1
    found = backbone(frozen)
    assert len(calls) == 1 and not any(level.requires_grad for level in found)
    assert not any(p.requires_grad for p in backbone.parameters())
    backbone(images)
    assert len(calls) == 2
    assert backbone.frozen_modules() == [backbone.diffusion]


@pytest.mark.parametrize('options', [{}, dict(text_adapter=True), dict(regime='finetune')])
def test_frozen_parts_stay_in_eval_mode(make, options):
    backbone = make(**options).train()
    frozen = [module for part in backbone.frozen_modules() for module in part.modules()]
    assert backbone.training and not any(module.training for module in frozen)
    unet_trains = options.get('regime') == 'finetune'
    assert {module.training for module in backbone.diffusion.unet.modules()} == {unet_trains}
    if backbone.text_adapter is not None:
        assert backbone.text_adapter.training
    held = {id(p) for part in backbone.frozen_modules() for p in part.parameters()}
    assert all((id(p) in held) <= (not p.requires_grad) for p in backbone.parameters())
    assert not any(module.training for module in backbone.eval().modules())


@pytest.mark.parametrize('options', [{}, dict(text_adapter=True), dict(regime='finetune')])
def test_switching_modes_does_not_walk_through_frozen_parts(make, options, monkeypatch):
    backbone = make(**options)
    frozen = {id(module) for part in backbone.frozen_modules() for module in part.modules()}
    visited, train = [], torch.nn.Module.train
    monkeypatch.setattr(
        torch.nn.Module, 'train', lambda self, mode=True: (visited.append(id(self)), train(self, mode))[1]
    )
    backbone.train().eval().train()
    assert not frozen & set(visited)
    trained = {id(p) for p in backbone.parameters() if p.requires_grad}
    reached = {id(p) for m in backbone.modules() if m.training for p in m.parameters(recurse=False)}
    assert trained <= reached


@pytest.mark.parametrize('text_adapter', [False, True])
@pytest.mark.parametrize(
    'feature',
    [{}, dict(preset='released'), dict(taps=['mid', 'in.4'], map_levels=[]), dict(taps=['in.5'], map_levels=[])]
    + [dict(taps=['out.5'], map_levels=[1, 2]), dict(taps=['out.8', 'in.0'], prompt='empty', map_levels=[])],
)
def test_finetuning_reaches_every_trained_parameter(make, feature, text_adapter):
    backbone = make(feature=feature, regime='finetune', text_adapter=text_adapter).train()
    sum(level.square().sum() for level in backbone(pictures(1, 8, 8))).backward()
    without = [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert sum(p.requires_grad for p in backbone.diffusion.unet.parameters()) > 20
    frozen = [*backbone.diffusion.vae.parameters(), *backbone.diffusion.text.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in frozen)


def test_text_adapter_by_hand(make):
    torch.manual_seed(0)
    adapter, tokens = TextAdapter(16), torch.randn(5, 16)
    first, _, second = adapter.mlp
    hidden = tokens @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(adapter(tokens), tokens + 1e-4 * (hidden @ second.weight.T + second.bias))
    adapter.gamma.data = torch.linspace(-1, 1, 16)
    expected = tokens + adapter.gamma * (hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(adapter(tokens), expected)

    backbone, images = make(text_adapter=True), pictures()
    backbone.text_adapter = adapter
    with torch.no_grad():
        z = backbone.diffusion.encode(images, scale=False)
        context = adapter(backbone.tokens)
        close(backbone(images), pyramid_by_hand(backbone, z, context, 1, backbone.taps, (1, 2)))
    sum(level.sum() for level in backbone(images)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())
    assert all(p.grad is None for p in backbone.diffusion.parameters())


# Randomness -------------------------------------------------------------------


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
@pytest.mark.parametrize('draws', [dict(noise=True), dict(posterior='sample'), dict(noise=True, posterior='sample')])
def test_a_prediction_depends_on_its_image_alone(make, regime, draws):
    backbone, images = make(feature=dict(timestep=300, **draws), regime=regime), pictures(3)
    with torch.no_grad():
        together = backbone(images)
        torch.manual_seed(99)
        same(backbone(images), together)
        alone = [backbone(images[i : i + 1]) for i in range(3)]
        turned = backbone(images[[2, 0, 1]])
    close(together, [torch.cat(levels) for levels in zip(*alone, strict=True)])
    close(turned, [level[[2, 0, 1]] for level in together])


@pytest.mark.parametrize('draws', [dict(noise=True), dict(posterior='sample')])
def test_training_draws_anew_and_from_the_global_state(make, draws):
    backbone, images = make(feature=dict(timestep=300, **draws)).train(), pictures(1).repeat(2, 1, 1, 1)
    torch.manual_seed(0)
    first, second = backbone(images), backbone(images)
    torch.manual_seed(0)
    same(backbone(images), first)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0][0], first[0][1])  # neighbours differ in their draws


def test_without_draws_training_and_eval_agree(make):
    backbone, images = make(), pictures()
    same(backbone.train()(images), backbone.eval()(images))


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_bfloat16_of_the_frozen_part(make, regime):
    exact, rough, images = make(regime=regime), make(regime=regime, bf16=True), pictures()
    calls = unet_calls(rough)
    with torch.no_grad():
        found, expected = rough(images), exact(images)
        assert calls[0][1].dtype == (torch.bfloat16 if regime == 'frozen' else torch.float32)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == torch.float32 and not torch.equal(a, b)
            assert (a - b).square().mean().sqrt() < 0.03 * b.square().mean().sqrt()
        # A created image is seen as a real one is.
        made = rough.diffusion.create(images, captions=['a wall'] * 2, seeds=[0, 1], num_calls=1)
        rough(rough.created_features(made, (16, 24)))
    assert calls[-1][1].dtype == calls[0][1].dtype


def test_a_checkpoint_carries_the_tokens(make, two_layer_config):
    """Random weights differ from build to build, and the class tokens with them."""
    backbone, images = make(), pictures()
    torch.manual_seed(5)
    other = DiffusionBackbone(two_layer_config, CLASSES).eval()
    assert not torch.equal(other.tokens, backbone.tokens)
    other.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        same(other(images), backbone(images))


# Created images ---------------------------------------------------------------


@pytest.mark.parametrize('scaled', [False, True])
def test_perceiving_a_created_image_by_hand(make, scaled):
    backbone = make(feature=dict(latent_scale=scaled, timestep=3))
    d = backbone.diffusion
    made = d.create(pictures(), captions=['a wall', 'a red ball'], seeds=[0, 1], num_calls=3)
    with torch.no_grad():
        found = backbone(backbone.created_features(made, (16, 24)))
        z = made.latents if scaled else made.latents / 0.5
        close(found, pyramid_by_hand(backbone, z, backbone.tokens, 3, backbone.taps, (1, 2)))
        # Cropped as a real image of that size.
        cropped = backbone(backbone.created_features(made, (13, 24), 'perceive'))
    close(cropped, [level[:, :, :rows] for level, rows in zip(found, (7, 4, 2), strict=True)])


def test_perceiving_a_created_image_under_noise(make):
    backbone = make(feature=dict(preset='released'))
    d = backbone.diffusion
    made = d.create(pictures(), captions=['a wall', 'a red ball'], seeds=[0, 1], num_calls=2)
    noise = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(1))
    a = d.schedule.alphas_cumprod[0]
    with torch.no_grad():
        found = backbone(backbone.created_features(made, (16, 24)))
        z = a.sqrt() * made.latents + (1 - a).sqrt() * noise
        close(found, pyramid_by_hand(backbone, z, d.encode_text([''])[0], 0, backbone.taps, ()))


def test_a_reconstruction_is_seen_as_the_image_itself(make):
    """The latents of a real image, passed off as a creation, give the features of that image."""
    backbone, images = make(), pictures()
    made = backbone.diffusion.create(images, captions=['a wall'] * 2, seeds=[0, 1], num_calls=1)
    with torch.no_grad():
        made.latents = backbone.diffusion.encode(images)
        close(backbone(backbone.created_features(made, (16, 24))), backbone(images))


@pytest.mark.parametrize('guidance', [1.0, 2.0])
def test_released_reading_by_hand(make, guidance):
    """The last denoising call: t = 1, the caption's tokens, the latent before the last step."""
    backbone = make(feature=dict(preset='released'))
    calls = unet_calls(backbone)
    made = backbone.diffusion.create(
        pictures(), captions=['a wall', 'a red ball'], seeds=[0, 1], num_calls=3, grid='released',
        record=backbone.wanted(), guidance_scale=guidance,
    )  # fmt: skip
    assert len(calls) == made.calls == 3
    frozen = backbone.created_features(made, (16, 24), 'released')
    found = backbone(frozen)
    assert len(calls) == 3  # nothing more is run
    t, taps, z = torch.tensor([1, 1]), backbone.taps, calls[-1][0][-2:]
    with torch.no_grad():
        context = backbone.diffusion.encode_text(['a wall', 'a red ball'])
        seen = backbone.diffusion.features(z, t, context, taps=taps)
    expected = [torch.cat([seen.taps[name] for name in taps if name in LEVELS[level]], 1) for level in range(3)]
    close(found, expected)


def test_released_reading_needs_a_recorded_call_without_class_maps(make):
    backbone = make(feature=dict(preset='released'))
    made = backbone.diffusion.create(pictures(), captions=['', ''], seeds=[0, 1], num_calls=1)
    with pytest.raises(ValueError, match='was not recorded; pass record=backbone.wanted'):
        backbone.created_features(made, (16, 24), 'released')
    backbone = make()
    made = backbone.diffusion.create(pictures(), captions=['', ''], seeds=[0, 1], num_calls=1, record=backbone.wanted())
    with pytest.raises(ValueError, match=r'attended to a caption, not to classes; set map_levels=\(\)'):
        backbone.created_features(made, (16, 24), 'released')


# Configuration ----------------------------------------------------------------


def test_presets():
    assert (
        feature_config()
        == feature_config('vpd')
        == FeatureConfig(1, 'class_embeddings', False, 'mode', False, 'vpd', (1, 2))
    )
    assert feature_config('released') == FeatureConfig(0, 'empty', True, 'sample', True, 'all', ())
    changed = feature_config('vpd', taps=['mid'], map_levels=[2], latent_scale=True)
    assert changed == FeatureConfig(1, 'class_embeddings', False, 'mode', True, ('mid',), (2,))


def test_weights_from_a_folder(make, two_layer_diffusion, tmp_path):
    two_layer_diffusion.save_folder(tmp_path / 'weights')
    backbone, images = make(diffusion=str(tmp_path / 'weights')), pictures()
    with torch.no_grad():
        same(backbone(images), make()(images))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(regime='half'), "unknown regime 'half'; known: frozen, finetune"),
        (dict(classes=None), r"prompt='class_embeddings' needs classes="),
        (dict(classes=['wall', ' ']), r'class names \[1\] are empty'),
        (dict(feature=dict(preset='ours')), "unknown feature preset 'ours'; known: vpd, released"),
        (dict(feature=dict(tap='mid')), r"unknown feature fields \['tap'\]; known: preset, timestep, .*map_levels"),
        (dict(feature=dict(prompt='caption')), "unknown prompt 'caption'; known: class_embeddings, class_names, empty"),
        (dict(feature=dict(posterior='mean')), "unknown posterior 'mean'; known: mode, sample"),
        (dict(feature=dict(prompt='empty')), r'empty prompt has no class maps; set map_levels=\(\)'),
        (dict(feature=dict(timestep=1000)), 'feature timestep 1000 is outside 0 … 999'),
        (dict(feature=dict(timestep=-1)), 'feature timestep -1 is outside 0 … 999'),
        (dict(feature=dict(taps='out.1')), "unknown taps 'out.1'; known: vpd, all, or a list of block names"),
        (dict(feature=dict(taps=['out.1', 'out.9'])), r"unknown taps \['out.9'\]; this U-Net has in.0"),
        (dict(feature=dict(map_levels=[0])), r'levels \[0\] asked for; this U-Net has \[1, 2\]'),
        (dict(feature=dict(taps=[], map_levels=[])), 'neither taps nor map_levels'),
        (
            dict(feature=dict(taps=['out.1'], map_levels=[1]), regime='finetune'),
            'attention maps are read up to block out.5, behind the last tap',
        ),
    ],
)
def test_impossible_configurations_say_why(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_missing_weights_are_named(make):
    with pytest.raises(FileNotFoundError, match="no built-in weights named 'nope'"):
        make(diffusion='builtin:nope')
