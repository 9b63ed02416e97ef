"""The noise schedule against its closed forms."""

import numpy as np
import pytest
import torch

from mmdiff2in1.generators import NoiseSchedule
from mmdiff2in1.generators.sample_noise import generators_of, sample_noise

SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')


def alpha_bar() -> np.ndarray:
    """ᾱ of Stable Diffusion in float64: β is the square of an even spacing between √β_start and √β_end."""
    i = np.arange(1000) / 999
    beta = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i) ** 2
    return np.exp(np.cumsum(np.log1p(-beta)))


def draw(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_scaled_linear_betas():
    schedule = NoiseSchedule(SD)
    assert schedule.T_max == 1000
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), alpha_bar(), rtol=2e-5)
    # As the facts about the released code have it: the level that is noised to, and the one its first call is told.
    np.testing.assert_allclose(schedule.alphas_cumprod[[600, 589]].numpy(), [0.1608, 0.1717], atol=5e-5)


def test_linear_betas_and_fewer_timesteps():
    schedule = NoiseSchedule(dict(num_train_timesteps=4, beta_start=0.1, beta_end=0.4, beta_schedule='linear'))
    expected = [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7, 0.9 * 0.8 * 0.7 * 0.6]
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), expected, rtol=1e-6)
    assert schedule.T_max == 4


def test_add_noise_takes_a_timestep_per_sample():
    schedule, z0, noise, t = NoiseSchedule(SD), draw(0), draw(1), [0, 600, 999]
    noisy = schedule.add_noise(z0, noise, torch.tensor(t)).numpy()
    for i, step in enumerate(t):
        expected = alpha_bar()[step] ** 0.5 * z0[i].numpy() + (1 - alpha_bar()[step]) ** 0.5 * noise[i].numpy()
        np.testing.assert_allclose(noisy[i], expected, atol=2e-6)


@pytest.mark.parametrize('kind', ['epsilon', 'v_prediction', 'sample'])
def test_the_target_splits_back_into_clean_latent_and_noise(kind):
    schedule, z0, noise = NoiseSchedule(SD | dict(prediction_type=kind)), draw(0), draw(1)
    t = torch.tensor([1, 300, 999])
    target = schedule.target(z0, noise, t)
    clean, found = schedule.clean_and_noise(target, schedule.add_noise(z0, noise, t), t)
    torch.testing.assert_close(clean, z0, atol=3e-5, rtol=0)
    torch.testing.assert_close(found, noise, atol=3e-4, rtol=0)  # x-prediction at t = 1 divides by √(1 - ᾱ_1) = 0.04


def test_targets_by_hand():
    z0, noise, t = draw(0), draw(1), torch.tensor([7, 7, 7])
    a, s = alpha_bar()[7] ** 0.5, (1 - alpha_bar()[7]) ** 0.5
    by_kind = {k: NoiseSchedule(SD | dict(prediction_type=k)) for k in ('epsilon', 'v_prediction', 'sample')}
    assert torch.equal(by_kind['epsilon'].target(z0, noise, t), noise)
    assert torch.equal(by_kind['sample'].target(z0, noise, t), z0)
    v = by_kind['v_prediction'].target(z0, noise, t)
    torch.testing.assert_close(v, a * noise - s * z0, atol=1e-6, rtol=0)
    # (z_t, v) is (z_0, ε) rotated by the angle whose cosine is √ᾱ: lengths and the way back.
    z_t = by_kind['v_prediction'].add_noise(z0, noise, t)
    torch.testing.assert_close(z_t**2 + v**2, z0**2 + noise**2, atol=1e-4, rtol=0)
    torch.testing.assert_close(a * z_t - s * v, z0, atol=1e-5, rtol=0)
    torch.testing.assert_close(s * z_t + a * v, noise, atol=1e-5, rtol=0)


def test_fields_of_the_file_survive():
    config = NoiseSchedule(SD | dict(_class_name='PNDMScheduler', set_alpha_to_one=False, steps_offset=1)).config
    assert config['set_alpha_to_one'] is False and config['steps_offset'] == 1 and config['beta_end'] == 0.012


def test_unknown_prediction_type_lists_the_known_ones():
    with pytest.raises(ValueError, match="'flow'; known: epsilon, v_prediction, sample"):
        NoiseSchedule(SD | dict(prediction_type='flow'))


def test_sample_noise_depends_on_the_seed_alone():
    alone = torch.cat([sample_noise(generators_of([seed]), (4, 6, 10)) for seed in (3, 0, 12345)])
    assert torch.equal(sample_noise(generators_of([3, 0, 12345]), (4, 6, 10)), alone)
    assert torch.equal(sample_noise(generators_of([12345, 3, 3]), (4, 6, 10)), alone[[2, 0, 0]])
    torch.manual_seed(9)
    state = torch.get_rng_state()
    sample_noise(generators_of([1]), (4, 6, 10))
    assert torch.equal(torch.get_rng_state(), state)
    big = sample_noise(generators_of([0]), (4, 128, 128))
    assert abs(big.mean()) < 0.01 and abs(big.std() - 1) < 0.01


def test_sample_noise_golden():
    torch.testing.assert_close(
        sample_noise(generators_of([0]), (1, 1, 3))[0, 0, 0],
        torch.tensor([1.5410, -0.2934, -2.1788]),
        atol=1e-4,
        rtol=0,
    )
