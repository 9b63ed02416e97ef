"""The largest rate at which the device multiplies square matrices."""

from functools import partial
from typing import Any

import torch

from .cells import Cell
from .timing import measure

SIZES = {'cpu': (512, 1024, 2048, 3072), 'cuda': (2048, 4096, 8192, 16384)}
TINY_SIZES = (64, 128)


def peak_rate(cell: Cell, repeats: int, budget: float) -> dict[str, Any]:
    """Operations per second by size, and the largest; a product of n × n matrices is 2 n³ operations."""
    dtype = torch.bfloat16 if cell.precision.startswith('bf16') else torch.float32
    rates: dict[str, float] = {}
    cores: list[float] = []
    sizes = TINY_SIZES if cell.model == 'tiny' else SIZES[cell.device]
    for n in sizes:
        a, b = (torch.randn(n, n, device=cell.device, dtype=dtype) for _ in range(2))
        torch.mm(a, b)
        times = measure(partial(torch.mm, a, b), cell.device, repeats, budget / len(sizes))
        # The fastest repeat: a peak is what the device can do.
        rates[str(n)] = 2 * n**3 / min(times.seconds)
        cores += [times.cores] if times.cores is not None else []
    found: dict[str, Any] = dict(flops_per_second=max(rates.values()), rates=rates)
    return found | (dict(cores=round(max(cores), 2)) if cores else {})
