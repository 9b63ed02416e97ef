"""Fresh augmentation of a whole batch: mirror, zoom and crop, then colours. Real and created images get the same.

B, 3, H, W: RGB in [0, 1]; c target channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiff2in1.tasks import DenseTask

MAX_ZOOM = 1.5
LUMA = (0.299, 0.587, 0.114)


def augment(
    images: Tensor, targets: dict[str, Tensor], tasks: dict[str, DenseTask], generator: torch.Generator
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """One draw for every image of a batch.

    Args:
        images: (B, 3, H, W) in [0, 1].
        targets: Task name → (B, c, H, W).
        tasks: Task name → task; what a mirror and a zoom do to values is the task's answer.
        generator: All randomness comes from it.

    Returns:
        The images after mirror, zoom and crop; the same with colours changed as well; the targets of both.
    """
    batch = len(images)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    zoom = 1 + (MAX_ZOOM - 1) * torch.rand(batch, generator=generator)
    centre = (2 * torch.rand(batch, 2, generator=generator) - 1) * (1 - 1 / zoom)[:, None]
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = torch.where(mirrored, -1.0, 1.0) / zoom
    theta[:, 1, 1] = 1 / zoom
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    plain = F.grid_sample(images, grid, mode='bilinear', padding_mode='border', align_corners=False)
    moved = {
        name: _moved(target, tasks[name], grid, mirrored, zoom) for name, target in targets.items() if name in tasks
    }
    return plain, _recoloured(plain, generator), moved


def _moved(target: Tensor, task: DenseTask, grid: Tensor, mirrored: Tensor, zoom: Tensor) -> Tensor:
    """Nearest neighbour, so that no value is a mixture; then the values as the task changes them."""
    sampled = F.grid_sample(target.float(), grid, mode='nearest', padding_mode='border', align_corners=False)
    moved = []
    for each, flipped, scale in zip(sampled.to(task.target_dtype), mirrored.tolist(), zoom.tolist(), strict=True):
        array = task.rescale(task.to_map(each), scale)
        # The grid has moved the pixels already: of the task's mirror only the change of values is left.
        moved.append(task.to_target(task.flip(array)[:, ::-1] if flipped else array))
    return torch.stack(moved)


def _recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, white balance and noise, each of random strength."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(len(images), channels, 1, 1, generator=generator)

    grey = (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    images = grey + (images - grey) * draw(0.5, 1.5)
    images = mean + (images - mean) * draw(0.6, 1.4) + draw(-0.12, 0.12)
    images = images * draw(0.85, 1.15, 3)
    noise = torch.randn(images.shape, generator=generator) * draw(0.0, 0.03)
    return (images + noise).clamp(0, 1)
