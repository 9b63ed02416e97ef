"""Which classes are things, learned from class maps. H, W: image size; K classes.

What fills a room or a street (floor, wall, sky, road) runs on beyond the picture and is wide; a thing ends within it.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mmdiff2in1.tasks import SemanticSegmentation

from .objects import Region

MOST = 0.27
"""Share of a class's pixels in regions that reach the border, times their extent as a share of the image. Of things it
is at most 0.2 on Scenes and CamVid, of all else there at least 0.36."""


def learned_things(regions: Iterable[Region], num_classes: int) -> list[int]:
    """The classes whose regions mostly end within the picture, in order.

    The measure is the share of pixels in regions at the border times the mean extent of its regions (the longer side of
    a region's box against that of the image), both means over pixels.
    """
    pixels, at_border, extent = np.zeros((3, num_classes))
    for region in regions:
        pixels[region.label] += region.area
        at_border[region.label] += region.area * region.at_border
        extent[region.label] += region.area * region.extent
    occurs = pixels > 0
    spread = np.divide(at_border * extent, pixels**2, out=np.zeros(num_classes), where=occurs)
    return np.flatnonzero(occurs & (spread < MOST)).tolist()


def named_things(classes: Sequence[str | int], areas: SemanticSegmentation) -> list[int]:
    """Indices of classes that are given by name or index, in order.

    Raises:
        ValueError: No such class.
    """
    names = [name.lower() for name in areas.classes or ()]
    found = []
    for each in classes:
        index = each if isinstance(each, int) else names.index(each.lower()) if each.lower() in names else -1
        if not 0 <= index < areas.num_classes:
            known = ', '.join(areas.classes or ()) or f'0 … {areas.num_classes - 1}'
            raise ValueError(f'layout.classes holds {each!r}, which is no class of the data set; known: {known}')
        found.append(index)
    return sorted(set(found))


def class_name(index: int, areas: SemanticSegmentation) -> str:
    """Name of a class in captions."""
    return areas.classes[index].lower() if areas.classes else f'class {index}'
