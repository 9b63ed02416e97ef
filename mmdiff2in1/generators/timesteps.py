"""Timestep grids: the timesteps at which a partially noised latent is denoised."""

from numbers import Integral

GRIDS = ('even', 'released')


def timestep_grid(T: int, n: int, kind: str = 'even', T_max: int = 1000) -> list[int]:
    """Strictly decreasing timesteps, one U-Net call each, from noise level ``T`` towards the clean latent.

    Args:
        T: Noise level that the latent was brought to, 1 … ``T_max``. ``T_max`` stands for pure noise.
        n: Calls asked for.
        kind: ``even`` gives exactly ``n`` integers from ``min(T, T_max - 1)`` to 1 (``n = 1``: only the first), and
            the step after the last goes to the clean latent. ``released`` is the grid of the code that accompanies
            Diff-2-in-1: spacing ``c = T // n``, timesteps ``1, 1 + c, …`` below ``T + 1``, so ``ceil(T / c)`` calls.
        T_max: Number of timesteps the model was trained with; timesteps run over 0 … ``T_max - 1``.

    Returns:
        The grid; its length is the number of U-Net calls that are made.

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
    if kind == 'released':
        spacing = T // n
        return list(range(1, start + 1, spacing))[::-1]
    if n == 1:
        return [start]
    # Integer rounding of the even spacing: steps are at least 1 apart, so the integers stay distinct.
    return [start - (2 * (start - 1) * i + n - 1) // (2 * (n - 1)) for i in range(n)]
