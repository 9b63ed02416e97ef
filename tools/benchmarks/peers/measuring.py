"""A row, measured: whether the sides agree, then times by turns, then memory."""

import os
from typing import Any

import torch

from ..environment import environment
from .pairs import SIDES, Pair, by_turns, compared, disagreement, peak_bytes
from .rows import ROWS, Setup


def measured(setup: Setup, pair: Pair, pairs: int, **clocks: Any) -> dict[str, Any]:
    """The line of a row; `clocks` are those of :func:`.by_turns`.

    Raises:
        SystemExit: The sides disagree, so that nothing was timed.
    """
    row = ROWS[setup.row]
    _tf32(False)
    found = disagreement(pair.theirs.outputs(), pair.ours.outputs())
    allowed = {name: row.looser.get(name, row.tolerance) for name in found}
    wrong = [f'{n} by {d:.2g} (at most {allowed[n]:g})' for n, d in found.items() if d > allowed[n]]
    if wrong:
        raise SystemExit(
            f'{setup.row}: the sides disagree, nothing was timed; of the largest entry: {", ".join(wrong)}'
        )
    _tf32(setup.dtype == 'tf32')
    times = by_turns(pair, pairs, setup.device, **clocks)
    line: dict[str, Any] = setup.record() | dict(pairs=pairs, difference=found, differs=row.differs)
    for name in ('seconds', 'core_seconds'):
        line[name] = {side: times[side][name] for side in SIDES} | dict(
            compared=compared(*(times[side][name] for side in SIDES))
        )
    line['bytes'] = dict(theirs=peak_bytes(pair.theirs, setup.device), ours=peak_bytes(pair.ours, setup.device))
    return line | dict(load=round(os.getloadavg()[0], 1), environment=environment(setup.device))


def _tf32(on: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
