"""MetaPromptBackbone against MetaPrompts written out, and one property at a time.

Three levels at strides 2, 4, 8; images of multiples of 8; 6 prompts of width 64, time embeddings of 128 numbers.
"""

import math

import pytest
import torch
from metaprompts_reference import depth, in_metaprompts_names, segmentation_maps
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny_metaprompts import CLASSES, backbone, depth_estimator, segmentor, trained
from tiny_stable_diffusion import stable_diffusion

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models import DiffusionBackbone, MetaPromptBackbone
from mmdiff2in1.models.self_improving.construction import twin
from mmdiff2in1.models.self_improving.parameter_pairs import shared_names


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stable_diffusion')
    stable_diffusion(1).save_folder(folder)
    return folder


def heads(width):
    return 8


def pictures(height=32, width=48, count=2):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def built(weights, task='segmentation', **changes) -> MetaPromptBackbone:
    torch.manual_seed(3)
    return MODELS.build(backbone(weights, task, **changes)).eval()


def close(found, expected, tolerance=1e-4):
    assert [level.shape for level in found] == [level.shape for level in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


# As published -----------------------------------------------------------------


@pytest.mark.parametrize('passes', [1, 2, 3])
@pytest.mark.parametrize('size', [(32, 32), (32, 48)])
def test_maps_of_segmentation_are_those_of_metaprompts(weights, passes, size):
    model, images = trained(segmentor(weights, passes=passes)), pictures(*size)
    with torch.no_grad():
        expected = segmentation_maps(in_metaprompts_names(model, 'segmentation'), images, heads, [1, 4])
        found = model.backbone(images)
    assert expected[0].std() > 0.1  # worth comparing
    # Dot products of 64 numbers: hundreds.
    scale = max(level.abs().max().item() for level in expected)
    close([level / scale for level in found], [level / scale for level in expected])
    assert [tuple(level.shape[1:]) for level in found] == [(6, size[0] // s, size[1] // s) for s in (1, 2, 4)]
    assert model.backbone.strides == [1, 2, 4] and model.backbone.out_channels == [6, 6, 6]


@pytest.mark.parametrize('passes', [1, 3])
@pytest.mark.parametrize('size', [(32, 32), (26, 44)])
def test_depth_is_that_of_metaprompts(weights, passes, size):
    """26 × 44 is stretched to 32 × 48, 32 × 32 to 40 × 40."""
    model, images = trained(depth_estimator(weights, passes=passes)), pictures(*size)
    metas = [dict(img_shape=size, ori_shape=size, pad_shape=size)] * 2
    with torch.no_grad():
        expected = depth(in_metaprompts_names(model, 'depth'), images, heads, [1, 4], 8, 2)
        found = model.encode_decode(images, metas)
    assert expected.std() > 0.05 and found.shape == (2, 1, *size)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert model.backbone.strides == [2] and model.backbone.out_channels == [6]


def test_one_pass_is_the_plain_backbone_under_other_tokens(weights):
    """It shows what VPD does: class tokens as prompts, and what the U-Net makes of t = 1 as the time embedding."""
    tokens = torch.randn(6, 64, generator=torch.Generator().manual_seed(4))
    torch.save(tokens, weights / 'tokens.pth')
    plain = DiffusionBackbone(
        str(weights), class_embeddings=str(weights / 'tokens.pth'), feature=dict(map_levels=()), regime='finetune'
    ).eval()
    ours, images = built(weights, passes=1), pictures(29, 44)
    unet, given = ours.diffusion.unet, []
    with torch.no_grad():
        ours.prompts.tokens[0].copy_(tokens)
        ours.prompts.times[0].copy_(unet.time_embedding(unet.get_time_embed(torch.zeros(1), torch.tensor([1]))))
        ours.rearrangement.register_forward_pre_hook(lambda module, args: given.append(args))
        ours(images)
        close(given[0][0], plain(images), 1e-5)
    assert torch.equal(given[0][1], tokens)


def test_a_later_pass_sees_the_output_of_the_one_before(weights):
    """Against diffusers' own forward, which is told timestep 7."""
    ours, images = built(weights, passes=2), pictures()
    unet, seen = ours.diffusion.unet, []
    with torch.no_grad():
        ours.prompts.times[0].copy_(unet.time_embedding(unet.get_time_embed(torch.zeros(1), torch.tensor([7]))))
        z = ours.diffusion.vae.encode(images).latent_dist.mean
        expected = unet(z, 7, ours.prompts.tokens[0].expand(2, -1, -1)).sample
        unet.conv_in.register_forward_hook(lambda module, args, output: seen.append(args[0]))
        ours(images)
    assert len(seen) == 2 and (z - expected).abs().max() > 0.1
    close(seen, [z, expected], 1e-5)


def test_every_pass_has_its_own_time_and_prompts(weights):
    """What is changed of one pass alone changes the maps."""
    ours, images = built(weights, 'depth'), pictures(24, 24)
    with torch.no_grad():
        before = ours(images)[0]
        for kind in ('times', 'tokens'):
            for parameter in getattr(ours.prompts, kind):
                kept = parameter.clone()
                parameter.neg_()
                assert (ours(images)[0] - before).abs().max() > 1e-3
                parameter.copy_(kept)
        assert torch.equal(ours(images)[0], before)


GOLDEN = dict(segmentation=10.613806, depth=0.716089)

# Training ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('task', 'passes', 'regime'),
    [('segmentation', 3, 'finetune'), ('segmentation', 1, 'finetune'), ('segmentation', 3, 'frozen')]
    + [('depth', 2, 'finetune'), ('depth', 1, 'frozen')],
)
def test_the_gradient_reaches_all_that_is_trained(weights, task, passes, regime):
    ours = built(weights, task, passes=passes, regime=regime).train()
    sum(level.square().mean() for level in ours(pictures())).backward()
    trained_ones = {name: p for name, p in ours.named_parameters() if p.requires_grad}
    assert [name for name, p in trained_ones.items() if p.grad is None] == []
    for name, parameter in ours.prompts.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    of_unet = {name.split('unet.')[1].split('.')[0] for name in trained_ones if 'unet' in name}
    parts = {'conv_in', 'down_blocks', 'mid_block', 'up_blocks', 'conv_norm_out', 'conv_out'}
    read = parts if passes > 1 else parts - {'conv_norm_out', 'conv_out'}
    # The time embedding is never told a timestep.
    assert of_unet == (read if regime == 'finetune' else set())
    assert {name.split('.')[0] for name in trained_ones} - {'diffusion'} == {'prompts', 'rearrangement'}
    assert all(p.grad is None for name, p in ours.named_parameters() if name not in trained_ones)
    assert len(ours.prompts.times) == passes
    assert len(ours.prompts.tokens) == (1 if task == 'segmentation' else passes)


def test_gradient_checkpointing_changes_no_gradient(weights):
    gradients = []
    for again in (False, True):
        ours = built(weights, gradient_checkpointing=again).train()
        sum(level.square().mean() for level in ours(pictures(16, 16))).backward()
        gradients.append({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_what_is_frozen_is_shared_and_stays_in_eval_mode(weights, regime):
    model = MODELS.build(segmentor(weights, regime=regime)).train()
    parts = model.backbone.frozen_modules()
    assert not any(module.training for part in parts for module in part.modules())
    assert model.backbone.rearrangement.training and model.backbone.prompts.training
    assert all(m.training == (regime == 'finetune') for m in model.backbone.diffusion.unet.modules())
    shared = shared_names(twin(model), model)
    assert any('vae' in name for name in shared)
    assert any('unet' in name for name in shared) == (regime == 'frozen')
    assert not any('prompts' in name or 'rearrangement' in name for name in shared)


def test_frozen_part_then_the_rest_is_the_whole(weights):
    ours, images = built(weights), pictures(29, 44, count=3)
    with torch.no_grad():
        frozen, whole = ours.frozen_features(images), ours(images)
        assert frozen.pyramid is None and frozen.latents.shape == (3, 4, 16, 24) and frozen.size == (29, 44)
        for found, expected in zip(ours(frozen), whole, strict=True):
            assert torch.equal(found, expected)
        close(ours(frozen[torch.tensor([2, 0])]), [level[[2, 0]] for level in whole], 1e-3)


def test_losses_of_three_passes_by_heart(weights):
    """Summed losses of a seeded model of each task, as they were when features were those of the reference."""
    generator = torch.Generator().manual_seed(9)
    samples = [SegDataSample(metainfo=dict(img_shape=(32, 48))) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, 32, 48), generator=generator))
        sample.gt_depth_map = PixelData(data=torch.rand(1, 32, 48, generator=generator) * 9 + 0.5)
    found = {}
    for name, config in (('segmentation', segmentor(weights)), ('depth', depth_estimator(weights))):
        losses = trained(config).loss(pictures(), samples)
        found[name] = {key: value.item() for key, value in losses.items() if 'loss' in key}
    assert found['segmentation'].keys() == {'decode.loss_ce', 'decode.loss_lovasz', 'aux.loss_ce_aux'}
    assert sum(found['segmentation'].values()) == pytest.approx(GOLDEN['segmentation'], rel=1e-3)
    assert sum(found['depth'].values()) == pytest.approx(GOLDEN['depth'], rel=1e-3)


# Sizes and created images -----------------------------------------------------


@pytest.mark.parametrize('task', ['segmentation', 'depth'])
@pytest.mark.parametrize('size', [(37, 53), (8, 8), (1, 1), (16, 15)])
def test_images_of_any_size(weights, task, size):
    ours = built(weights, task)
    with torch.no_grad():
        found = ours(pictures(*size))
    assert [tuple(level.shape[1:]) for level in found] == [
        (6, *(math.ceil(side / stride) for side in size)) for stride in ours.strides
    ]
    assert all(level.dtype == torch.float32 and level.isfinite().all() for level in found)


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_a_created_image_is_seen_as_a_real_one(weights, regime):
    ours, images = built(weights, regime=regime), pictures()
    made = ours.diffusion.create(images, captions=['a wall'] * 2, seeds=[0, 1], num_calls=1)
    with torch.no_grad():
        made.latents = ours.diffusion.encode(images)
        close(ours(ours.created_features(made, (32, 48))), ours(images), 1e-3)
    with pytest.raises(ValueError, match="attended to a caption, not to the learned prompts; set created='perceive'"):
        ours.created_features(made, (32, 48), 'released')


def test_a_created_image_is_not_stretched_again(weights):
    ours, images = built(weights, 'depth'), pictures()
    made = ours.diffusion.create(images, captions=['a wall'] * 2, seeds=[0, 1], num_calls=1)
    with torch.no_grad():
        assert [tuple(level.shape) for level in ours(ours.created_features(made, (32, 48)))] == [(2, 6, 16, 24)]


# Configuration ----------------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(rearrangement='some'), "rearrangement='some'.*expected one of each, joined"),
        (dict(size='cropped'), "size='cropped'.*of padded, stretched"),
        (dict(passes=0), 'passes=0.*at least one pass'),
        (dict(regime='half'), "unknown regime 'half'"),
        (dict(feature=dict(prompt='empty')), "has prompt='empty'; expected {'prompt': 'learned'}"),
        (dict(feature=dict(taps=['out.1'])), 'has taps=.*expected {.taps.: .vpd.}'),
        (dict(feature=dict(timestep=[1, 50])), "has timestep=.*'one timestep'"),
        (dict(feature=dict(map_levels=[1])), r'the learned prompt has no class maps; set map_levels=\(\)'),
        (dict(feature=dict(padding='kept')), "has padding='kept'"),
    ],
)
def test_impossible_configurations_say_why(weights, changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(backbone(weights, **changes))


def test_learned_prompts_belong_to_their_backbone(weights):
    with pytest.raises(ValueError, match="prompt='learned' belongs to a MetaPromptBackbone"):
        DiffusionBackbone(str(weights), feature=dict(preset='meta_prompts'))
