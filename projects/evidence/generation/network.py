"""The TAESD encoder of FLUX.2's latent space as a source of image features, rebuilt around its published weights.

B, 3, H, W: RGB in [0, 1]; D: `width`, channels inside; c, h, w: latent, an eighth of the image in size.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from mmdiff2in1.models.checkpoints import read_checkpoint

FEATURES = (
    'encoder of TAESD (FLUX.2): mean and standard deviation over space of the channels before the last convolution, '
    'standardised by the reference images; where things stand is pooled away'
)


class ResidualBlock(nn.Module):
    """Three 3×3 convolutions and a skip; with `pooled`, behind a 1×1 bottleneck that is normalised over all of h, w."""

    def __init__(self, width: int, pooled: bool) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        self.conv = nn.Sequential(*layers[:-1])
        self.pool = None
        if pooled:
            # The file does not tell the number of groups: of 1 … 32, 4 lets its decoder restore the images best.
            self.pool = nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(x + self.conv(x))


class TaesdEncoder(nn.Sequential):
    """RGB (B, 3, H, W) in [0, 1] → latents (B, c, h, w): three levels, each halves the size and has three blocks.

    The parameters have the names of the published file (https://github.com/madebyollin/taesd, MIT).
    """

    def __init__(self, width: int = 64, latent_channels: int = 32) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), ResidualBlock(width, False)]
        for level in range(3):
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
            layers += [ResidualBlock(width, pooled=level == 2) for _ in range(3)]
        super().__init__(*layers, nn.Conv2d(width, latent_channels, 3, padding=1))

    def hidden(self, x: Tensor) -> Tensor:
        """What the last convolution sees, an eighth of the image in size."""
        for layer in list(self)[:-1]:
            x = layer(x)
        return x


def load_network(path: str | Path) -> TaesdEncoder:
    """The encoder in a file such as `taef2_encoder.pth`, in float32.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Damaged, or the weights of another network.
    """
    state = read_checkpoint(path)['state_dict']
    first, last = state.get('0.weight'), state.get('14.weight')
    try:
        if first is None or last is None:
            raise RuntimeError('0.weight or 14.weight is missing')
        network = TaesdEncoder(len(first), len(last))
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ValueError(
            f'{path} does not hold the TAESD encoder of FLUX.2 (taef2_encoder.pth), the one network that is known here '
            f'({str(error)[:300]})'
        ) from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def image_features(network: TaesdEncoder, images: np.ndarray, batch_size: int) -> np.ndarray:
    """uint8 RGB (N, H, W, 3) → float64 (N, 2D): mean and standard deviation over space of the last hidden channels."""
    vectors: list[Tensor] = []
    device = next(network.parameters()).device
    for start in tqdm(range(0, len(images), batch_size), desc='features', unit='batch', leave=False):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(device)
        x = network.hidden(batch.permute(0, 3, 1, 2).float() / 255).double().flatten(2)
        vectors.append(torch.cat([x.mean(2), x.std(2, unbiased=False)], 1).cpu())
    return torch.cat(vectors).numpy()


def standardised(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Features in units of the spread of those of `reference`, so that no channel outweighs the others."""
    return (features - reference.mean(0)) / (reference.std(0) + 1e-6)
