"""Files of weights: what is in them without reading it, and reading them without running what is in them."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoint_file import is_safetensors, read_checkpoint_file

WRAPPERS = ('_orig_mod', '_forward_module', '_fsdp_wrapped_module', '_checkpoint_wrapped_module')
"""Of torch.compile, DeepSpeed and FSDP: steps in the names of what was stored while wrapped, anywhere in them."""
NESTED = ('state_dict', 'model')  # where frameworks put the tensors: mmcv, mmengine and Lightning; timm and its heirs


class WeightFile:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by name; values are read when asked for.

    What the file is, its first bytes say, whatever its name.

    Args:
        path: The file. A checkpoint may hold them under ``state_dict`` or ``model``, and beside them whatever its
            training left there: nothing of that is run. A single tensor is named ``tensor``.

    Attributes:
        path: The file.
        shapes: Name → shape.
        metadata: What a safetensors file says beside its tensors.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, of another kind, or holds no tensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f'{self.path}: no such file of weights')
        self._state: dict[str, Tensor] | None = None
        self.metadata: dict[str, str] = {}
        if is_safetensors(self.path):
            try:
                with safe_open(self.path, 'pt') as file:
                    self.metadata = file.metadata() or {}
                    self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            except (OSError, SafetensorError) as error:
                raise ValueError(f'{self.path} cannot be read ({error}); is it complete? Download it again') from error
        else:
            found = read_checkpoint_file(self.path, mmap=True)
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
        return self._tensors([name for name in self.shapes if name.startswith(prefix)])

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        if self._state is not None:
            return {name: self._state[name] for name in names}
        with safe_open(self.path, 'pt') as file:
            return {name: file.get_tensor(name) for name in names}
