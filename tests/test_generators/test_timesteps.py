"""The timestep grids, entry by entry."""

import math

import pytest

from mmdiff2in1.generators import timestep_grid


@pytest.mark.parametrize(
    ('T', 'n', 'grid'),
    [
        (600, 1, [600]),
        (600, 2, [600, 1]),
        (600, 3, [600, 300, 1]),
        (600, 5, [600, 450, 300, 151, 1]),
        (601, 5, [601, 451, 301, 151, 1]),
        (7, 7, [7, 6, 5, 4, 3, 2, 1]),
        (7, 4, [7, 5, 3, 1]),
        (1, 1, [1]),
        (1000, 1, [999]),
        (1000, 3, [999, 500, 1]),
        (999, 3, [999, 500, 1]),
    ],
)
def test_even_grid_golden(T, n, grid):
    assert timestep_grid(T, n) == (grid, 'clean')


def test_even_grid_is_the_even_spacing_rounded_to_whole_steps():
    for T in (1, 2, 3, 10, 99, 200, 333, 400, 600, 610, 640, 800, 999, 1000):
        start = min(T, 999)
        for n in (*range(1, min(start, 60) + 1), *range(61, start, 37), start):
            grid = timestep_grid(T, n).timesteps
            assert len(grid) == n and grid[0] == start, (T, n)
            assert all(type(t) is int for t in grid)
            if n > 1:
                assert grid[-1] == 1
                assert all(a > b for a, b in zip(grid, grid[1:], strict=False)), (T, n)
                exact = [start + (1 - start) * i / (n - 1) for i in range(n)]
                assert all(abs(a - b) <= 0.5 + 1e-9 for a, b in zip(grid, exact, strict=True)), (T, n)


@pytest.mark.parametrize(
    ('T', 'n', 'T_max', 'grid'), [(10, 4, 10, [9, 6, 4, 1]), (5, 2, 10, [5, 1]), (50, 1, 50, [49])]
)
def test_even_grid_of_fewer_timesteps(T, n, T_max, grid):
    assert timestep_grid(T, n, T_max=T_max).timesteps == grid


@pytest.mark.parametrize(('T', 'first'), [(600, 589), (50, 50), (100, 99), (400, 393), (800, 785), (1000, 981)])
def test_released_grid_has_fifty_calls_where_fifty_divides_the_level(T, first):
    grid, last = timestep_grid(T, 50, 'released')
    assert last == 'level_0'
    assert grid == [first - i * (T // 50) for i in range(50)]
    assert grid[-1] == 1


@pytest.mark.parametrize(('T', 'n', 'calls', 'first'), [(620, 50, 52, 613), (640, 50, 54, 637), (610, 50, 51, 601)])
def test_released_grid_has_more_calls_elsewhere(T, n, calls, first):
    grid = timestep_grid(T, n, 'released').timesteps
    assert len(grid) == calls and grid[0] == first and grid[-1] == 1


def test_released_grid_is_the_released_formula():
    for T in range(1, 1000, 7):
        for n in (n for n in (1, 2, 3, T // 3, T // 2, T - 1, T) if 1 <= n <= T):
            spacing = T // n
            grid = timestep_grid(T, n, 'released').timesteps
            assert sorted(grid) == [t + 1 for t in range(0, T, spacing)], (T, n)
            assert len(grid) == math.ceil(T / spacing)
            assert grid == sorted(grid, reverse=True)


def test_released_grid_of_pure_noise_ends_at_the_last_timestep():
    assert timestep_grid(1000, 999, 'released').timesteps == list(range(999, 0, -1))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(T=0, n=1), r'T=0 is outside 1 … 1000'),
        (dict(T=-600, n=20), r'T=-600 is outside'),
        (dict(T=1001, n=20), r'T=1001 is outside 1 … 1000: choose a T in that range \(1000 = pure noise\)'),
        (dict(T=0.6, n=20), r'T=0.6 is not a whole number'),
        (dict(T=600.0, n=20), r'T=600.0 is not a whole number'),
        (dict(T=float('nan'), n=20), r'T=nan is not a whole number'),
        (dict(T='600', n=20), r"T='600' is not a whole number"),
        (dict(T=600, n=20.5), r'n=20.5 is not a whole number'),
        (dict(T=600, n=0), r'0 denoising calls were asked for; at least 1'),
        (dict(T=600, n=-3), r'-3 denoising calls'),
        (dict(T=600, n=601), r'601 denoising calls do not fit into T=600: at most 600'),
        (dict(T=1000, n=1000), r'1000 denoising calls do not fit into T=1000: at most 999'),
        (dict(T=49, n=50, kind='released'), r'50 denoising calls do not fit into T=49'),
        (dict(T=1, n=1, T_max=1), r'at most 0 distinct timesteps'),
        (dict(T=600, n=20, kind='linear'), r"unknown timestep grid 'linear'; known: even, released"),
    ],
)
def test_impossible_grids_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        timestep_grid(**arguments)
