"""The flow-matching schedule against diffusers' scheduler."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from mmdiff2in1.generators.flow_schedule import FlowSchedule

t = torch.tensor([1, 250, 600, 999])


def latents() -> tuple[torch.Tensor, torch.Tensor]:
    z0 = torch.sin(torch.arange(4 * 4 * 2 * 3).float()).view(4, 4, 2, 3)
    return z0, z0.flip(0, 1)


@pytest.mark.parametrize('shift', [1.0, 3.0])
def test_noise_is_that_of_diffusers(shift):
    theirs, ours, (z0, noise) = FlowMatchEulerDiscreteScheduler(shift=shift), FlowSchedule(dict(shift=shift)), latents()
    told = theirs.timesteps[1000 - t]
    assert ours.T_max == 1000 and torch.equal(ours.told(t), told)
    assert torch.equal(ours.add_noise(z0, noise, t), theirs.scale_noise(z0, told, noise))


def test_levels_by_hand():
    """Shift 3: a noise share of 0.6 becomes 3 · 0.6 / (1 + 2 · 0.6) = 0.818."""
    schedule, (z0, noise) = FlowSchedule(dict(shift=3.0)), latents()
    assert schedule.told(torch.tensor([0, 600])).tolist() == pytest.approx([0, 818.18], abs=0.01)
    clean = schedule.add_noise(z0, noise, torch.zeros(4, dtype=torch.long))
    assert torch.equal(clean, z0)
    z = schedule.add_noise(z0, noise, torch.full((4,), 600))
    torch.testing.assert_close(z, 0.18182 * z0 + 0.81818 * noise, atol=1e-4, rtol=0)


def test_the_target_is_the_direction_from_the_clean_latent_to_the_noise():
    schedule, (z0, noise) = FlowSchedule(dict(shift=3.0, num_train_timesteps=500)), latents()
    a, b = torch.tensor([10, 100, 300, 499]), torch.tensor([20, 400, 2, 1])
    between = schedule.add_noise(z0, noise, b) - schedule.add_noise(z0, noise, a)
    run = (schedule.told(b) - schedule.told(a)).view(-1, 1, 1, 1) / 500
    torch.testing.assert_close(between, run * schedule.target(z0, noise), atol=1e-5, rtol=0)


def test_a_shift_by_image_size_is_refused():
    with pytest.raises(ValueError, match='use_dynamic_shifting.*expected one shift, as in Stable Diffusion 3'):
        FlowSchedule(dict(use_dynamic_shifting=True))
