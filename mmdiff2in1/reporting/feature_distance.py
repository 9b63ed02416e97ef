"""FID and KID between real and created images, in the features of a network that the user names.

N images of a set; D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import linalg

from mmdiff2in1.core.images import read_image

MOST = 5000
ENOUGH = 2048
"""Below so many images FID depends on their number more than on their looks; KID does not."""


@dataclass(frozen=True)
class FeatureDistance:
    """FID (Heusel et al., 2017), KID (Bińkowski et al., 2018) and of how many images; lower is nearer."""

    fid: float
    kid: float
    real: int
    created: int


def feature_distance(real: Sequence[Path], created: Sequence[Path], network: Path) -> FeatureDistance:
    """Of image files, at most 5,000 of each kind.

    Args:
        real: Files of real images.
        created: Files of created images.
        network: TorchScript file: RGB (B, 3, H, W), uint8 in 0 … 255, → features (B, D). One that takes
            `return_features`, as the Inception file of StyleGAN's authors does, is asked for them.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No TorchScript, other outputs than features, or fewer than two images of a kind.
    """
    if min(len(real), len(created)) < 2:
        raise ValueError(f'found {len(real)} real and {len(created)} created images, expected two of each or more')
    features = _reader(network)
    a, b = (_features(files[:MOST], features) for files in (real, created))
    return FeatureDistance(frechet_distance(a, b), kernel_distance(a, b), len(a), len(b))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features (N, D)."""
    of_a, of_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    # The eigenvalues of Σ_a Σ_b are real and not negative; rounding may make them so.
    roots = np.sqrt(np.clip(linalg.eigvals(of_a @ of_b).real, 0, None))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(of_a) + np.trace(of_b) - 2 * roots.sum())


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD of features (N, D) under the kernel (x·y / D + 1)³; may be below zero."""
    D = a.shape[1]
    aa, bb, ab = ((x @ y.T / D + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    m, n = len(a), len(b)
    own = (aa.sum() - aa.trace()) / (m * (m - 1)) + (bb.sum() - bb.trace()) / (n * (n - 1))
    return float(own - 2 * ab.mean())


def _reader(network: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    if not Path(network).is_file():
        raise FileNotFoundError(f'{network}: no such file, expected a TorchScript file of a feature network')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        module = torch.jit.load(str(network), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f'{network} is no TorchScript file ({str(error).splitlines()[0]})') from error
    options = dict(return_features=True) if 'return_features' in str(module.forward.schema) else {}
    return lambda images: module(images.to(device), **options)


@torch.no_grad()
def _features(files: Sequence[Path], features: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """(N, D); images may differ in size."""
    found = []
    for file in files:
        image = torch.from_numpy(np.ascontiguousarray(read_image(file).transpose(2, 0, 1)))
        output = features(image[None])
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f'the feature network gave {shape}, expected features (B, D)')
        found.append(output[0].double().cpu().numpy())
    return np.stack(found)
