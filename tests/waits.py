"""What the host waits for on a GPU, seen on any device."""

import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ('aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select', 'aten::equal', 'aten::unique')
"""Operations whose result has a value or a shape that the host must know: on a GPU it waits for them."""


class Waits(TorchDispatchMode):
    """Operations that a host waits for on a GPU, by the package whose line asked for them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition('.')[0]
        by_mask = name in ('aten::index', 'aten::index_put_') and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if name in WAITS or by_mask:
            self.found.append(_asked_by())
        return function(*args, **kwargs or {})


def _asked_by() -> str:
    """The nearest package in the stack that is not torch."""
    frame = sys._getframe(2)
    while frame is not None:
        package = frame.f_globals.get('__name__', '').partition('.')[0]
        if package != 'torch':
            return package
        frame = frame.f_back
    return 'torch'
