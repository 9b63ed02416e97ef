"""ControlNet: diffusers' own calls and pipelines as the reference, folders, hashes, and what is refused."""

import json
import shutil

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.controlnet import branch_for, read_controlnet, residuals
from mmdiff2in1.generators.loading import load_generator, load_perceiver

EMBEDDING = dict(conditioning_embedding_out_channels=(4, 8))
CAPTIONS = ['a red ball', 'a table and a wall']


def randomised(controlnet: ControlNetModel) -> ControlNetModel:
    """A branch of zeros changes nothing; this one does."""
    torch.manual_seed(4)
    for parameter in controlnet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return controlnet


@pytest.fixture
def model(tiny_diffusion) -> LatentDiffusion:
    tiny_diffusion.add_controlnet(randomised(ControlNetModel.from_unet(tiny_diffusion.unet, **EMBEDDING)))
    return tiny_diffusion


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(7))


def sources() -> torch.Tensor:
    return torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize('guidance', [1.0, 2.5])
def test_one_conditioned_call_by_hand(model, pictures, guidance):
    """Noise to T, the branch beside the U-Net, on both halves under guidance, z_0 of the noise that they predict."""
    made = model.create(
        sources(), captions=CAPTIONS, seeds=[7, 8], T=300, num_calls=1, guidance_scale=guidance, conditions=pictures
    )
    with torch.no_grad():
        a = model.schedule.alphas_cumprod[300]
        drawn = torch.stack([torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(s)) for s in (7, 8)])
        z = a.sqrt() * model.vae.encode(sources()).latent_dist.mean * 0.5 + (1 - a).sqrt() * drawn
        outputs = []
        for captions in (CAPTIONS, ['', '']):
            context = model.text.encoder(model.text.token_ids(captions)).last_hidden_state
            down, mid = model.controlnet(z, 300, context, pictures, return_dict=False)
            outputs.append(
                model.unet(
                    z, 300, context, down_block_additional_residuals=down, mid_block_additional_residual=mid
                ).sample
            )
        noise = outputs[1] + guidance * (outputs[0] - outputs[1])
        z0 = (z - (1 - a).sqrt() * noise) / a.sqrt()
    torch.testing.assert_close(made.latents, z0, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings('ignore')
def test_diffusers_pipeline_reads_the_folder_and_makes_the_same_image(model, pictures, tmp_path):
    """From the same noise: the first output of the U-Net, and the image after one step."""
    model.save_folder(tmp_path)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        tmp_path, local_files_only=True, low_cpu_mem_usage=False
    )
    assert isinstance(pipeline.controlnet, ControlNetModel)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing='trailing', steps_offset=1
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.stack([torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(s)) for s in (6, 9)])
    outputs = {'theirs': [], 'ours': []}
    for name, unet in (('theirs', pipeline.unet), ('ours', model.unet)):
        unet.register_forward_hook(lambda module, args, out, kept=outputs[name]: kept.append(out[0]))
    theirs = pipeline(
        CAPTIONS, image=pictures, height=8, width=16, num_inference_steps=1, guidance_scale=2.0, latents=noise,
        output_type='pt',
    ).images  # fmt: skip
    ours = model.create(
        captions=CAPTIONS, seeds=[6, 9], T=1000, num_calls=1, guidance_scale=2.0, size=(8, 16), conditions=pictures
    ).images
    torch.testing.assert_close(outputs['ours'][0], outputs['theirs'][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours / 2 + 0.5, theirs, atol=1e-4, rtol=0)


def test_a_new_branch_changes_nothing_bit_for_bit(tiny_diffusion, pictures):
    options = dict(captions=CAPTIONS, seeds=[1, 2], num_calls=3, guidance_scale=2.0)
    before = [tiny_diffusion.create(sources(), T=T, **options).images for T in (400, 1000)]
    tiny_diffusion.add_controlnet(branch_for(tiny_diffusion.unet, tiny_diffusion.downscale))
    after = [tiny_diffusion.create(sources(), T=T, conditions=pictures, **options).images for T in (400, 1000)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_embedding_of_a_new_branch_follows_from_the_latents_size(tiny_diffusion, tiny_diffusion_config):
    wide = UNet2DConditionModel(**dict(tiny_diffusion_config['unet'], block_out_channels=(40, 40, 40)))
    for downscale, widths in (
        (1, (16,)),
        (2, (16, 32)),
        (4, (16, 32, 40)),
        (8, (16, 32, 40, 40)),
        (16, (16, 32, *[40] * 3)),
    ):
        branch = branch_for(wide, downscale)
        assert tuple(branch.config.conditioning_embedding_out_channels) == widths
        shown = branch.controlnet_cond_embedding(torch.zeros(1, 3, 4 * downscale, 8 * downscale))
        assert shown.shape == (1, 40, 4, 8) and not shown.any()
    own = branch_for(tiny_diffusion.unet, 2).down_blocks.state_dict()
    theirs = tiny_diffusion.unet.down_blocks.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


def test_conditions_seeds_and_captions_decide_a_sample_whatever_the_batch(model, pictures):
    options = dict(T=600, num_calls=3, guidance_scale=1.5)
    both = model.create(sources(), captions=CAPTIONS, seeds=[1, 2], conditions=pictures, **options).images
    for i in range(2):
        one = model.create(
            sources()[i : i + 1], captions=CAPTIONS[i : i + 1], seeds=[i + 1], conditions=pictures[i : i + 1], **options
        ).images
        assert (one - both[i : i + 1]).abs().max() < 1 / 127.5
    other = model.create(sources(), captions=CAPTIONS, seeds=[1, 2], conditions=1 - pictures, **options).images
    plain = model.create(sources(), captions=CAPTIONS, seeds=[1, 2], **options).images
    assert (other - both).abs().max() > 0.02 and (plain - both).abs().max() > 0.02


def test_the_last_call_shows_its_inside_under_a_condition_too(model, pictures):
    options = dict(captions=CAPTIONS, seeds=[1, 2], T=600, num_calls=2, guidance_scale=2.0, conditions=pictures)
    plain = model.create(sources(), **options)
    shown = model.create(sources(), record=dict(taps=('mid', 'out.0'), map_levels=(1,)), **options)
    torch.testing.assert_close(shown.images, plain.images, atol=1e-5, rtol=1e-5)
    without = model.create(sources(), record=dict(taps=('mid',)), **options | dict(conditions=None))
    assert (shown.last.taps['mid'] - without.last.taps['mid']).abs().max() > 1e-3


def test_round_trip_and_hash(model, tmp_path, pictures):
    model.save_folder(tmp_path / 'with')
    loaded = LatentDiffusion.from_pretrained(tmp_path / 'with')
    assert loaded.weights_hash() == model.weights_hash() and loaded.takes_conditions
    ours, theirs = model.controlnet.state_dict(), loaded.controlnet.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    options = dict(captions=CAPTIONS, seeds=[1, 2], T=1000, num_calls=2, size=(8, 16), conditions=pictures)
    assert torch.equal(loaded.create(**options).images, model.create(**options).images)
    # Base and branch apart.
    shutil.move(tmp_path / 'with' / 'controlnet', tmp_path / 'branch')
    with pytest.raises(FileNotFoundError, match='missing controlnet/config.json'):
        LatentDiffusion.from_pretrained(tmp_path / 'with')
    with_branch = model.weights_hash()
    model.controlnet = None
    model.save_folder(tmp_path / 'base')
    assert json.loads((tmp_path / 'base/model_index.json').read_text())['_class_name'] == 'StableDiffusionPipeline'
    joined = load_generator(tmp_path / 'base', controlnet=tmp_path / 'branch')
    assert joined.weights_hash() == with_branch != model.weights_hash()
    assert model.weights_hash() == load_generator(tmp_path / 'base').weights_hash()
    with torch.no_grad():
        joined.controlnet.controlnet_mid_block.bias[0] += 1
    assert joined.weights_hash() != with_branch


def test_a_perceiver_has_no_branch(model, tmp_path):
    model.save_folder(tmp_path)
    perceiver = load_perceiver(tmp_path)
    model.controlnet = None
    assert perceiver.weights_hash() == model.weights_hash()
    assert not any('controlnet' in name for name in perceiver.state_dict())


def test_random_weights_with_a_branch(tiny_diffusion_config):
    model = LatentDiffusion.from_config(tiny_diffusion_config | dict(controlnet=EMBEDDING))
    assert model.takes_conditions and not model.controlnet.training
    z, context = torch.randn(1, 4, 4, 4), torch.randn(1, 8, 16)
    added = residuals(model.controlnet, z, torch.tensor([5]), context, torch.rand(1, 3, 8, 8))
    assert len(added['down_block_additional_residuals']) == 6
    assert residuals(model.controlnet, z, torch.tensor([5]), context, None) == {}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda x: x[:1], r'conditions are \(1, 3, 8, 16\).*expected \(2, 3, 8, 16\)'),
        (lambda x: x[..., :8], r'expected \(2, 3, 8, 16\)'),
        (lambda x: (x * 255).byte(), 'torch.uint8; expected'),
        (lambda x: x * 2 - 1, r'expected \[0, 1\]: colours'),
    ],
)
def test_conditions_that_are_not_right(model, pictures, change, message):
    with pytest.raises(ValueError, match=message):
        model.create(sources(), captions=CAPTIONS, seeds=[1, 2], conditions=change(pictures))


def test_a_model_without_a_branch_refuses_conditions(tiny_diffusion, pictures):
    assert not tiny_diffusion.takes_conditions
    with pytest.raises(ValueError, match='this model has no ControlNet.*stages.synthesis.controlnet'):
        tiny_diffusion.create(sources(), captions=CAPTIONS, seeds=[1, 2], conditions=pictures)


def test_branches_that_do_not_fit(tiny_diffusion, tiny_diffusion_config, tmp_path):
    with pytest.raises(ValueError, match='makes them 8 times smaller, expected 3 channels and 2'):
        tiny_diffusion.add_controlnet(ControlNetModel.from_unet(tiny_diffusion.unet))
    wider = dict(tiny_diffusion_config['unet'], block_out_channels=(8, 16, 24))
    other = LatentDiffusion.from_config(tiny_diffusion_config | dict(unet=wider, controlnet=EMBEDDING))
    with pytest.raises(ValueError, match=r'does not fit the U-Net: block_out_channels .*24.*16'):
        tiny_diffusion.add_controlnet(other.controlnet)
    with pytest.raises(FileNotFoundError, match='found no config.json, expected the folder of a ControlNet'):
        read_controlnet(tmp_path)
    tiny_diffusion.save_folder(tmp_path)
    with pytest.raises(ValueError, match='holds a UNet2DConditionModel, expected a ControlNetModel'):
        read_controlnet(tmp_path / 'unet')
