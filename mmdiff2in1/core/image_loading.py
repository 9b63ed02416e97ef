"""How the pipeline of a data set loads its images: as `read_image` does, or in a way of its own.

H, W: image size; C: channels. mmseg's loaders of .npy files, of remote sensing and of volumes open what OpenCV does not
know, and settings of mmcv's loader change what it gives. Whoever opens the images of a data set asks here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile

from .dataset_images import dataset_leaves
from .image_faults import AGAIN, UnreadableImageError
from .images import read_image
from .names import type_name

AS_READ = dict(imdecode_backend='cv2', color_type='color')
"""How mmcv's loader reads an image unless it is told otherwise, and how `read_image` does."""
RGB = 3
FAINTEST, BRIGHTEST = 1, 99
"""Percentiles of a channel that are black and white in a picture."""


@dataclass(frozen=True)
class OwnLoader:
    """The step of a pipeline that loads images in another way than `read_image`."""

    step: Any

    @property
    def name(self) -> str:
        """Of its class."""
        return type(self.step).__name__

    @property
    def plain(self) -> bool:
        """True for mmcv's loader with other settings: it opens any image file."""
        return type(self.step).transform is LoadImageFromFile.transform

    def load(self, info: Mapping[str, Any]) -> np.ndarray:
        """The image of a data info as training gets it, (H, W, C), or (H, W) of one channel; volumes have more axes.

        Raises:
            FileNotFoundError: No such file.
            UnreadableImageError: The loader refuses it.
        """
        path = info['img_path']
        try:
            return np.asarray(self.step(dict(info))['img'])
        except FileNotFoundError:
            raise FileNotFoundError(f'image {path} does not exist; check its path, or data_root and img_path') from None
        except Exception as error:  # a loader of anybody's
            found = f'what {self.name} does not read ({str(error).strip() or type(error).__name__})'
            raise UnreadableImageError(path, found, f'a whole file for {self.name}', AGAIN) from error


def own_loader(dataset: Any) -> OwnLoader | None:
    """The loader of a built data set; None: it loads as `read_image` does, or its pipeline has no step that loads."""
    pipeline = getattr(dataset, 'pipeline', None)
    step = next((step for step in getattr(pipeline, 'transforms', None) or () if loads_images(step)), None)
    if step is None:
        return None
    loader = OwnLoader(step)
    as_read = loader.plain and all(getattr(step, key, value) == value for key, value in AS_READ.items())
    return None if as_read else loader


def loads_images(step: Any) -> bool:
    """True for a step of a pipeline, built or its config, that opens the image; others' are known by their names."""
    name = type_name(step)
    named = name.startswith('Load') and ('Image' in name or name == 'LoadBiomedicalData')
    return named or isinstance(step, LoadImageFromFile)


def refuse_for_created(dataset: Any) -> None:
    """Created images are RGB files: raises ValueError if they cannot stand beside the images of a built data set.

    Of each data set inside the first image is loaded, where that is not done as `read_image` does.
    """
    for leaf, loader in _own_loaders(dataset):
        info = leaf.get_data_info(0)
        _refuse_channels(loader, info)


def refuse_as_sources(dataset: Any) -> None:
    """Creation and captions open image files: raises ValueError if the images of a built data set are none.

    Also what `refuse_for_created` raises.
    """
    refuse_for_created(dataset)
    for leaf, loader in _own_loaders(dataset):
        path = leaf.get_data_info(0)['img_path']
        try:
            read_image(path)
        except UnreadableImageError as error:
            raise ValueError(
                f'{path} is no image file, {loader.name} reads it; creation starts from files that OpenCV reads, and '
                'captions are made of them: write the images as PNG'
            ) from error


def picture_reader(dataset: Any) -> Callable[[str], np.ndarray]:
    """Path → picture of an image of a built data set, uint8 RGB (H, W, 3); of several sets as the first one loads."""
    for leaf in dataset_leaves(dataset)[:1]:
        loader = own_loader(leaf)
        if loader is not None:
            return lambda path: as_picture(loader.load(dict(img_path=path)))
    return read_image


def as_picture(image: np.ndarray) -> np.ndarray:
    """A loaded image (H, W, C) or (H, W) for the eye, uint8 RGB (H, W, 3).

    uint8 BGR is turned; of other channels the first, the middle and the last are blue, green and red, each stretched
    from its percentile `FAINTEST` to `BRIGHTEST`.

    Raises ValueError for a volume.
    """
    if image.ndim not in (2, 3):
        raise ValueError(f'found an image of shape {image.shape}, expected (H, W) or (H, W, channels)')
    image = image.reshape(*image.shape[:2], -1)
    channels = image.shape[2]
    picture = image[..., [channels - 1, channels // 2, 0]]
    if channels in (1, RGB) and image.dtype == np.uint8:
        return np.ascontiguousarray(picture)
    low, high = np.percentile(picture.astype(np.float64), (FAINTEST, BRIGHTEST), axis=(0, 1))
    stretched = ((picture - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return (255 * stretched).round().astype(np.uint8)


def _own_loaders(dataset: Any) -> Iterator[tuple[Any, OwnLoader]]:
    for leaf in dataset_leaves(dataset):
        loader = own_loader(leaf)
        if loader is not None and len(leaf):
            yield leaf, loader


def _refuse_channels(loader: OwnLoader, info: Mapping[str, Any]) -> None:
    path, cure = info['img_path'], 'none can be mixed in: train the config as it is, without created images'
    if info.get('img_path2') is not None:
        raise ValueError(f'{path} has a second image, {info["img_path2"]}, and created images have none; {cure}')
    shape = loader.load(info).shape
    if len(shape) not in (2, 3):
        raise ValueError(f'{path}: {loader.name} loads a volume, {shape}, and created images are planes; {cure}')
    found = shape[2] if len(shape) == 3 else 1
    expected = 1 if loader.plain and loader.step.color_type.startswith('grayscale') else RGB
    if found != expected:
        raise ValueError(f'{path}: {loader.name} loads {found} channels, and created images have {expected}; {cure}')
