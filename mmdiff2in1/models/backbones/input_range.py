"""Range of images, checked against what a diffusion model was trained on; a usual mistake: the data preprocessor."""

from torch import Tensor

TOLERANCE = 1e-3


def check_range(images: Tensor) -> None:
    """Makes sure that images (B, 3, H, W) lie in [-1, 1]; makes a GPU wait.

    Raises:
        ValueError: They do not.
    """
    low, high = (value.item() for value in images.aminmax())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):  # also true for nan
        raise ValueError(
            f'found images in [{low:.4g}, {high:.4g}], expected RGB in [-1, 1]; set '
            "data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, …)"
        )
