"""Stable Diffusion 3 as a perceiver, against diffusers' own transformer and pipeline.

Tiny: the latent has half the image's side, patches are 2 × 2 cells, blocks are 32 wide.
"""

import shutil

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from tiny_pipelines import flux, stable_diffusion_3

from mmdiff2in1.generators.flow_schedule import FlowSchedule
from mmdiff2in1.generators.loading import check_perceiver, load_perceiver
from mmdiff2in1.generators.stable_diffusion_3 import StableDiffusion3

CAPTIONS = ['a red ball', '']


@pytest.fixture(scope='module')
def pipeline():
    return stable_diffusion_3()


@pytest.fixture(scope='module')
def folder(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp('sd3')
    pipeline.save_pretrained(path)
    return path


@pytest.fixture
def perceiver(folder) -> StableDiffusion3:
    return load_perceiver(folder)


def larger(perceiver: StableDiffusion3) -> StableDiffusion3:
    """With the layout of Stable Diffusion 3.5: normalised queries and keys, a second attention in the first blocks."""
    torch.manual_seed(6)
    config = dict(perceiver.transformer.config) | dict(num_layers=4, qk_norm='rms_norm', dual_attention_layers=(0, 1))
    transformer = SD3Transformer2DModel.from_config(config)
    return StableDiffusion3(perceiver.vae, transformer, perceiver.text, perceiver.schedule).requires_grad_(False)


def pictures(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize('version', [3, 3.5])
def test_features_are_what_hooks_on_diffusers_transformer_see(perceiver, version):
    perceiver = perceiver if version == 3 else larger(perceiver)
    names, t, seen = tuple(perceiver.taps), torch.tensor([600, 1]), {}
    z, (context, pooled) = perceiver.encode(pictures()), perceiver.encode_prompt(CAPTIONS)
    with torch.no_grad():
        made = perceiver.features(z, t, context, pooled, taps=names)
        for name, block in zip(names, perceiver.transformer.transformer_blocks, strict=True):
            block.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out[1]}))
        told = torch.tensor([1000 * 3 * 0.6 / (1 + 2 * 0.6), 1000 * 3 * 0.001 / (1 + 2 * 0.001)])
        perceiver.transformer(z, context, pooled, told)
    assert list(made.taps) == list(names) and made.output is None and made.maps == {}
    for name in names:
        by_hand = torch.stack([row.T.reshape(32, 4, 6) for row in seen[name]])  # (h, w) / 2 = (4, 6) patches
        torch.testing.assert_close(made.taps[name], by_hand, atol=1e-4, rtol=1e-4)
    assert not torch.equal(made.taps['block.0'], made.taps['block.1'])


def test_nothing_runs_behind_the_last_tap(perceiver):
    calls = []
    for i, block in enumerate(perceiver.transformer.transformer_blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    z, prompt = perceiver.encode(pictures()), perceiver.encode_prompt(CAPTIONS)
    assert list(perceiver.features(z, torch.tensor([1, 1]), *prompt, taps=['block.0']).taps) == ['block.0']
    assert calls == [0]


def test_sizes_and_taps(perceiver):
    assert (perceiver.downscale, perceiver.multiple, perceiver.T_max) == (2, 4, 1000)
    assert {name: (tap.level, tap.channels) for name, tap in perceiver.taps.items()} == {
        'block.0': (1, 32),
        'block.1': (1, 32),
    }
    assert perceiver.tap_presets == {'all': ('block.0', 'block.1')}


@pytest.mark.parametrize('t5', [True, False])
def test_the_prompt_is_that_of_the_pipeline(pipeline, folder, tmp_path, t5):
    theirs = stable_diffusion_3()
    if not t5:
        theirs.text_encoder_3 = theirs.tokenizer_3 = None
        theirs.register_to_config(text_encoder_3=(None, None), tokenizer_3=(None, None))
        theirs.save_pretrained(tmp_path)
    ours = load_perceiver(folder if t5 else tmp_path)
    for part in (theirs.text_encoder, theirs.text_encoder_2, theirs.text_encoder_3):
        if part is not None:
            part.eval()
    with torch.no_grad():
        tokens, _, pooled, _ = theirs.encode_prompt(CAPTIONS, None, None, do_classifier_free_guidance=False)
    found = ours.encode_prompt(CAPTIONS)
    torch.testing.assert_close(found[0], tokens)
    torch.testing.assert_close(found[1], pooled)
    assert tokens.shape == (2, 77 + 256, 96) and pooled.shape == (2, 64)
    assert (tokens[:, 77:].abs().sum() == 0) == (not t5)


def test_latents_are_shifted_and_scaled(perceiver):
    images, config = pictures(), perceiver.vae.config
    with torch.no_grad():
        raw = perceiver.vae.encode(images).latent_dist.mean
        made = perceiver.encode(images)
        assert torch.equal(perceiver.encode(images, scale=False), raw)
    torch.testing.assert_close(made, (raw - 0.06) * config.scaling_factor)
    torch.testing.assert_close(perceiver.unscaled(made), raw)
    torch.testing.assert_close(perceiver.scaled(raw), made)


def test_denoising_errors_by_hand(perceiver):
    with torch.no_grad():
        z0, t = perceiver.encode(pictures()), torch.tensor([600, 0])
        noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(0))
        sigma = torch.tensor([9 / 11, 0]).view(2, 1, 1, 1)
        z = (1 - sigma) * z0 + sigma * noise
        context, pooled = perceiver.encode_prompt(CAPTIONS)
        velocity = perceiver.transformer(z, context, pooled, 1000 * sigma.flatten()).sample
        found = perceiver.denoising_errors(z0, noise, t, CAPTIONS)
    torch.testing.assert_close(found, (velocity - (noise - z0)) ** 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('taps', [['block.1'], ['block.0', 'block.2'], ['block.3']])
def test_training_reaches_all_that_is_read_and_nothing_else(perceiver, taps):
    perceiver = larger(perceiver)
    z, prompt = perceiver.encode(pictures(1)), perceiver.encode_prompt(['a'])
    perceiver.train_read(taps, ())
    gradients = []
    for recomputed in (False, True):
        if recomputed:
            perceiver.enable_gradient_checkpointing()
        perceiver.zero_grad()
        seen = perceiver.features(z, torch.tensor([600]), *prompt, taps=taps).taps
        sum(tap.square().mean() for tap in seen.values()).backward()
        gradients.append({name: p.grad.clone() for name, p in perceiver.named_parameters() if p.grad is not None})
    trained = {name for name, p in perceiver.named_parameters() if p.requires_grad}
    assert trained == set(gradients[0]) and all(name.startswith('transformer.') for name in trained)
    torch.testing.assert_close(gradients[0], gradients[1])
    # All else can be changed at will.
    with torch.no_grad():
        expected = perceiver.features(z, torch.tensor([600]), *prompt, taps=taps).taps
        for name, parameter in perceiver.named_parameters():
            if name not in trained:
                parameter.add_(1)
        found = perceiver.features(z, torch.tensor([600]), *prompt, taps=taps).taps
    assert all(torch.equal(found[name], expected[name]) for name in taps)


def test_the_hash_is_of_weights_noise_levels_and_scale(perceiver):
    before = perceiver.weights_hash()
    assert perceiver.weights_hash() == before
    perceiver.schedule = FlowSchedule(dict(shift=1.0))
    assert perceiver.weights_hash() != before
    perceiver.schedule = FlowSchedule(dict(shift=3.0))
    assert perceiver.weights_hash() == before
    perceiver.transformer.proj_out.bias.data += 1
    assert perceiver.weights_hash() != before


def test_impossible_features_say_why(perceiver):
    z, t, prompt = perceiver.encode(pictures()), torch.tensor([1, 1]), perceiver.encode_prompt(CAPTIONS)
    with pytest.raises(ValueError, match=r"unknown taps \['out.1'\]; this transformer has block.0, block.1"):
        perceiver.features(z, t, *prompt, taps=['out.1'])
    with pytest.raises(ValueError, match=r'maps of levels \[1\] asked for; .* there are none: set map_levels=\(\)'):
        perceiver.features(z, t, *prompt, taps=['block.0'], map_levels=[1])
    with pytest.raises(ValueError, match='needs the pooled text'):
        perceiver.features(z, t, prompt[0], taps=['block.0'])
    with pytest.raises(ValueError, match='image of 16×26: height and width must be multiples of 4'):
        perceiver.encode(pictures(1, 16, 26))


def test_parts_that_are_missing_or_do_not_fit(perceiver, folder, tmp_path):
    check_perceiver(folder)
    shutil.copytree(folder, tmp_path / 'sd3')
    shutil.rmtree(tmp_path / 'sd3' / 'tokenizer_3')
    for opened in (check_perceiver, load_perceiver):
        with pytest.raises(FileNotFoundError, match='not a complete folder: missing tokenizer_3; found'):
            opened(tmp_path / 'sd3')
    wide = AutoencoderKL(latent_channels=8)
    with pytest.raises(ValueError, match='takes 4 channels, but the VAE has latents of 8'):
        StableDiffusion3(wide, perceiver.transformer, perceiver.text, perceiver.schedule)


def test_other_transformers_do_not_perceive(tmp_path):
    flux().save_pretrained(tmp_path)
    for opened in (check_perceiver, load_perceiver):
        with pytest.raises(ValueError, match='holds a FluxPipeline: it creates images'):
            opened(tmp_path)
