"""FrameNet's train_test_split.pkl: the frames of ScanNet that it trains and tests on. No code in it is run."""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

_COLOUR = re.compile(r'(scene\d{4}_\d{2}/[^/]+)-color\.(?:png|jpg)')


def read_split(path: Path) -> dict[str, Sequence[str]]:
    """Part → paths of its colour images, as they stand in the file.

    Raises:
        ValueError: Another file.
    """
    try:
        with open(path, 'rb') as stream:
            content = _PlainUnpickler(stream, encoding='latin1').load()  # written by Python 2
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: expected FrameNet's train_test_split.pkl, found: {error}") from error
    lists = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(columns, list | tuple) and len(columns) >= 3 for columns in lists):
        raise ValueError(
            f'{path}: found {type(content).__name__}, expected a dictionary of parts with three lists each'
        )
    if not content or not all(isinstance(path, str) for columns in content.values() for path in columns[0]):
        raise ValueError(f'{path}: found {"no parts" if not content else "lists of other things than paths"}')
    return {str(part): columns[0] for part, columns in content.items()}


def image_names(paths: Sequence[str]) -> list[str]:
    """`scene0000_00/frame-000000` from `/any/where/scene0000_00/frame-000000-color.png`.

    Raises:
        ValueError: A path of another form.
    """
    names = []
    for path in paths:
        match = _COLOUR.search(path)
        if match is None:
            raise ValueError(f'found the image {path!r}, expected …/sceneXXXX_YY/frame-NNNNNN-color.png')
        names.append(match.group(1))
    return names


class _PlainUnpickler(pickle.Unpickler):
    """Reads builtin containers, strings and numbers; whatever would import or call something is refused."""

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f'the file wants to load {module}.{name}; only lists and strings are read')
