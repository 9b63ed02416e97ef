"""NumPy's numbers and arrays in a checkpoint, built from their bytes by us.

NumPy's own unpickling trusts the file: an array of objects over bytes is an array of pointers that the file has chosen.
"""

import math
import re
from typing import Any

import numpy as np

KINDS = re.compile(r'(?:[biufc][0-9]{1,2}|[SU][0-9]{1,6}|\?)')
"""Types of numbers and texts, as NumPy writes them."""


class StoredType:
    """Stands in the place of a `numpy.dtype`."""

    def __new__(cls, code: Any = None, *_: Any) -> 'StoredType':
        stored = object.__new__(cls)
        if not isinstance(code, str) or not KINDS.fullmatch(code):
            raise ValueError(f'an array of {code!r}, expected one of numbers or text')
        stored.dtype = np.dtype(code)
        return stored

    dtype: np.dtype

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ('<', '>', '|', '='):
            self.dtype = self.dtype.newbyteorder(state[1])


class StoredArray:
    """Stands in the place of a `numpy.ndarray` until the file is read, see :func:`as_arrays`."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, kind, fortran, data = state
            dtype = kind.dtype
            if len(data) != math.prod(shape) * dtype.itemsize:
                raise ValueError(f'{len(data)} bytes')
            self.array = np.frombuffer(bytes(data), dtype).reshape(shape, order='F' if fortran else 'C').copy()
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f'an array that is damaged or none of numbers ({error})') from error


def stored_array(*_: Any) -> StoredArray:
    """NumPy's `_reconstruct`: an array that is still empty."""
    return StoredArray()


def no_bytes(*_: Any) -> bytes:
    """The content of an empty array."""
    return b''


def stored_number(kind: Any, data: Any) -> np.generic:
    """NumPy's `scalar`."""
    if not isinstance(kind, StoredType) or not isinstance(data, bytes) or len(data) != kind.dtype.itemsize:
        raise ValueError('a number that is damaged or none')
    return np.frombuffer(data, kind.dtype)[0]


def as_arrays(value: Any, seen: set[int] | None = None) -> Any:
    """With the arrays in the places of what stood for them, in dictionaries, lists and tuples at any depth."""
    seen = set() if seen is None else seen
    if isinstance(value, StoredArray):
        return value.array
    if isinstance(value, StoredType):
        return value.dtype
    if type(value) is tuple:
        return tuple(as_arrays(each, seen) for each in value)
    if isinstance(value, dict | list) and id(value) not in seen:
        seen.add(id(value))
        places = list(value) if isinstance(value, dict) else range(len(value))
        for place in places:
            found = as_arrays(value[place], seen)
            if found is not value[place]:
                value[place] = found
    return value


def allowed() -> list[tuple[Any, str]]:
    """For `torch.serialization.safe_globals`; a name without a dot cannot stand in a file."""
    functions = {'_reconstruct': stored_array, 'scalar': stored_number}
    names = [
        (function, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name, function in functions.items()
    ]
    return [*names, (StoredType, 'numpy.dtype'), (StoredArray, 'StoredArray'), (no_bytes, 'builtins.bytes')]
