"""What a forward pass keeps for the backward pass, counted exactly and without memory: on fake tensors."""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor


class _Kept:
    """A tensor that a graph holds; it goes when the graph does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # its own graph would hold the holder


def saved_bytes(run: Callable[[], Any], without: Iterable[Tensor] = ()) -> int:
    """Bytes that are held once `run` has returned: by the graph, and by its result while somebody has it.

    A part of a tensor holds all of it, and what several layers keep counts once. What a checkpointed layer will compute
    anew is not held.

    Args:
        run: A forward pass; under `FakeTensorMode` nothing is computed, and attention is as on a CPU: fused.
        without: Tensors that do not count: parameters, buffers.
    """
    kept: WeakSet[_Kept] = WeakSet()

    def pack(tensor: Tensor) -> _Kept:
        held = _Kept(tensor)
        kept.add(held)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        result = run()
    storages = {}
    for tensor in [*(held.tensor for held in kept), *_tensors(result)]:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
    for tensor in without:
        storages.pop(tensor.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in storages.values())


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    return [tensor for each in result for tensor in _tensors(each)] if isinstance(result, (list, tuple)) else []
