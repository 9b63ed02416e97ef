"""Label maps beside a folder of images, drawn as what a ControlNet is shown. H, W: size of the images in training."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmseg.registry import DATASETS, TASK_UTILS
from torch import Tensor
from torch.utils.data import Dataset

import mmdiff2in1.datasets  # noqa: F401  registers
from mmdiff2in1.core.images import image_size
from mmdiff2in1.core.label_files import read_classes, read_map
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from .image_folder import ImageCaptionFolder, LatentCaptions, framed


def label_task(name: str, label_set: str) -> DenseTask:
    """The task of this name; classes with the names and colours of `label_set`, a data set of mmseg's registry.

    Raises:
        ValueError: No such task or data set, or one without classes.
    """
    kinds = [k for k in TASK_UTILS.module_dict.values() if isinstance(k, type) and issubclass(k, DenseTask)]
    kind = {each.name: each for each in kinds}.get(name)
    if kind is None:
        raise ValueError(f'there is no task {name!r}; known: {", ".join(sorted(each.name for each in kinds))}')
    if kind is not SemanticSegmentation:
        return kind()
    meta = getattr(DATASETS.get(label_set), 'METAINFO', {})
    if not meta.get('classes'):
        raise ValueError(f'label_set={label_set!r}: expected a data set of mmseg or of ours that names its classes')
    return SemanticSegmentation(len(meta['classes'])).of_dataset(meta)


class LabelFolder:
    """The label map of each image of a folder: `<folder>/<name of the image>.png`, at the size of its image.

    Args:
        folder: Of the maps, in the task's encoding, as mmdiff2in1 test --out and `Diff2in1Inferencer` write them.
        images: Which they belong to; they are resized and cropped as the images are.
        task: What they are.

    Raises:
        FileNotFoundError: An image has no map.
        ValueError: A map cannot be read, or is of another size than its image.
    """

    def __init__(self, folder: str | Path, images: ImageCaptionFolder, task: DenseTask) -> None:
        self.task = task
        files = [Path(folder, name).with_suffix('.png') for name in images.names]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(files)} images have no label map, first {missing[0]}; expected one PNG of the '
                'same name for each'
            )
        self.maps = [
            self._read(file, images.folder / name, images.size) for file, name in zip(files, images.names, strict=True)
        ]

    def _read(self, file: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        read = read_classes if isinstance(self.task, SemanticSegmentation) else read_map
        try:
            array = self.task.decode(read(str(file)))
        except ValueError as error:
            raise ValueError(f'{file}: {error}') from error
        native = image_size(image)
        if array.shape[:2] != native:
            raise ValueError(f'{file}: found a map of {array.shape[:2]}, expected {native}, the size of {image}')
        resized, top, left = framed(native, size)
        return self.task.resize(array, resized)[top : top + size[0], left : left + size[1]].copy()

    def digest(self) -> str:
        """SHA-256 of all maps as they are drawn."""
        digest = hashlib.sha256()
        for index in range(len(self.maps)):
            digest.update(self.picture(index).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return 2 * len(self.maps)

    def picture(self, index: int) -> np.ndarray:
        """uint8 RGB (H, W, 3). The second half are the maps of the mirrored images."""
        flipped, number = divmod(index, len(self.maps))
        array = self.maps[number]
        return self.task.condition(self.task.flip(array) if flipped else array)


class ConditionedLatents(Dataset):
    """Latents and token ids with the pictures of the label maps."""

    def __init__(self, latents: LatentCaptions, labels: LabelFolder) -> None:
        self.latents, self.labels = latents, labels

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``latents`` (c, h, w), ``token_ids`` (L,), ``conditions`` (3, H, W) in [0, 1]."""
        picture = torch.from_numpy(self.labels.picture(index)).permute(2, 0, 1)
        return self.latents[index] | dict(conditions=picture.float() / 255)
