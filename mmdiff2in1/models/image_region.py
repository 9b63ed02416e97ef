"""Where in a padded input the image lies. H, W: size of the input."""

from collections.abc import Mapping
from typing import Any


def image_region(meta: Mapping[str, Any], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an input of (H, W) = `size` that show the image, from the metainfo of its sample.

    `img_shape` is its height and width, `padding_size` (left, right, top, bottom) what was filled in around it; without
    that the padding is below and at the right, as mmseg does it.
    """
    height, width = meta.get('img_shape', size)[:2]
    left, _, top, _ = meta.get('padding_size') or (0, 0, 0, 0)
    return slice(int(top), int(top + height)), slice(int(left), int(left + width))
