"""Timestep grids: the timesteps at which a partially noised latent is denoised, and where the last step goes."""

from numbers import Integral
from typing import NamedTuple


class Grid(NamedTuple):
    """The way from a noise level to the clean latent.

    Attributes:
        timesteps: Strictly decreasing, one call of the denoiser each.
        last: Where the step after the last call goes: ``clean``, or ``level_0``, the noise level ᾱ_0.
    """

    timesteps: list[int]
    last: str = 'clean'


def timestep_grid(T: int, n: int, kind: str = 'even', T_max: int = 1000) -> Grid:
    """From noise level ``T`` towards the clean latent.

    Args:
        T: Noise level that the latent was brought to, 1 … ``T_max``. ``T_max`` stands for pure noise.
        n: Calls asked for.
        kind: ``even`` gives exactly ``n`` integers from ``min(T, T_max - 1)`` to 1 (``n = 1``: only the first), and
            the step after the last goes to the clean latent. ``released`` is the grid of the code that accompanies
            Diff-2-in-1: spacing ``c = T // n``, timesteps ``1, 1 + c, …`` below ``T + 1``, so ``ceil(T / c)`` calls;
            its last step goes to ᾱ_0.
        T_max: Number of timesteps the model was trained with; timesteps run over 0 … ``T_max - 1``.

    Returns:
        The grid; the number of its timesteps is the number of calls that are made.

    Raises:
        ValueError: ``T`` or ``n`` is no whole number, ``T`` outside 1 … ``T_max``, ``n`` below 1, more calls than
            timesteps, or an unknown kind.
    """
    if kind not in GRIDS:
        raise ValueError(f'unknown timestep grid {kind!r}; known: {", ".join(GRIDS)}')
    for name, value in (('T', T), ('n', n)):
        if not isinstance(value, Integral):
            raise ValueError(f'{name}={value!r} is not a whole number; timesteps are counted 0 … {T_max - 1}')
    if not 1 <= T <= T_max:
        raise ValueError(f'noise level T={T} is outside 1 … {T_max}: choose a T in that range ({T_max} = pure noise)')
    start = min(T, T_max - 1)
    if n < 1:
        raise ValueError(f'{n} denoising calls were asked for; at least 1 is needed')
    if n > start:
        raise ValueError(f'{n} denoising calls do not fit into T={T}: at most {start} distinct timesteps exist there')
    return GRIDS[kind](T, n, start)


def _even(T: int, n: int, start: int) -> Grid:
    if n == 1:
        return Grid([start])
    # Integer rounding of the even spacing: steps are at least 1 apart, so the integers stay distinct.
    return Grid([start - (2 * (start - 1) * i + n - 1) // (2 * (n - 1)) for i in range(n)])


def _released(T: int, n: int, start: int) -> Grid:
    return Grid(list(range(1, start + 1, T // n))[::-1], last='level_0')


GRIDS = {'even': _even, 'released': _released}
"""Name → grid of (T, n, first timestep), all of them checked."""
