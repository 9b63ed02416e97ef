"""One image and its label files: reads them as a training will, and says what is wrong with them. H, W: image size."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmdiff2in1.core.image_faults import UnreadableImageError
from mmdiff2in1.core.image_loading import OwnLoader
from mmdiff2in1.core.images import TURNED, read_image, stored_frame
from mmdiff2in1.core.label_files import lossy_container, read_classes, read_map, where_known
from mmdiff2in1.core.problem import Problem
from mmdiff2in1.datasets.label_formats import format_of, read_label_file
from mmdiff2in1.tasks import DenseTask

from .labels import LabelRules, class_pixels
from .loading import LABEL_KEY, label_keys

SMALLEST = 32  # pixels; a shorter side is called tiny


@dataclass
class PairFacts:
    """Facts about one pair that was read; of a file that cannot be read, the defaults.

    `size`: (H, W) of the image as it is trained on. `digest`: hash of its pixels. `raw`: (256,) pixels per raw value of
    the class label. `known`: by the other tasks' names the share of pixels that hold a value; `maps`: what only many
    maps of the task together tell, see `DenseTask.inspect`.
    """

    size: tuple[int, int] | None = None
    digest: str = ''
    grey: bool = False
    raw: np.ndarray | None = None
    known: dict[str, float] = field(default_factory=dict)
    maps: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def inspect_pair(
    info: Mapping, rules: LabelRules | None, tasks: Mapping[str, DenseTask], loader: OwnLoader | None = None
) -> PairFacts:
    """Reads the image and all label files of a sample, each to its last byte.

    Args:
        info: What `get_data_info` of the dataset gives.
        rules: For the class label; None: it holds none of mmseg's.
        tasks: Name → what belongs into the label files under its `path_key`.
        loader: Of the images, see `own_loader`.
    """
    facts = PairFacts()
    stored = _image(info, facts, loader)
    _mask(info, facts)
    for key in label_keys(info):
        if key == LABEL_KEY and rules is not None:
            label = _label(info, key, stored, facts, rules.backend)
            facts.raw = None if label is None else class_pixels(info[key], label, rules, facts.problems)
        read_by = [name for name, task in tasks.items() if task.path_key == key]
        if read_by or key != LABEL_KEY:
            label = _label(info, key, stored, facts)
            for name in read_by if label is not None else []:
                _values(info, label, name, tasks[name], facts)
    facts.problems = list(dict.fromkeys(facts.problems))  # a file may be read as two things
    return facts


def judge_maps(
    facts: Sequence[PairFacts], infos: Sequence[Mapping], tasks: Mapping[str, DenseTask], prefix: Mapping
) -> tuple[list[str], list[Problem]]:
    """Notes for the report, and problems, that the maps of a set show together.

    Args:
        facts: Of the pairs that were read.
        infos: Their data infos.
        tasks: As for `inspect_pair`.
        prefix: `data_prefix` of the set.
    """
    notes, problems = [], []
    for name in dict.fromkeys(name for fact in facts for name in fact.known):
        key = tasks[name].path_key
        where = str(prefix.get(key) or key)
        shares = [fact.known[name] for fact in facts if name in fact.known]
        if not any(shares):
            found = f'no value in any of the {len(shares)} maps read'
            step = 'Nothing can be learnt or scored: look at the files, and at what stands for unknown in them'
            problems.append(Problem('error', 'all-ignored', where, found, 'maps that hold something', step))
            continue
        seen = [(fact.maps[name], info) for fact, info in zip(facts, infos, strict=True) if name in fact.maps]
        if seen:
            more_notes, more_problems = tasks[name].judge([fact for fact, _ in seen], seen[0][1], where)
            notes += more_notes
            problems += more_problems
    return notes, problems


def read_label(
    info: Mapping, key: str, size: tuple[int, int] | None = None, classes_by: str | None = None
) -> np.ndarray:
    """A label file unchanged, or as its `label_formats` says: (H, W) or (H, W, channels) in RGB order.

    Args:
        info: Data info.
        key: Of the file in it: an image, a `.npy` file, or what the format is of.
        size: (H, W) of its image, where it is known.
        classes_by: The backend by which mmseg's loader of classes reads it; None: it is not that.

    Raises:
        ValueError: Not a whole file of that kind.
    """
    path = info[key]
    if format_of(info, key) is not None:
        return read_label_file(info, key, size or (1, 1))
    if str(path).endswith('.npy'):
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f'{path}: expected a whole .npy file, found: {error}') from error
    return read_map(path) if classes_by is None else read_classes(path, classes_by)


def _guarded(read, path: str, what: str, problems: list[Problem], expected: str = 'a whole image file'):
    try:
        return read()
    except FileNotFoundError:
        step = f'Add the {what}, or take the sample out of the split file or folder'
        problems.append(
            Problem(
                'error', f'missing-{what}', path, 'no such file', f'{"an" if what == "image" else "a"} {what}', step
            )
        )
    except UnreadableImageError as error:
        problems.append(Problem('error', 'unreadable', path, error.found, error.expected, error.step))
    except ValueError as error:
        found = str(error.__cause__ or error)
        step = 'Copy or unpack the file again'
        problems.append(Problem('error', 'unreadable', path, found, expected, step))
    return None


def _image(info: Mapping, facts: PairFacts, loader: OwnLoader | None) -> tuple[int, int] | None:
    """(H, W) of the image as stored; fills in what `facts` holds about it."""
    path = info['img_path']
    image = _guarded(lambda: read_image(path) if loader is None else loader.load(info), path, 'image', facts.problems)
    if image is None:
        return None
    if image.ndim > 3:
        step = f'{type(loader.step).__name__ if loader else "OpenCV"} reads it, and nothing more is looked at'
        facts.problems.append(Problem('warning', 'volume', path, f'a volume, {image.shape}', 'a plane', step))
        return None
    stored, turn = stored_frame(path) if loader is None or loader.plain else (image.shape[:2], 1)
    if turn in TURNED:
        expected = 'upright pixels (training turns the image, not its label)'
        step = (
            'Turn the pixels and remove the entry, e.g. with Pillow ImageOps.exif_transpose; then look at the overlay'
        )
        facts.problems.append(Problem('warning', 'exif', path, f'EXIF orientation {turn}', expected, step))
    facts.size = image.shape[:2]
    facts.digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
    facts.grey = image.ndim == 3 and image.shape[2] == 3 and bool((image == image[..., :1]).all())
    if min(facts.size) < SMALLEST:
        step = 'Leave it out, unless your crops are this small'
        expected = f'at least {SMALLEST} pixels on each side'
        facts.problems.append(Problem('warning', 'tiny', path, _size(facts.size), expected, step))
    return stored


def _label(
    info: Mapping, key: str, stored: tuple[int, int] | None, facts: PairFacts, classes_by: str | None = None
) -> np.ndarray | None:
    """Content of a label file, whose size is compared with that of its image; None where it tells nothing."""
    path = info[key]
    kind = format_of(info, key)
    expected = 'a whole .npy file' if str(path).endswith('.npy') else 'a whole image file'
    expected = expected if kind is None else f'a whole file of the format {kind}'
    label = _guarded(lambda: read_label(info, key, facts.size, classes_by), path, 'label', facts.problems, expected)
    if label is not None and stored is not None and label.shape[:2] != facts.size:
        facts.problems.append(_other_size(path, label, info['img_path'], stored, facts.size))
    # What the values of a lossy file seem to say is not worth a word.
    return None if _is_lossy(path, facts) else label


def _mask(info: Mapping, facts: PairFacts) -> None:
    if info.get('valid_mask_path') is not None:
        _is_lossy(info['valid_mask_path'], facts)


def _is_lossy(path: str, facts: PairFacts) -> bool:
    """True if a label file was compressed with loss, which is then a problem."""
    container = lossy_container(path)
    if container is not None:
        found = f'a label compressed by {container}: its values are not those that were drawn'
        step = 'Write it anew as PNG from where it was drawn; converting this file does not bring the values back'
        problem = Problem('error', 'lossy-label', path, found, 'a file that keeps values, such as PNG', step)
        facts.problems.append(problem)
    return container is not None


def _other_size(
    path: str, label: np.ndarray, image_path: str, stored: tuple[int, int], size: tuple[int, int]
) -> Problem:
    step = 'Check that the two belong together; resize neither blindly'
    if label.shape[:2] == stored:
        step = 'The image has an EXIF orientation and is turned in training: turn its pixels and remove the entry'
    found = f'{_size(label.shape)} (height × width)'
    expected = f'{_size(size)}, the size of its image {image_path}'
    return Problem('error', 'size', path, found, expected, step)


def _values(info: Mapping, raw: np.ndarray, name: str, task: DenseTask, facts: PairFacts) -> None:
    """Adds a task's facts and problems of a label file to `facts`."""
    path, array, refusal = info[task.path_key], None, ''
    try:
        if info.get('valid_mask_path') is not None:
            raw = where_known(raw, read_map(info['valid_mask_path']))
        array = task.decode(raw)
    except (ValueError, FileNotFoundError) as error:
        refusal = str(error)
    problems = task.file_problems(path, raw, array)
    if refusal and not problems:
        step = 'Convert the file, or leave its key out of data_prefix'
        problems = [Problem('error', 'label-values', path, refusal, f'a map of the task {task.name}', step)]
    facts.problems += problems
    if refusal:
        return
    facts.known[name] = float(task.known(array).mean())
    if not facts.known[name]:
        step, expected = 'Nothing can be learnt from it: leave the pair out', 'at least one pixel with a value'
        facts.problems.append(Problem('warning', 'all-ignored', path, 'only invalid pixels', expected, step))
        return
    found = task.inspect(raw, array, info)
    if found is not None:
        facts.maps[name] = found


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[0]}×{shape[1]}'
