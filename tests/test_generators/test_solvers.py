"""DDIM, DDPM and DPM-Solver++ against diffusers, against NumPy in float64, and against closed forms."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from mmdiff2in1.generators import Grid, NoiseSchedule, timestep_grid
from mmdiff2in1.generators.sample_noise import generators_of
from mmdiff2in1.generators.solvers import SOLVERS, ddim, ddpm, dpm_solver

SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')
KINDS = ('epsilon', 'v_prediction', 'sample')
DETERMINISTIC = ('ddim', 'dpm++')


def alpha_bar() -> np.ndarray:
    beta = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * np.arange(1000) / 999) ** 2
    return np.cumprod(1 - beta)


def latent() -> torch.Tensor:
    """Fixed, without a random number generator: every entry differs."""
    return torch.sin(torch.arange(2 * 4 * 4 * 6).float() * 0.7).view(2, 4, 4, 6) * 1.3


def toy(z, t, is_last=False):
    """A smooth denoiser that depends on position, timestep and value."""
    return torch.tanh(0.8 * z + 0.3) * (0.4 + t.view(-1, 1, 1, 1) / 1500)


def toy_numpy(z, t):
    return np.tanh(0.8 * z + 0.3) * (0.4 + t / 1500)


def reference_ddim(z, timesteps, kind='epsilon', to_clean=True):
    """DDIM in float64, one ᾱ after the other."""
    ab = alpha_bar()
    levels = [ab[t] for t in timesteps] + [1.0 if to_clean else ab[0]]
    z = z.double().numpy()
    for t, here, there in zip(timesteps, levels, levels[1:], strict=False):
        a, s = here**0.5, (1 - here) ** 0.5
        out = toy_numpy(z, t)
        z0, noise = {
            'epsilon': ((z - s * out) / a, out),
            'sample': (out, (z - a * out) / s),
            'v_prediction': (a * z - s * out, a * out + s * z),
        }[kind]
        z = there**0.5 * z0 + (1 - there) ** 0.5 * noise
    return torch.from_numpy(z).float()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('to_clean', [True, False])
@pytest.mark.parametrize('first', [0, 20, 49])
def test_ddim_equals_diffusers_where_the_grids_coincide(kind, to_clean, first):
    """The whole grid of 50 steps over T_max (981, 961, …, 1), and the end of it from a partial noise level."""
    theirs = DDIMScheduler(
        **SD,
        prediction_type=kind,
        clip_sample=False,
        set_alpha_to_one=to_clean,
        timestep_spacing='leading',
        steps_offset=1,
    )
    theirs.set_timesteps(50)
    timesteps = theirs.timesteps.tolist()[first:]
    z = latent()
    for t in timesteps:
        z = theirs.step(toy(z, torch.full((2,), t)), t, z, eta=0.0).prev_sample
    ours = ddim(
        NoiseSchedule(SD | dict(prediction_type=kind)),
        toy,
        latent(),
        Grid(timesteps, 'clean' if to_clean else 'level_0'),
    )
    torch.testing.assert_close(ours, z, atol=1e-5, rtol=1e-5)


def test_the_released_grid_equals_diffusers_with_the_same_spacing():
    """T = 600 in 50 calls has spacing 12: the end of diffusers' grid of 83 steps over T_max."""
    theirs = DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    theirs.set_timesteps(83)
    timesteps = [t for t in theirs.timesteps.tolist() if t <= 600]
    assert timestep_grid(600, 50, 'released') == (timesteps, 'level_0')
    z = latent()
    for t in timesteps:
        z = theirs.step(toy(z, torch.full((2,), t)), t, z).prev_sample
    ours = ddim(NoiseSchedule(SD), toy, latent(), Grid(timesteps, 'level_0'))
    torch.testing.assert_close(ours, z, atol=1e-5, rtol=1e-5)


# Sum and mean absolute value of the final latent, of `reference_ddim` in float64 with 50 calls.
GOLDEN = {
    (200, 'even'): (-6.3015, 0.81105),
    (200, 'released'): (-5.7804, 0.81610),
    (400, 'even'): (-15.7607, 0.91870),
    (600, 'even'): (-32.1256, 1.19820),
    (600, 'released'): (-30.7136, 1.18233),
    (640, 'released'): (-36.5429, 1.28996),
    (1000, 'even'): (-198.9951, 3.83062),
    (1000, 'released'): (-179.0987, 3.56249),
}


@pytest.mark.parametrize(('T', 'grid'), list(GOLDEN))
def test_golden_sums_of_full_loops(T, grid):
    z = ddim(NoiseSchedule(SD), toy, latent(), timestep_grid(T, 50, grid))
    found = z.double().sum().item(), z.double().abs().mean().item()
    assert found == pytest.approx(GOLDEN[T, grid], rel=1e-4)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('T', 'n', 'grid'), [(1, 1, 'even'), (200, 1, 'even'), (600, 20, 'even'), (610, 50, 'released'), (1000, 25, 'even')]
)
def test_ddim_equals_the_slow_reference(kind, T, n, grid):
    walked = timestep_grid(T, n, grid)
    ours = ddim(NoiseSchedule(SD | dict(prediction_type=kind)), toy, latent(), walked)
    expected = reference_ddim(latent(), walked.timesteps, kind, grid == 'even')
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize('solver', DETERMINISTIC)
@pytest.mark.parametrize(('T', 'n'), [(200, 1), (600, 7), (600, 20), (1000, 50)])
def test_a_denoiser_that_knows_the_noise_gives_the_clean_latent_back(solver, T, n):
    schedule, z0, noise = NoiseSchedule(SD), latent(), latent().flip(0, 3) * 0.9
    start = torch.full((2,), min(T, 999))
    z = SOLVERS[solver](schedule, lambda z, t, last: noise, schedule.add_noise(z0, noise, start), timestep_grid(T, n))
    torch.testing.assert_close(z, z0, atol=5e-5, rtol=0)


@pytest.mark.parametrize('solver', DETERMINISTIC)
def test_the_released_grid_ends_at_the_first_noise_level(solver):
    schedule, z0, noise = NoiseSchedule(SD), latent(), latent().flip(0, 3) * 0.9
    grid = timestep_grid(600, 50, 'released')
    start = schedule.add_noise(z0, noise, torch.full((2,), grid.timesteps[0]))
    z = SOLVERS[solver](schedule, lambda z, t, last: noise, start, grid)
    torch.testing.assert_close(z, schedule.add_noise(z0, noise, torch.zeros(2, dtype=torch.long)), atol=5e-5, rtol=0)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('T', 'n'), [(600, 20), (600, 3), (1000, 25), (200, 1)])
def test_dpm_solver_equals_diffusers_used_directly(kind, T, n):
    theirs = DPMSolverMultistepScheduler(**SD, prediction_type=kind, algorithm_type='dpmsolver++', solver_order=2)
    timesteps = timestep_grid(T, n).timesteps
    theirs.set_timesteps(timesteps=timesteps)
    assert theirs.timesteps.tolist() == timesteps
    z = latent()
    for t in theirs.timesteps:
        z = theirs.step(toy(z, t.repeat(2)), t, z).prev_sample
    # A scheduler file with settings of another sampler: none of them may change the result.
    config = SD | dict(prediction_type=kind, use_karras_sigmas=True, solver_order=3, algorithm_type='dpmsolver')
    torch.testing.assert_close(
        dpm_solver(NoiseSchedule(config), toy, latent(), Grid(timesteps)), z, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize('solver', DETERMINISTIC)
@pytest.mark.parametrize('T', [400, 600, 1000])
def test_solvers_converge_to_the_flow_of_gaussian_data(solver, T):
    """For z_0 ~ N(μ, s²) the best denoiser is linear, and the flow maps N(√ᾱ μ, ᾱ s² + 1 - ᾱ) onto N(μ, s²)."""
    mu, s2, ab = 0.7, 0.36, alpha_bar()

    def posterior_noise(z, t, last):
        a = torch.from_numpy(ab)[t].view(-1, 1, 1, 1)
        return (1 - a).sqrt() * (z - a.sqrt() * mu) / (a * s2 + 1 - a)

    z = latent().double()
    start = ab[min(T, 999)]
    exact = mu + s2**0.5 * (z - start**0.5 * mu) / (start * s2 + 1 - start) ** 0.5
    error = {
        n: (SOLVERS[solver](NoiseSchedule(SD), posterior_noise, z, timestep_grid(T, n)) - exact).abs().max().item()
        for n in (10, 20, 50, 200)
    }
    assert error[200] < error[50] < error[20] < error[10]
    # First against second order. What is left at 200 calls is mostly the last step, from t = 1 to the posterior mean.
    assert error[50] < {'ddim': 0.04, 'dpm++': 0.02}[solver]
    assert error[200] < {'ddim': 0.011, 'dpm++': 0.003}[solver]


@pytest.mark.parametrize('solver', SOLVERS)
def test_one_call_per_timestep_and_the_last_is_announced(solver):
    calls = []

    def denoise(z, t, is_last):
        calls.append((t.tolist(), is_last))
        return toy(z, t)

    SOLVERS[solver](NoiseSchedule(SD), denoise, latent(), Grid([600, 300, 1]), generators_of([0, 1]))
    assert calls == [([600, 600], False), ([300, 300], False), ([1, 1], True)]


# A solver with noise of its own ------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('last', ['clean', 'level_0'])
@pytest.mark.parametrize('first', [0, 30])
def test_ddpm_is_ddim_of_diffusers_with_eta_1(kind, last, first):
    theirs = DDIMScheduler(
        **SD,
        prediction_type=kind,
        clip_sample=False,
        set_alpha_to_one=last == 'clean',
        timestep_spacing='leading',
        steps_offset=1,
    )
    theirs.set_timesteps(50)
    timesteps, z, streams = theirs.timesteps.tolist()[first:], latent(), generators_of([3, 8])
    for t in timesteps:
        drawn = torch.stack([torch.randn(4, 4, 6, generator=stream) for stream in streams])
        output = toy(z, torch.full((2,), t))
        z = theirs.step(output, t, z, eta=1.0, variance_noise=drawn).prev_sample
    schedule = NoiseSchedule(SD | dict(prediction_type=kind))
    ours = ddpm(schedule, toy, latent(), Grid(timesteps, last), generators_of([3, 8]))
    torch.testing.assert_close(ours, z, atol=2e-5, rtol=2e-5)


def test_ddpm_of_gaussian_data_ends_at_its_distribution():
    """z_0 ~ N(μ, s²): with the best denoiser, 4 × 4 × 6 × 200 numbers end at its mean and, with more calls, spread."""
    mu, s2, ab, many = 0.7, 0.36, alpha_bar(), 200

    def posterior_noise(z, t, last):
        a = torch.from_numpy(ab)[t].view(-1, 1, 1, 1)
        return (1 - a).sqrt() * (z - a.sqrt() * mu) / (a * s2 + 1 - a)

    z = torch.randn(many, 4, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    off = {}
    for n in (25, 100, 400):
        made = ddpm(NoiseSchedule(SD), posterior_noise, z, timestep_grid(1000, n), generators_of(range(many)))
        assert abs(made.mean() - mu) < 0.02
        off[n] = abs(made.std().item() - s2**0.5)
    assert off[400] < 0.5 * off[100] < 0.25 * off[25] and off[400] < 0.015


def test_noise_of_a_sample_does_not_depend_on_its_neighbours():
    schedule, grid, z = NoiseSchedule(SD), timestep_grid(600, 7), latent()
    together = ddpm(schedule, toy, z, grid, generators_of([3, 8]))
    alone = torch.cat([ddpm(schedule, toy, z[i : i + 1], grid, generators_of([seed])) for i, seed in ((0, 3), (1, 8))])
    assert torch.equal(together, alone)
    swapped = ddpm(schedule, toy, z.flip(0), grid, generators_of([8, 3]))
    assert torch.equal(swapped.flip(0), together)
    assert not torch.equal(ddpm(schedule, toy, z, grid, generators_of([3, 9]))[1], together[1])


@pytest.mark.parametrize(('generators', 'found'), [(None, 'none'), (generators_of([1]), '1')])
def test_ddpm_needs_a_generator_for_each_sample(generators, found):
    with pytest.raises(ValueError, match=f'2 samples need as many generators, found {found}'):
        ddpm(NoiseSchedule(SD), toy, latent(), Grid([600, 1]), generators)
