"""The one reader of whole checkpoints, PyTorch's and safetensors: nothing in a file is run, or the file is refused."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmdiff2in1.core.names import some

from . import pickled_numbers

HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
PASSED_OVER = (
    'builtins.getattr',  # with every log buffer of mmengine, to name its statistics
    'builtins.slice',
    'numpy.ndarray',  # named beside every array
    'argparse.Namespace',
    'types.SimpleNamespace',
    'pathlib.PosixPath',
    'pathlib.WindowsPath',
    'pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint',
    'pytorch_lightning.callbacks.early_stopping.EarlyStopping',
    'lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint',
)
"""Objects beside the weights in published checkpoints: never imported or called, :class:`Unread` stands there."""


OTHER_KINDS = {
    b'version https://git-lfs': 'a pointer of Git LFS and not the file; fetch that (`git lfs pull`, or `hf download`)',
    b'<': 'a web page; download the file itself (`hf download REPOSITORY NAME`)',
    b'GGUF': 'a GGUF file of quantised weights; expected safetensors or a PyTorch checkpoint',
    b'{': 'a JSON file; expected safetensors or a PyTorch checkpoint',
}
"""How files begin that lie in the place of weights, and what they are."""


class Unread:
    """Stands where a file holds an object that nobody needs here; takes any arguments and state, and does nothing."""

    def __new__(cls, *args: Any) -> 'Unread':
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _History(Unread):
    """A log buffer as it stands in the file: mmengine's own would put functions of the file into its class."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_checkpoint_file(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Content of a safetensors file or a PyTorch checkpoint, read without running any of it.

    Its first bytes say which of the two it is, whatever its name (blobs of the hub's cache have no suffix).

    A checkpoint may hold tensors, plain values, NumPy numbers and arrays, mmengine's log buffers, which are read as
    such, and what :data:`PASSED_OVER` names, which becomes :class:`Unread`. There is no other way to read one: what
    the process has allowed elsewhere (``torch.serialization.add_safe_globals``) does not count.

    Args:
        path: The file.
        map_location: See `torch.load`.
        mmap: Map it into memory: what is not read is not loaded. Old formats are loaded whole.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or holds other objects; they are named.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist; expected a .pth or .safetensors file')
    if is_safetensors(path):
        try:
            return load_file(path, str(map_location or 'cpu'))
        except (OSError, SafetensorError) as error:
            raise ValueError(f'{path} cannot be read ({error}); is it complete? Copy or download it again') from error
    with _nothing_else_allowed():
        try:
            found = pickled_numbers.as_arrays(_loaded(path, map_location, mmap))
        except Exception as error:  # torch, zip and pickle each have their own
            raise _refusal(path, error) from error
    hub = found.get('message_hub') if isinstance(found, dict) else None
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if isinstance(scalars, dict):
        hub['log_scalars'] = {key: _history(path, key, value) for key, value in scalars.items()}
    return found


def is_safetensors(path: Path) -> bool:
    """By the first bytes: the length of the header, which never takes more than five, and the brace that opens it."""
    start = _start(path, 9)
    return len(start) == 9 and start[5:] == b'\0\0\0{'


def _start(path: Path, count: int) -> bytes:
    with path.open('rb') as file:
        return file.read(count)


def _loaded(path: Path, map_location: Any, mmap: bool) -> Any:
    """torch goes by a name in ``.safetensors``, so it does not learn it."""
    if path.suffix.lower() != '.safetensors':
        return torch.load(path, map_location, weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    with path.open('rb') as file:
        return torch.load(file, map_location, weights_only=True)


@contextmanager
def _nothing_else_allowed() -> Iterator[None]:
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(_allowed()):
            yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _allowed() -> list:
    return [*pickled_numbers.allowed(), (_History, HISTORY), *((Unread, name) for name in PASSED_OVER)]


def _refusal(path: Path, error: Exception) -> ValueError:
    """Inside of :func:`_nothing_else_allowed`."""
    names: list[str] = []
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # an old format, TorchScript, or damaged
        found = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, UnpicklingError) else None
        if found is not None:
            names = [found[1] if '.' in found[1] else f'builtins.{found[1]}']  # torch leaves this out
    if names:
        return ValueError(
            f'{path} holds {some(names)}, which could run code while it is read; expected tensors, plain values and '
            "mmengine's log. If you trust its source, save it anew with nothing but its weights: torch.save(dict("
            "state_dict=torch.load(old, weights_only=False)['state_dict']), new)"
        )
    start = _start(path, 64)
    other = next((kind for begin, kind in OTHER_KINDS.items() if start.lstrip().startswith(begin)), '')
    if other or not start:
        return ValueError(f'{path} cannot be read: it is {other or "empty; copy or download it again"}')
    # torch's advice to read the file without weights_only is not passed on.
    reason = (
        'no PyTorch checkpoint, or one that asks for more than values' if isinstance(error, UnpicklingError) else error
    )
    return ValueError(f'{path} cannot be read ({reason}); is it complete? Copy or download it again')


def _history(path: Path, key: str, found: Any) -> Any:
    """mmengine's log buffer with the numbers of the file, and the statistics of this process."""
    if not isinstance(found, _History):
        return found
    state = pickled_numbers.as_arrays(found.state) if isinstance(found.state, dict) else {}
    parts = [state.get(name) for name in ('_log_history', '_count_history')]
    lengths = {part.shape for part in parts if isinstance(part, np.ndarray) and part.dtype.kind in 'iufb'}
    longest = state.get('max_length')
    if not isinstance(longest, int) or any(not isinstance(part, np.ndarray) for part in parts) or len(lengths) != 1:
        raise ValueError(f'{path}: message_hub.log_scalars[{key!r}] is no log of numbers; expected one of mmengine')
    return HistoryBuffer(parts[0], parts[1], longest)
