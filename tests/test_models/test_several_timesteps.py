"""Features of several timesteps side by side are those of single calls, one behind the other."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny_pipelines import stable_diffusion_3

from mmdiff2in1.models import DiffusionBackbone
from mmdiff2in1.models.backbones import feature_config

CLASSES = ['wall', 'floor', 'red ball', 'table', 'a wall and a floor']
T = [50, 200, 3]


@pytest.fixture
def make(two_layer_config):
    def build(**options) -> DiffusionBackbone:
        torch.manual_seed(0)
        options = dict(diffusion=two_layer_config, classes=CLASSES) | options
        return MODELS.build(dict(type='DiffusionBackbone', **options)).eval()

    return build


def pictures(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def close(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def side_by_side(singles: list, taps: list[list[int]], maps: list[int]) -> list[torch.Tensor]:
    """Level by level: of each tap all timesteps, then the mean of the maps, of whose channels these are."""
    pyramid = []
    for level, (widths, classes) in enumerate(zip(taps, maps, strict=True)):
        parts = [single[level].split([*widths, classes], 1) for single in singles]
        found = [parts[t][tap] for tap in range(len(widths)) for t in range(len(singles))]
        mean = torch.stack([part[-1] for part in parts]).mean(0)
        pyramid.append(torch.cat([*found, mean], 1))
    return pyramid


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
@pytest.mark.parametrize(
    ('feature', 'taps', 'maps'),
    [
        ({}, [[8], [16], [16]], [0, 5, 5]),
        (dict(taps=['out.4', 'in.4', 'out.8'], map_levels=[1]), [[8], [16, 16]], [0, 5]),
        (dict(noise=True, posterior='sample', latent_scale=True), [[8], [16], [16]], [0, 5, 5]),
        (dict(prompt='empty', map_levels=[]), [[8], [16], [16]], [0, 0, 0]),
    ],
)
def test_single_calls_one_behind_the_other(make, regime, feature, taps, maps):
    images = pictures(2, 13, 24)
    backbone = make(feature=dict(feature, timestep=T), regime=regime)
    with torch.no_grad():
        singles = [make(feature=dict(feature, timestep=t), regime=regime)(images) for t in T]
        found = backbone(images)
    close(found, side_by_side(singles, taps, maps))
    widths = [3 * sum(each) + classes for each, classes in zip(taps, maps, strict=True)]
    assert backbone.out_channels == widths == [level.shape[1] for level in found]
    assert not torch.allclose(singles[0][0], singles[1][0], atol=1e-3)


@pytest.mark.parametrize('noise', [False, True])
def test_one_call_of_the_denoiser(make, noise):
    backbone, calls = make(feature=dict(timestep=T, noise=noise), regime='finetune').train(), []
    backbone.diffusion.unet.conv_in.register_forward_hook(lambda _, args, __: calls.append(args[0].shape))
    frozen = backbone.frozen_features(pictures())
    levels = backbone(frozen)
    assert calls == [(6, 4, 8, 12)] and len(frozen) == 2
    assert frozen.latents.shape == ((2, 3, 4, 8, 12) if noise else (2, 4, 8, 12))
    close(backbone(frozen[torch.tensor([1])]), [level[1:] for level in levels])
    sum(level.square().sum() for level in levels).backward()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


def test_one_timestep_in_a_list_is_that_timestep(make):
    images = pictures()
    with torch.no_grad():
        for a, b in zip(
            make(feature=dict(timestep=[50]))(images), make(feature=dict(timestep=50))(images), strict=True
        ):
            assert torch.equal(a, b)


def test_scene_classes_and_a_detail_path_beside(make):
    """What each image is shown goes with it to every timestep; finer levels stay as they are."""
    feature, images = dict(preset='vpd_depth', padding='cropped'), pictures(3)
    classes = [2, 0, 1]

    def levels(timestep):
        backbone = make(feature=feature | dict(timestep=timestep), detail=dict(encoder=True), regime='finetune')
        with torch.no_grad():
            return backbone(backbone.conditioned(images, classes))

    first, second, both = levels(50), levels(200), levels([50, 200])
    assert torch.equal(first[0], both[0])
    close(both[1:], [torch.cat(pair, 1) for pair in zip(first[1:], second[1:], strict=True)])


def test_a_created_image(make):
    backbone = make(feature=dict(timestep=T, noise=True, latent_scale=True))
    made = backbone.diffusion.create(
        pictures(), captions=['a wall', ''], seeds=[0, 1], num_calls=1, record=dict(taps=backbone.taps)
    )
    with torch.no_grad():
        made.latents = backbone.diffusion.encode(pictures())
        close(backbone(backbone.created_features(made, (16, 24))), backbone(pictures()))
    backbone = make(feature=dict(timestep=T, map_levels=[]))
    with pytest.raises(ValueError, match=r'knew one timestep, this backbone reads \(50, 200, 3\); set one timestep'):
        backbone.created_features(made, (16, 24), 'released')


def test_stable_diffusion_3(tmp_path):
    stable_diffusion_3().save_pretrained(tmp_path)
    feature, images = dict(preset='released', taps=['block.1']), pictures(2, 14, 24)

    def levels(timestep):
        backbone = DiffusionBackbone(str(tmp_path), feature=feature | dict(timestep=timestep)).eval()
        assert backbone.out_channels == [32 * (2 if isinstance(timestep, list) else 1)]
        with torch.no_grad():
            return backbone(images)

    close(levels([100, 700]), [torch.cat([levels(100)[0], levels(700)[0]], 1)], 1e-4)


@pytest.mark.parametrize(
    ('timestep', 'message'),
    [([50, 1000], 'feature timestep 1000 is outside 0 … 999'), ([], r'timestep=\[\] names no timestep')],
)
def test_impossible_timesteps(make, timestep, message):
    with pytest.raises(ValueError, match=message):
        make(feature=dict(timestep=timestep))


def test_a_list_of_a_config_is_a_value():
    assert hash(feature_config(timestep=[50, 200])) == hash(feature_config(timestep=(50, 200)))
    assert feature_config(timestep=[50, 200]).timesteps == (50, 200) and feature_config(timestep=5).timesteps == (5,)
