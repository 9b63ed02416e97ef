"""Distances between sets of images: Fréchet and kernel distance of their features, nearest neighbours, quartiles.

N, M samples; D numbers per sample. All in float64.
"""

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID (Heusel et al. 2017): squared Fréchet distance of Gaussians with the moments of `a` (N, D) and `b` (M, D).

    Biased upwards, the more the fewer the samples: compare only at equal numbers, and with the floor of two real sets.
    """
    return gaussian_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def gaussian_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """‖μ_a - μ_b‖² + tr(C_a + C_b - 2 (C_a C_b)^½) (Dowson and Landau 1982)."""
    cov_a, cov_b = np.atleast_2d(cov_a).astype(np.float64), np.atleast_2d(cov_b).astype(np.float64)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    # C_a C_b has the eigenvalues of the symmetric C_a^½ C_b C_a^½: no root of a matrix that is not symmetric.
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID (Bińkowski et al. 2018): unbiased squared MMD (Gretton et al. 2012, Lemma 6) under k(x, y) = (x·y / D + 1)³.

    Its expectation does not depend on the numbers of samples; for two draws from one distribution it is 0, so single
    values may be negative.
    """
    n, m = len(a), len(b)
    within_a, within_b, between = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    of_a = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    of_b = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(of_a + of_b - 2 * between.mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) @ b.T.astype(np.float64) / a.shape[1] + 1) ** 3


def rmse_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root mean squared difference of each sample of `a` (N, …) to each of `b` (M, …), in their unit: (N, M)."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.sqrt(squared.clip(0) / a.shape[1])


def quartiles(values: np.ndarray) -> dict[str, float]:
    """`q25`, `median` and `q75` of (N,) values."""
    return dict(zip(('q25', 'median', 'q75'), map(float, np.percentile(values, (25, 50, 75))), strict=True))
