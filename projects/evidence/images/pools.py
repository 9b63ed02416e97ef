"""Images with what is known about them, in memory: the parts of Scenes, draws of them, CamVid.

N images; H, W pixels; c target channels of a task.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mmdiff2in1.captions import read_captions
from mmdiff2in1.core.list_files import list_entries
from mmdiff2in1.datasets.scenes import CLASSES
from mmdiff2in1.datasets.scenes.render import Scene, render_scene
from mmdiff2in1.datasets.scenes.write import PART_STARTS
from mmdiff2in1.datasets.scenes_dataset import ScenesDataset
from mmdiff2in1.tasks import DenseTask, Depth, SemanticSegmentation, SurfaceNormal

TASKS: dict[str, dict[str, DenseTask]] = {
    'scenes': {
        'normal': SurfaceNormal(),
        'semantic_segmentation': SemanticSegmentation(len(CLASSES)),
        'depth': Depth(),
    },
    'camvid': {'semantic_segmentation': SemanticSegmentation(11, ignore_index=11)},
}
FOLDERS = {'normal': 'normal', 'semantic_segmentation': 'semantic', 'depth': 'depth'}
CAMVID_SIZE = (64, 96)


@dataclass
class Pool:
    """Images with what is known about them.

    Attributes:
        images: (N, 3, H, W) uint8 RGB.
        targets: Task name → (N, c, H', W'); empty for images without labels. Test parts may have H' > H.
        captions: N texts.
        names: File names, where the images have them.
    """

    images: Tensor
    targets: dict[str, Tensor]
    captions: list[str]
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)


def scenes_part(
    root: Path, part: str, tasks: dict[str, DenseTask], num_labelled: int | None = None, seed: int = 0
) -> Pool:
    """A labelled part of Scenes, or the draw of it that ``ScenesDataset(num_labelled, subset_seed)`` makes.

    Raises:
        FileNotFoundError: Something is missing; make the set with mmdiff2in1 scenes.
        ValueError: An image has no caption, or images or labels differ in size.
    """
    prefix = {task.path_key: f'{part}/{FOLDERS[name]}' for name, task in tasks.items()}
    dataset = ScenesDataset(
        data_root=str(root),
        data_prefix={'img_path': f'{part}/images', 'seg_map_path': f'{part}/semantic', **prefix},
        num_labelled=num_labelled,
        subset_seed=seed,
        pipeline=[],
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    names = [Path(info['img_path']).name for info in infos]
    captions = read_captions(root / part / 'captions.jsonl')
    if missing := [name for name in names if name not in captions]:
        raise ValueError(f'{root / part}/captions.jsonl has no caption for {len(missing)} images, first {missing[0]}')
    images = _stack([_read(info['img_path']) for info in infos])
    targets = {
        name: _stack([task.decode(_read(info[task.path_key])) for info in infos]) for name, task in tasks.items()
    }
    for name, target in targets.items():
        if target.shape[-2:] != images.shape[-2:]:
            raise ValueError(
                f'{root / part}: {name} of {tuple(target.shape[-2:])}, images of {tuple(images.shape[-2:])}'
            )
    return Pool(images, targets, [captions[name] for name in names], names)


def unlabelled_scenes(root: Path, count: int, seed: int, tasks: dict[str, DenseTask]) -> Pool:
    """A draw of the part ``unlabelled``, its true labels rendered anew: for the arm that is allowed to see them."""
    meta = json.loads((root / 'meta.json').read_text())
    drawn = np.random.default_rng([seed, 1]).permutation(meta['counts']['unlabelled'])[:count]
    scenes = [render_scene(meta['seed'], PART_STARTS['unlabelled'] + int(i), meta['size']) for i in drawn]
    return rendered(scenes, tasks)


def rendered(scenes: Sequence[Scene], tasks: Iterable[str]) -> Pool:
    """Scenes as they come from the renderer, with their labels."""
    targets = {name: _stack([getattr(scene, FOLDERS[name]) for scene in scenes]) for name in tasks}
    return Pool(_stack([scene.image for scene in scenes]), targets, [scene.caption for scene in scenes])


def camvid_train(root: Path, num_labelled: int, seed: int) -> Pool:
    """A seeded draw of CamVid's training images at 64 × 96 (3:2 instead of 4:3), without captions."""
    names = [line.text for line in list_entries(root / 'splits' / 'train.txt')]
    if not 1 <= num_labelled <= len(names):
        raise ValueError(f'{num_labelled} labelled images asked for; {root} holds {len(names)} training images')
    drawn = [names[i] for i in sorted(np.random.default_rng(seed).permutation(len(names))[:num_labelled])]
    task = TASKS['camvid']['semantic_segmentation']  # its resize keeps pixel centres where the image's are
    labels = [task.resize(_read(root / f'annotations/train/{name}.png'), CAMVID_SIZE) for name in drawn]
    return Pool(_camvid_images(root, 'train', drawn), {'semantic_segmentation': _stack(labels)}, [''] * len(drawn))


def camvid_val(root: Path) -> Pool:
    """CamVid's validation images at 64 × 96, their labels at the full 360 × 480."""
    names = [line.text for line in list_entries(root / 'splits' / 'val.txt')]
    labels = [_read(root / f'annotations/val/{name}.png') for name in names]
    return Pool(_camvid_images(root, 'val', names), {'semantic_segmentation': _stack(labels)}, [''] * len(names))


def _camvid_images(root: Path, part: str, names: list[str]) -> Tensor:
    height, width = CAMVID_SIZE
    images = [_read(root / f'images/{part}/{name}.png') for name in names]
    return _stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images])


def _read(path: str | Path) -> np.ndarray:
    """A PNG unchanged, three channels in RGB order."""
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise FileNotFoundError(f'{path} is missing or unreadable; make or copy the data set anew')
    return array[..., ::-1] if array.ndim == 3 else array


def _stack(arrays: list[np.ndarray]) -> Tensor:
    """(H, W) or (H, W, c) arrays as one (N, c, H, W) tensor."""
    stacked = torch.from_numpy(np.stack([np.ascontiguousarray(array) for array in arrays]))
    return stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
