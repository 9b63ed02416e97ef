"""The images of a folder of somebody's own, without the masks that lie beside them."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import print_log

from .folders import images_below
from .names import some

MASK_ENDINGS = (
    *('_mask', '_masks', '_label', '_labels', '_seg', '_segmentation', '_gt', '_annotation', '_anno'),
    *('_labelids', '_labeltrainids', '-mask', '-masks', '-label', '-labels', '-seg'),
)
"""Of the name of a mask, behind that of its image, in small or capital letters."""
LOSSY = ('.jpg', '.jpeg')
"""Endings of images that hold no class numbers: a PNG of the same name beside one is its mask."""

_told: set[str] = set()


def photos_below(folder: str | Path) -> list[str]:
    """`images_below` without the masks beside them, see `masks_beside`; what is left out is told, once per folder.

    Raises:
        OSError: A folder that cannot be listed.
    """
    names = images_below(folder)
    masks = masks_beside(names)
    if masks and str(folder) not in _told:
        _told.add(str(folder))
        print_log(
            f'{folder}: {len(names) - len(masks)} images; {len(masks)} files beside them have the name of one and are '
            f'left out, as its masks: {some(list(masks))}',
            'current',
        )
    return [name for name in names if name not in masks]


def masks_beside(names: Sequence[str]) -> dict[str, str]:
    """Mask → its image, of files in one folder.

    ``a_mask.png`` is the mask of ``a.jpg`` or ``a.png`` (so are the other `MASK_ENDINGS`), and ``a.png`` that of
    ``a.jpg``. A file without an image of its name is no mask, whatever it is called.

    Args:
        names: Relative, with `/` and suffix.
    """
    images = {_stem(name): name for name in sorted(names, key=lambda name: _suffix(name) not in LOSSY, reverse=True)}
    masks = {}
    for name in names:
        stem = _stem(name)
        ending = next((each for each in MASK_ENDINGS if stem.lower().endswith(each)), '')
        bare = stem[: len(stem) - len(ending)]
        if ending and not bare.endswith('/') and bare in images:
            masks[name] = images[bare]
        elif _suffix(name) == '.png' and _suffix(images[stem]) in LOSSY:
            masks[name] = images[stem]
    return masks


def _stem(name: str) -> str:
    return name.rpartition('.')[0]


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
