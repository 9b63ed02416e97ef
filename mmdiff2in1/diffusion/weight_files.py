"""Files of weights: what is in them without reading it, and reading them without running what is in them."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SUFFIXES = ('.safetensors', '.ckpt', '.pth', '.pt', '.bin')


class Unread:
    """Stands where a file holds an object that nobody needs here; takes any arguments and state, and does nothing."""

    def __new__(cls, *args: Any) -> 'Unread':
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def harmless() -> list:
    """What may stand in a file besides tensors and plain values, for `torch.serialization.safe_globals`.

    mmengine stores its log buffers, and `getattr` with them, which must not be called on behalf of a file: both are
    replaced. NumPy numbers and arrays are what they are.
    """
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    numpy_names = [
        (function, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for function, name in ((reconstruct, '_reconstruct'), (scalar, 'scalar'))
    ]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefd'}
    replaced = [(Unread, 'mmengine.logging.history_buffer.HistoryBuffer'), (Unread, 'builtins.getattr')]
    return [*numpy_names, *dtypes, np.ndarray, np.dtype, *replaced]


def unknown_object(error: Exception) -> str | None:
    """The name of the object for which `torch.load(weights_only=True)` refused a file."""
    found = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, UnpicklingError) else None
    return found[1] if found else None


class WeightFile:
    """The tensors of a ``.safetensors`` file or of a PyTorch checkpoint, by name; values are read when asked for.

    Args:
        path: The file. A checkpoint may hold them under ``state_dict``, and beside them whatever its training left
            there: nothing of that is run. A single tensor is named ``tensor``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, of another kind, or holds no tensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f'{self.path}: no such file of weights')
        self._state: Mapping[str, Tensor] | None = None
        try:
            if self.path.suffix == '.safetensors':
                with safe_open(self.path, 'pt') as file:
                    self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            else:
                self._state = self._unpickled()
                self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}
        except (OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
            raise ValueError(
                f'{self.path} cannot be read ({error}); is it complete? Copy or download it again'
            ) from error
        if not self.shapes:
            raise ValueError(f'{self.path} holds no tensors')

    def read(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``."""
        names = [name for name in self.shapes if name.startswith(prefix)]
        if self._state is not None:
            return {name: self._state[name] for name in names}
        with safe_open(self.path, 'pt') as file:
            return {name: file.get_tensor(name) for name in names}

    def _unpickled(self) -> dict[str, Tensor]:
        replaced: list[tuple[type, str]] = []
        while True:
            try:
                with torch.serialization.safe_globals([*harmless(), *replaced]):
                    # Mapped from the file where its format allows it: what is not read is not in memory.
                    found = torch.load(self.path, 'cpu', weights_only=True, mmap=zipfile.is_zipfile(self.path))
                break
            except UnpicklingError as error:
                name = unknown_object(error)
                if name is None or (Unread, name) in replaced:
                    raise
                replaced.append((Unread, name))  # a callback of the training, most likely
        if isinstance(found, Tensor):
            found = {'tensor': found}
        state = found.get('state_dict', found) if isinstance(found, dict) else {}
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
