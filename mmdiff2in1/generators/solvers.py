"""Solvers: they carry a latent along a timestep grid from noise level T to the clean latent.

z: latents (B, c, h, w). A solver is one function (schedule, denoise, z, grid, generators) → z with a name in
:data:`SOLVERS`; it makes exactly one denoiser call per timestep of the grid. Noise of its own it draws from
``generators``, one per sample.
"""

from collections.abc import Callable

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from .sample_noise import sample_noise
from .schedule import NoiseSchedule
from .timesteps import Grid

Denoiser = Callable[[Tensor, Tensor, bool], Tensor]
"""(z_t, timesteps (B,), is_last_call) → output of the denoiser."""


def ddim(
    schedule: NoiseSchedule,
    denoise: Denoiser,
    z: Tensor,
    grid: Grid,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """DDIM with η = 0 (Song et al. 2021, eq. 12) on any strictly decreasing grid.

    diffusers' own scheduler derives the previous timestep from a grid over all of T_max, which is wrong for a grid that
    starts at a partial noise level; here the previous timestep is the next entry of the grid.

    Args:
        schedule: The noise schedule.
        denoise: One U-Net call.
        z: Latents at the noise level of the grid's first timestep.
        grid: The timesteps, and where the last step goes.
        generators: Not used: nothing is drawn.
    """
    for i, step in enumerate(grid.timesteps):
        t = torch.full((len(z),), step, device=z.device, dtype=torch.long)
        following = _following(grid, i)
        z0, noise = schedule.clean_and_noise(denoise(z, t, i == len(grid.timesteps) - 1), z, t)
        z = z0 if following is None else schedule.add_noise(z0, noise, torch.full_like(t, following))
    return z


def ddpm(
    schedule: NoiseSchedule,
    denoise: Denoiser,
    z: Tensor,
    grid: Grid,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """Ancestral sampling: DDIM with η = 1 (Song et al. 2021, eq. 12 and 16), DDPM's posterior on a shorter grid.

    Arguments as for :func:`ddim`.

    Raises:
        ValueError: No generators, or another number of them than of samples.
    """
    if generators is None or len(generators) != len(z):
        raise ValueError(
            f'ddpm draws noise at every step: {len(z)} samples need as many generators, found '
            f'{"none" if generators is None else len(generators)}'
        )
    for i, step in enumerate(grid.timesteps):
        t = torch.full((len(z),), step, device=z.device, dtype=torch.long)
        following = _following(grid, i)
        z0, noise = schedule.clean_and_noise(denoise(z, t, i == len(grid.timesteps) - 1), z, t)
        if following is None:
            return z0
        (signal, sigma), (signal_next, sigma_next) = schedule.levels(t), schedule.levels(torch.full_like(t, following))
        # Standard deviation of the posterior, eq. 16: its square is (1 - ᾱ') / (1 - ᾱ) (1 - ᾱ / ᾱ').
        drawn = sigma_next / sigma * (1 - (signal / signal_next).square()).sqrt()
        fresh = sample_noise(generators, z.shape[1:]).to(z)
        z = signal_next * z0 + (sigma_next.square() - drawn.square()).sqrt() * noise + drawn * fresh
    return z


def dpm_solver(
    schedule: NoiseSchedule,
    denoise: Denoiser,
    z: Tensor,
    grid: Grid,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022) of diffusers on an explicit grid; arguments as for :func:`ddim`."""
    scheduler = DPMSolverMultistepScheduler.from_config(
        schedule.config,
        algorithm_type='dpmsolver++',
        solver_order=2,
        final_sigmas_type='zero' if grid.last == 'clean' else 'sigma_min',  # sigma_min is the level of ᾱ_0
        lower_order_final=True,
        use_karras_sigmas=False,
    )
    scheduler.set_timesteps(timesteps=grid.timesteps, device=z.device)
    for i, step in enumerate(grid.timesteps):
        t = torch.full((len(z),), step, device=z.device, dtype=torch.long)
        output = denoise(z, t, i == len(grid.timesteps) - 1)
        z = scheduler.step(output, scheduler.timesteps[i], z, return_dict=False)[0]
    return z


def _following(grid: Grid, i: int) -> int | None:
    """The timestep after entry ``i``; None is the clean latent."""
    return [*grid.timesteps, None if grid.last == 'clean' else 0][i + 1]


SOLVERS = {'ddim': ddim, 'ddpm': ddpm, 'dpm++': dpm_solver}
