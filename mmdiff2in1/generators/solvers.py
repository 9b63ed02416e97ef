"""Solvers: they carry a latent along a timestep grid from noise level T to the clean latent.

z: latents (B, c, h, w). Every solver makes exactly one denoiser call per timestep of the grid.
"""

from collections.abc import Callable

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from .schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor, bool], Tensor]
"""(z_t, timesteps (B,), is_last_call) → U-Net output."""


def ddim(schedule: NoiseSchedule, denoise: Denoiser, z: Tensor, timesteps: list[int], to_clean: bool = True) -> Tensor:
    """DDIM with η = 0 (Song et al. 2021, eq. 12) on any strictly decreasing grid.

    diffusers' own scheduler derives the previous timestep from a grid over all of T_max, which is wrong for a grid that
    starts at a partial noise level; here the previous timestep is the next entry of the grid.

    Args:
        schedule: The noise schedule.
        denoise: One U-Net call.
        z: Latents at the noise level of the grid's first timestep.
        timesteps: The grid.
        to_clean: Where the step after the last goes: the clean latent, or noise level ᾱ_0 (the released code).
    """
    for i, step in enumerate(timesteps):
        t = torch.full((len(z),), step, device=z.device, dtype=torch.long)
        z0, noise = schedule.clean_and_noise(denoise(z, t, i == len(timesteps) - 1), z, t)
        if i + 1 < len(timesteps):
            z = schedule.add_noise(z0, noise, torch.full_like(t, timesteps[i + 1]))
        else:
            z = z0 if to_clean else schedule.add_noise(z0, noise, torch.zeros_like(t))
    return z


def dpm_solver(
    schedule: NoiseSchedule, denoise: Denoiser, z: Tensor, timesteps: list[int], to_clean: bool = True
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022) of diffusers on an explicit grid; arguments as for :func:`ddim`."""
    scheduler = DPMSolverMultistepScheduler.from_config(
        schedule.config,
        algorithm_type='dpmsolver++',
        solver_order=2,
        final_sigmas_type='zero' if to_clean else 'sigma_min',  # sigma_min is the level of ᾱ_0
        lower_order_final=True,
        use_karras_sigmas=False,
    )
    scheduler.set_timesteps(timesteps=timesteps, device=z.device)
    for i, step in enumerate(timesteps):
        t = torch.full((len(z),), step, device=z.device, dtype=torch.long)
        output = denoise(z, t, i == len(timesteps) - 1)
        z = scheduler.step(output, scheduler.timesteps[i], z, return_dict=False)[0]
    return z


SOLVERS = {'ddim': ddim, 'dpm++': dpm_solver}
