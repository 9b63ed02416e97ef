"""Data creation: U-Net calls, guidance, and images that are a function of their recipe alone."""

import math

import numpy as np
import pytest
import torch
from forks import Fork

from mmdiff2in1.generators import LatentDiffusion, timestep_grid
from mmdiff2in1.generators.sample_noise import generators_of, sample_noise
from mmdiff2in1.generators.solvers import SOLVERS

CAPTIONS = ['a red ball', 'a table and a wall', 'red wall', 'a floor']


def sources(batch: int, height: int = 8, width: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


def grey_levels(images: torch.Tensor) -> np.ndarray:
    return images.add(1).mul(127.5).round().byte().numpy()


def most_different(a: torch.Tensor, b: torch.Tensor) -> int:
    return int(np.abs(grey_levels(a).astype(int) - grey_levels(b).astype(int)).max())


class CallCounter:
    """Batch size and timesteps of each U-Net pass: every pass, whole or not, runs time_proj and conv_in once."""

    def __init__(self, unet: torch.nn.Module):
        self.batches: list[int] = []
        self.timesteps: list[list[float]] = []
        unet.conv_in.register_forward_hook(lambda module, inputs, output: self.batches.append(len(output)))
        unet.time_proj.register_forward_hook(lambda module, inputs, out: self.timesteps.append(inputs[0].tolist()))


@pytest.mark.parametrize('solver', ['ddim', 'dpm++'])
@pytest.mark.parametrize('T', [200, 400, 600, 610, 640, 800])
def test_unet_calls_are_the_length_of_the_grid(tiny_diffusion, T, solver):
    counter, n = CallCounter(tiny_diffusion.unet), 7
    for grid, expected in (('even', n), ('released', math.ceil(T / (T // n)))):
        counter.batches.clear()
        counter.timesteps.clear()
        made = tiny_diffusion.create(
            sources(1, 8, 8), captions=CAPTIONS[:1], seeds=[0], T=T, num_calls=n, grid=grid, solver=solver
        )
        assert made.calls == len(made.timesteps) == len(counter.batches) == expected
        assert counter.timesteps == [[t] for t in timestep_grid(T, n, grid).timesteps]


@pytest.mark.parametrize('record', [None, dict(taps=('mid',), map_levels=(1,))])
@pytest.mark.parametrize('solver', ['ddim', 'dpm++'])
def test_guidance_doubles_the_batch_not_the_calls(tiny_diffusion, solver, record):
    options = dict(
        captions=CAPTIONS[:2], seeds=[0, 1], T=640, num_calls=6, grid='released', solver=solver, record=record
    )
    counter = CallCounter(tiny_diffusion.unet)
    plain = tiny_diffusion.create(sources(2), guidance_scale=1.0, **options)
    assert counter.batches == [2] * 7 and plain.calls == 7
    counter.batches.clear()
    guided = tiny_diffusion.create(sources(2), guidance_scale=3.0, **options)
    assert counter.batches == [4] * 7 and guided.calls == 7
    assert most_different(plain.images, guided.images) > 0


@pytest.mark.parametrize(('grid', 'told'), [('even', 300), ('released', 1)])
def test_one_call_by_hand(tiny_diffusion, grid, told):
    """n = 1, DDIM: encode, noise to T, one U-Net call under guidance, z_0 of its noise, decode.

    The released grid tells its first call less than the level that was noised to, and its last step goes to ᾱ_0.
    """
    d, x, scale = tiny_diffusion, sources(2), 2.5
    made = d.create(x, captions=CAPTIONS[:2], seeds=[7, 8], T=300, num_calls=1, guidance_scale=scale, grid=grid)
    assert made.timesteps == [told]
    with torch.no_grad():
        first, a, last = d.schedule.alphas_cumprod[[300, told, 0]]
        drawn = torch.stack([torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(s)) for s in (7, 8)])
        z = first.sqrt() * d.vae.encode(x).latent_dist.mean * 0.5 + (1 - first).sqrt() * drawn
        ids = d.text.token_ids(CAPTIONS[:2]), d.text.token_ids(['', ''])
        captioned, free = (d.unet(z, torch.tensor(told), d.text.encoder(i).last_hidden_state).sample for i in ids)
        noise = free + scale * (captioned - free)
        z = (z - (1 - a).sqrt() * noise) / a.sqrt()
        if grid == 'released':
            z = last.sqrt() * z + (1 - last).sqrt() * noise
        images = d.vae.decode(z / 0.5).sample.clamp(-1, 1)
    torch.testing.assert_close(made.latents, z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.images, images, atol=1e-5, rtol=1e-5)


def test_pure_noise_knows_no_source(tiny_diffusion):
    options = dict(captions=CAPTIONS[:2], seeds=[3, 4], T=1000, num_calls=3)
    free = tiny_diffusion.create(size=(8, 16), **options)
    bound = tiny_diffusion.create(sources(2), **options)
    assert torch.equal(free.images, bound.images) and free.timesteps == [999, 500, 1]
    # With one call, the U-Net sees the initial noise itself.
    seen = []
    tiny_diffusion.unet.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tiny_diffusion.create(size=(8, 16), **options | dict(num_calls=1))
    assert torch.equal(seen[0], sample_noise(generators_of([3, 4]), (4, 4, 8)))


@pytest.mark.parametrize('solver', SOLVERS)
def test_a_sample_is_its_recipe_whatever_the_batch(tiny_diffusion, solver):
    x, seeds = sources(4), [11, 12, 13, 14]
    options = dict(T=600, num_calls=5, solver=solver, guidance_scale=1.5)
    parts = {
        size: [
            tiny_diffusion.create(
                x[i : i + size], captions=CAPTIONS[i : i + size], seeds=seeds[i : i + size], **options
            )
            for i in range(0, 4, size)
        ]
        for size in (1, 2, 4)
    }
    images = {size: torch.cat([part.images for part in made]) for size, made in parts.items()}
    assert most_different(images[1], images[2]) <= 1
    assert most_different(images[1], images[4]) <= 1
    # The same batch shape: bit for bit, whoever the neighbours are.
    order = [2, 0, 3, 1]
    shuffled = tiny_diffusion.create(
        x[order], captions=[CAPTIONS[i] for i in order], seeds=[seeds[i] for i in order], **options
    )
    assert torch.equal(shuffled.images, images[4][order])
    assert len({image.tobytes() for image in grey_levels(images[4])}) == 4


def test_neither_global_random_state_nor_training_mode_matters(tiny_diffusion):
    options = dict(captions=CAPTIONS[:1], seeds=[1], T=600, num_calls=2)
    torch.manual_seed(1)
    first = tiny_diffusion.create(sources(1), **options)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(tiny_diffusion.create(sources(1), **options).images, first.images)
    assert torch.equal(torch.get_rng_state(), state)
    other = tiny_diffusion.create(sources(1), **options | dict(seeds=[2]))
    assert not torch.equal(other.images, first.images)
    assert first.images.requires_grad is False and first.images.abs().max() <= 1


def test_two_processes_make_what_one_makes(tiny_diffusion, tmp_path):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    options = dict(T=600, num_calls=5)

    def second():
        diffusion = LatentDiffusion.from_pretrained(tmp_path / 'weights')
        made = diffusion.create(sources(4)[2:], captions=CAPTIONS[2:], seeds=[13, 14], **options)
        np.save(tmp_path / 'rank_1.npy', made.images.numpy())

    rank_1 = Fork(tmp_path / 'rank_1.log', second)
    whole = tiny_diffusion.create(sources(4), captions=CAPTIONS, seeds=[11, 12, 13, 14], **options).images
    rank_0 = tiny_diffusion.create(sources(4)[:2], captions=CAPTIONS[:2], seeds=[11, 12], **options).images
    said = rank_1.wait(120)
    assert rank_1.returncode == 0, said
    both = torch.cat([rank_0, torch.from_numpy(np.load(tmp_path / 'rank_1.npy'))])
    assert most_different(both, whole) <= 1


def test_features_of_the_last_call(tiny_diffusion):
    """Recording changes nothing, and shows the last call (t = 1) on the latent before the last step."""
    d, record = tiny_diffusion, dict(taps=('in.5', 'out.1'), map_levels=(1, 2))
    options = dict(captions=CAPTIONS[:2], seeds=[0, 1], T=600, num_calls=3, grid='released')
    plain = d.create(sources(2), **options)
    assert plain.last is None
    inputs = []
    d.unet.conv_in.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    for scale in (1.0, 2.0):
        plain = d.create(sources(2), guidance_scale=scale, **options)
        inputs.clear()
        made = d.create(sources(2), guidance_scale=scale, record=record, **options)
        torch.testing.assert_close(made.images, plain.images, atol=1e-5, rtol=0)
        with torch.no_grad():
            expected = d.features(inputs[-1][-2:], torch.tensor([1, 1]), d.encode_text(CAPTIONS[:2]), **record)
        for name in record['taps']:
            torch.testing.assert_close(made.last.taps[name], expected.taps[name], atol=1e-5, rtol=1e-5)
        for level in record['map_levels']:
            torch.testing.assert_close(made.last.maps[level], expected.maps[level], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(captions=CAPTIONS[:1]),
            r"one caption, seed and image per sample .*'captions': 1, 'seeds': 2, 'images': 2",
        ),
        (dict(seeds=[1]), r"'seeds': 1"),
        (dict(images=None, captions=[], seeds=[]), r"'captions': 0"),
        (dict(images=None), r'T=600 keeps part of a source image, but none was given; use T=1000'),
        (dict(images=None, T=1000), r'pure noise need size'),
        (dict(images=None, T=1000, size=(8, 20)), r'image of 8×20: height and width must be multiples of 8'),
        (dict(images=sources(2, 8, 12)), r'image of 8×12: height and width must be multiples of 8'),
        (dict(images=sources(2, 8, 12), T=1000), r'image of 8×12'),
        (dict(images=sources(2).byte()), r'floating point, RGB in \[-1, 1\]; found .*uint8'),
        (dict(images=sources(2)[:, :1]), r'images must be \(B, 3, H, W\).*found \(2, 1, 8, 16\)'),
        (dict(solver='euler'), r"unknown solver 'euler'; known: ddim, ddpm, dpm\+\+"),
        (dict(grid='linear'), r"unknown timestep grid 'linear'"),
        (dict(T=0), r'T=0 is outside'),
        (dict(num_calls=601), r'601 denoising calls do not fit'),
    ],
)
def test_impossible_requests_say_why_before_any_work(tiny_diffusion, arguments, message):
    counter = CallCounter(tiny_diffusion.unet)
    request = dict(images=sources(2), captions=CAPTIONS[:2], seeds=[0, 1], T=600, num_calls=2) | arguments
    with pytest.raises(ValueError, match=message):
        tiny_diffusion.create(**request)
    assert not counter.batches
