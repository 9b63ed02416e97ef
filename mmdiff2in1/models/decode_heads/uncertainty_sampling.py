"""Which pixels a point head is trained on: the least certain ones, and some others (Bae et al., ICCV 2021, Sec. 3.3).

B samples, H × W pixels, N of them per sample, as indices into the flattened map.
"""

import torch
from torch import Tensor


@torch.no_grad()
def sample_pixels(certainty: Tensor, valid: Tensor, sampling_ratio: float, importance_ratio: float) -> Tensor:
    """Indices (B, N), none of them twice in a sample; N = sampling_ratio · H · W.

    `importance_ratio` of N are the valid pixels of least certainty, in that order, then, where these run out, invalid
    ones. The others are drawn uniformly from all that remain, valid or not, with torch's global generator of the
    device.

    Args:
        certainty: (B, H, W), e.g. κ.
        valid: (B, H, W) bool.
        sampling_ratio: In (0, 1].
        importance_ratio: In [0, 1].
    """
    certainty = certainty.masked_fill(~valid, torch.inf).flatten(1)
    pixels = certainty.shape[1]
    total = max(1, int(sampling_ratio * pixels))
    important = certainty.argsort(dim=1, stable=True)[:, : int(importance_ratio * total)]
    # A uniform draw without replacement, for all samples at once: the largest of random keys.
    keys = torch.rand_like(certainty).scatter(1, important, -1.0)
    others = keys.topk(total - important.shape[1], dim=1).indices
    return torch.cat([important, others], dim=1)


def grid_coordinates(index: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, N, 2) for `grid_sample` with aligned corners, (x, y) in [-1, 1], of pixels (B, N) of an H × W map."""
    height, width = size
    rows, columns = index // width, index % width
    coordinates = torch.stack([columns / max(1, width - 1), rows / max(1, height - 1)], dim=-1)
    return (2 * coordinates - 1)[:, None]


def nearest_aligned(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, c, H', W') at another size, nearest neighbour with aligned corners: no two vectors are mixed."""
    rows, columns = (
        (torch.arange(new, device=maps.device) * ((old - 1) / max(1, new - 1))).round().long()
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[:, :, rows[:, None], columns]
