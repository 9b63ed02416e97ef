"""One image and its label files: reads them as a training will, and says what is wrong with them. H, W: image size."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageOps

from mmdiff2in1.core.label_files import read_map, where_known
from mmdiff2in1.tasks import DenseTask, Depth, SurfaceNormal

from .depth import DepthFacts, depth_bits_problem, depth_facts
from .labels import LabelRules, class_pixels
from .normals import NormalFacts, normal_facts
from .problem import Problem

LABEL_KEY = 'seg_map_path'
# Other label files that a sample may name, and who knows what belongs into them.
TASKS: dict[str, DenseTask] = {'depth_map_path': Depth(), 'normal_map_path': SurfaceNormal()}
SMALLEST = 32  # pixels; a shorter side is called tiny
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class PairFacts:
    """What was seen of one pair; of a file that cannot be read, the defaults.

    `size`: (H, W) of the image as it is trained on. `digest`: hash of its pixels. `raw`: (256,) pixels per raw value of
    the class label. `known`: for each other label key the share of pixels that hold a value; `dense`: what only many
    maps together tell about these labels.
    """

    size: tuple[int, int] | None = None
    digest: str = ''
    grey: bool = False
    raw: np.ndarray | None = None
    known: dict[str, float] = field(default_factory=dict)
    dense: dict[str, NormalFacts | DepthFacts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def inspect_pair(info: Mapping, rules: LabelRules, tasks: Mapping[str, DenseTask] = TASKS) -> PairFacts:
    """Reads the image and all label files of a sample, each to its last byte.

    Args:
        info: What `get_data_info` of the dataset gives.
        rules: For the class label.
        tasks: Label key → what belongs into the other label files.
    """
    facts = PairFacts()
    image = _image(info['img_path'], facts)
    for key in label_keys(info):
        path = info[key]
        label = _decoded(path, key, facts)
        if label is None:
            continue
        if image is not None and label.shape[:2] != facts.size:
            facts.problems.append(_other_size(path, label, info['img_path'], image, facts.size))
        if key == LABEL_KEY:
            facts.raw = class_pixels(path, label, rules, facts.problems)
        elif key in tasks:
            _dense_values(info, key, label, tasks[key], facts)
    return facts


def label_keys(info: Mapping) -> list[str]:
    """Keys of the label files that a sample has."""
    return [key for key in info if key.endswith('_map_path') and info[key] is not None]


def read_image(path: str) -> Image.Image:
    """Decoded to the last byte and turned as its EXIF entry says, as OpenCV does in training; its own mode.

    Raises:
        ValueError: Not a whole image file.
    """
    return ImageOps.exif_transpose(_opened(path))


def read_label(path: str, key: str = LABEL_KEY) -> np.ndarray:
    """A label file unchanged: (H, W) or (H, W, channels) in RGB order; a palette image gives its indices.

    Raises:
        ValueError: Not a whole image file, or not a whole `.npy` file.
    """
    if str(path).endswith('.npy'):
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f'{path}: expected a whole .npy file, found: {error}') from error
    label = np.asarray(_opened(path))
    if key in TASKS:  # Pillow would cut 16-bit colour down to 8
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        return cv2.cvtColor(label, cv2.COLOR_BGR2RGB) if label.ndim == 3 and label.shape[2] == 3 else label
    return label


def _opened(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise
    except Exception as error:  # every decoder has errors of its own
        raise ValueError(f'{path}: expected a whole image file, found: {error}') from error


def _guarded(read, path: str, what: str, problems: list[Problem]):
    try:
        return read()
    except FileNotFoundError:
        step = f'Add the {what}, or take the sample out of the split file or folder'
        problems.append(Problem('error', f'missing-{what}', path, 'no such file', f'a {what}', step))
    except ValueError as error:
        found = str(error.__cause__ or error)
        step = 'Copy or unpack the file again'
        problems.append(Problem('error', 'unreadable', path, found, 'a whole image file', step))
    return None


def _image(path: str, facts: PairFacts) -> Image.Image | None:
    """The image as stored; fills in what `facts` holds about it."""
    stored = _guarded(lambda: _opened(path), path, 'image', facts.problems)
    if stored is None:
        return None
    turn = stored.getexif().get(_ORIENTATION, 1)
    if turn not in (0, 1):
        expected = 'upright pixels (training turns the image, not its label)'
        step = (
            'Turn the pixels and remove the entry, e.g. with Pillow ImageOps.exif_transpose; then look at the overlay'
        )
        facts.problems.append(Problem('warning', 'exif', path, f'EXIF orientation {turn}', expected, step))
    rgb = np.asarray(ImageOps.exif_transpose(stored).convert('RGB'))
    facts.size = rgb.shape[:2]
    facts.digest = hashlib.blake2b(repr(rgb.shape).encode() + rgb.tobytes(), digest_size=16).hexdigest()
    facts.grey = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    if min(facts.size) < SMALLEST:
        step = 'Leave it out, unless your crops are this small'
        expected = f'at least {SMALLEST} pixels on each side'
        facts.problems.append(Problem('warning', 'tiny', path, _size(facts.size), expected, step))
    return stored


def _decoded(path: str, key: str, facts: PairFacts) -> np.ndarray | None:
    return _guarded(lambda: read_label(path, key), path, 'label', facts.problems)


def _other_size(path: str, label: np.ndarray, image_path: str, stored: Image.Image, size: tuple[int, int]) -> Problem:
    step = 'Check that the two belong together; resize neither blindly'
    if label.shape[:2] == stored.size[::-1]:
        step = 'The image has an EXIF orientation and is turned in training: turn its pixels and remove the entry'
    found = f'{_size(label.shape)} (height × width)'
    expected = f'{_size(size)}, the size of its image {image_path}'
    return Problem('error', 'size', path, found, expected, step)


def _dense_values(info: Mapping, key: str, label: np.ndarray, task: DenseTask, facts: PairFacts) -> None:
    path = info[key]
    problem = depth_bits_problem(path, label) if isinstance(task, Depth) else None
    if problem is not None:
        facts.problems.append(problem)
        return
    try:
        if info.get('valid_mask_path') is not None:
            label = where_known(label, read_map(info['valid_mask_path']))
        array = task.decode(label)
    except (ValueError, FileNotFoundError) as error:
        step = 'Convert the file, or leave its key out of data_prefix'
        facts.problems.append(Problem('error', 'label-values', path, str(error), f'a {task.name} map', step))
        return
    facts.known[key] = float((array != 0).reshape(*array.shape[:2], -1).any(-1).mean())
    if not facts.known[key]:
        step, expected = 'Nothing can be learnt from it: leave the pair out', 'at least one pixel with a value'
        facts.problems.append(Problem('warning', 'all-ignored', path, 'only invalid pixels', expected, step))
        return
    found: NormalFacts | DepthFacts | None = None
    if isinstance(task, SurfaceNormal):
        lost = int((label.any(-1) & ~array.any(-1)).sum())
        if lost:
            step = 'They count as not known. Fine for a few; if they lie together, the set may mark unknown pixels so'
            count = f'{lost} vectors whose length is not 1'
            facts.problems.append(Problem('warning', 'vector-length', path, count, 'unit vectors, or black', step))
        found = normal_facts(array, info.get('label_axes'), 8 * label.dtype.itemsize)
    elif isinstance(task, Depth):
        found = depth_facts(label, array)
    if found is not None:
        facts.dense[key] = found


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[0]}×{shape[1]}'
