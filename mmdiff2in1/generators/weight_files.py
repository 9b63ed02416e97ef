"""Files of weights: what is in them without reading it, and reading them without running what is in them."""

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

NESTED = ('state_dict', 'model')  # where frameworks put the tensors: mmcv, mmengine and Lightning; timm and its heirs


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


def unpickled(path: Path, mmap: bool = False) -> Any:
    """What a PyTorch checkpoint holds, on the CPU, without running any of it (`weights_only=True`).

    Objects that are neither tensors nor plain values, such as what a training has left beside its weights, become
    :class:`Unread`.

    Args:
        path: The file.
        mmap: Map it into memory: what is not read is not loaded. Old formats are loaded whole.

    Raises:
        ValueError: It is damaged, or holds an object that cannot be passed over.
    """
    replaced: list[tuple[type, str]] = []
    while True:
        try:
            with torch.serialization.safe_globals([*harmless(), *replaced]):
                return torch.load(path, 'cpu', weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
        except Exception as error:  # torch, zip and pickle each have their own
            found = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, UnpicklingError) else None
            if found is None:
                # torch's advice to read the file without weights_only is not passed on.
                reason = 'no PyTorch checkpoint' if isinstance(error, UnpicklingError) else error
                raise ValueError(
                    f'{path} cannot be read ({reason}); is it complete? Copy or download it again'
                ) from error
            name = found[1] if '.' in found[1] else f'builtins.{found[1]}'  # torch leaves this out
            if (Unread, name) in replaced:
                raise ValueError(
                    f'{path} holds a {name}, which could run code while it is read; expected tensors and plain values. '
                    'If you trust its source, save it anew with nothing but its weights: torch.save(dict('
                    "state_dict=torch.load(old, weights_only=False)['state_dict']), new)"
                ) from error
            replaced.append((Unread, name))


class WeightFile:
    """The tensors of a ``.safetensors`` file or of a PyTorch checkpoint, by name; values are read when asked for.

    Args:
        path: The file. A checkpoint may hold them under ``state_dict`` or ``model``, and beside them whatever its
            training left there: nothing of that is run. A single tensor is named ``tensor``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, of another kind, or holds no tensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f'{self.path}: no such file of weights')
        self._state: dict[str, Tensor] | None = None
        if self.path.suffix == '.safetensors':
            try:
                with safe_open(self.path, 'pt') as file:
                    self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            except (OSError, SafetensorError) as error:
                raise ValueError(f'{self.path} cannot be read ({error}); is it complete? Download it again') from error
        else:
            found = unpickled(self.path, mmap=True)
            if isinstance(found, Tensor):
                found = {'tensor': found}
            found = found if isinstance(found, dict) else {}
            state = next((found[key] for key in NESTED if isinstance(found.get(key), dict)), found)
            self._state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}
        if not self.shapes:
            raise ValueError(f'{self.path} holds no tensors')

    def read(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``."""
        names = [name for name in self.shapes if name.startswith(prefix)]
        if self._state is not None:
            return {name: self._state[name] for name in names}
        with safe_open(self.path, 'pt') as file:
            return {name: file.get_tensor(name) for name in names}
