"""Peak memory of a cell before it runs: its tensors followed on the meta device, where they take none.

Followed is what a GPU does: fused attention keeps no probabilities, autocast makes bfloat16 copies of the weights. The
workspaces of libraries, the allocator's slack and what a process takes by itself are not in it.
"""

import weakref
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .cells import Cell
from .memory import GB
from .model import build_diffusion, build_segmentor, tokens_of

ATTENTION = F.scaled_dot_product_attention
LOWER = {F.linear, F.conv2d, torch.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__, ATTENTION}
SINGLE = {F.layer_norm, F.group_norm, F.softmax, Tensor.softmax, F.cross_entropy}


def memory(cell: Cell) -> float | None:
    """GB at the peak of a step of `cell`; None where nothing is to be estimated."""
    if cell.case == 'matmul' or cell.head or cell.paired:
        return None
    wanted = {name for name in cell.options if name not in ('channels_last', 'compile')}
    if cell.device == 'cpu' and cell.regime == 'finetune':
        # There CollectingAttnProcessor trains without fusion, and AdamW goes from tensor to tensor.
        wanted |= {'math-attention', 'fused-adamw'}
    calls = min(cell.calls, 1)  # the calls after the first need no more
    precision = cell.precision.replace('tf32', 'fp32')
    options = tuple(sorted(wanted))
    return _memory(replace(cell, precision=precision, memory=0, device='cpu', calls=calls, options=options))


@cache
def _memory(cell: Cell) -> float:
    alive = Alive()
    if cell.case == 'create':
        model: Any = build_diffusion(cell, 'meta')
    else:
        model = build_segmentor(cell, 'meta', self_improving=cell.case in ('mixed', 'ema'))
    if cell.precision == 'bf16-weights':
        model.to(torch.bfloat16)
    alive.add([*model.parameters(), *model.buffers()])
    with LikeGPU(cell.precision == 'bf16', 'math-attention' not in cell.options) as gpu, alive:
        if cell.case == 'create' or cell.case.startswith('features'):
            with torch.no_grad():
                (_create if cell.case == 'create' else _features)(model, cell)
        elif cell.case != 'ema':
            _train(model, cell, gpu)
    return alive.peak / GB


def _create(diffusion: Any, cell: Cell) -> None:
    """Encode, one call, decode."""
    z = diffusion.encode(_images(cell)).float()
    t = torch.empty(cell.batch, dtype=torch.long, device='meta')
    shape, dtype = (cell.batch, tokens_of(cell), diffusion.unet.config.cross_attention_dim), diffusion.unet.dtype
    diffusion.unet(z.to(dtype), t, torch.empty(shape, device='meta', dtype=dtype))
    diffusion.decode(z)


def _features(segmentor: Any, cell: Cell) -> tuple[Tensor, ...]:
    segmentor.backbone._range_checked = True  # needs values
    return segmentor.backbone(_images(cell))


def _train(model: Any, cell: Cell, gpu: 'LikeGPU') -> None:
    """A step that is not the first: the optimizer has its state."""
    segmentor = model.exploiter if cell.case == 'mixed' else model
    trained = [parameter for parameter in segmentor.parameters() if parameter.requires_grad]
    state = [[torch.empty_like(parameter) for parameter in trained] for _ in range(2)]
    if cell.case == 'mixed':
        with torch.no_grad():
            synthetic = _features(model.creator, replace(cell, batch=cell.batch // 2))
            model.creator.decode_head(model.creator.neck(synthetic))
    logits = segmentor.decode_head(segmentor.neck(_features(segmentor, cell)))
    labels = torch.empty(cell.batch, cell.size, cell.size, dtype=torch.long, device='meta')
    loss = F.cross_entropy(F.interpolate(logits, size=labels.shape[1:], mode='bilinear'), labels)
    del logits
    gpu.leave_autocast()
    # Not loss.backward(): that is a torch function, and inside of those the mode that casts is off.
    engine: Any = torch.autograd.Variable._execution_engine
    engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )
    if 'fused-adamw' not in cell.options:
        # torch's default takes the root of all second moments at once.
        state.append([torch.empty_like(parameter) for parameter in trained])


def _images(cell: Cell) -> Tensor:
    return torch.empty(cell.batch, 3, cell.size, cell.size, device='meta')


class Alive(TorchDispatchMode):
    """Follows the tensors that exist on a device; `peak` is the largest sum of their bytes."""

    def __init__(self, device: str = 'meta') -> None:
        super().__init__()
        self._device = device
        self._known: set[int] = set()
        self.bytes = self.peak = 0

    def add(self, tensors: Any) -> None:
        """Counts tensors of the device until they are freed, memory that they share once."""
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor) or tensor.device.type != self._device:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.add(found)
        return found


class LikeGPU(TorchFunctionMode):
    """Fused attention and autocast to bfloat16, which the meta device does not know.

    As under autocast, a weight that is trained is cast once, one that is not at each use. What a backward pass computes
    anew it computes under an autocast of its own, layer by layer.
    """

    def __init__(self, bf16: bool, fused: bool) -> None:
        super().__init__()
        self._bf16, self._fused = bf16, fused
        self._casts: dict[int, Tensor] | None = {}

    def leave_autocast(self) -> None:
        """From here on copies of weights live as long as the graph needs them."""
        self._casts = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._bf16 and (func in LOWER or func in SINGLE):
            dtype = torch.bfloat16 if func in LOWER else torch.float32
            args = tuple(self._cast(value, dtype) for value in args)
            kwargs = {name: self._cast(value, dtype) for name, value in kwargs.items()}
        if self._fused and func is ATTENTION:
            return _FusedAttention.apply(*args[:3])
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        trained = isinstance(value, nn.Parameter) and value.requires_grad and torch.is_grad_enabled()
        if self._casts is None or not trained:
            return value.to(dtype)
        if id(value) not in self._casts:
            self._casts[id(value)] = value.to(dtype)
        return self._casts[id(value)]


class _FusedAttention(torch.autograd.Function):
    """Shapes and memory of a fused kernel: query, key, value and result are kept."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])
