"""One cell, measured in a process of its own, so that its memory is its own and its end is only its own."""

import ctypes
import json
import signal
import time
from pathlib import Path
from typing import Any

from .cells import Cell, cell_of

PARENT_DEATH_SIGNAL = 1  # of prctl(2)


def measure_cell(cell: Cell, warm_ups: int, repeats: int, budget: float) -> dict[str, Any]:
    """What came of it: outcome `measured` with the numbers, or `out of memory`.

    Args:
        cell: What is measured.
        warm_ups: Runs that do not count; in the first one kernels are chosen and compiled.
        repeats: Runs that count, at most.
        budget: Seconds that all of these together should take.
    """
    import torch

    from .cases import make_job
    from .environment import environment
    from .matmul import peak_rate
    from .memory import is_exhausted, limit, peak, reset_peak
    from .options import set_precision
    from .timing import measure

    where = dict(environment=environment(cell.device))
    _dies_first()
    limit(cell.device, cell.memory)
    set_precision(cell)
    try:
        if cell.case == 'matmul':
            return dict(outcome='measured', **peak_rate(cell, max(repeats, 5), budget)) | where
        start = time.perf_counter()
        job = make_job(cell)
        built = time.perf_counter()
        for _ in range(warm_ups):
            job.warm_up()
        if cell.device == 'cuda':
            torch.cuda.synchronize()
        warm = time.perf_counter()
        reset_peak(cell.device)
        times = measure(job.step, cell.device, repeats, budget)
        found = dict(
            outcome='measured',
            **times.record(),
            **peak(cell.device),
            seconds_building=built - start,
            seconds_warming_up=warm - built,
            **job.notes,
        )
        return found | where
    except Exception as error:
        if is_exhausted(error):
            return dict(outcome='out of memory', error=str(error).splitlines()[0][:200]) | where
        raise


def main(text: str) -> None:
    """The child's side: JSON of cell and settings in, the last line of stdout out."""
    given = json.loads(text)
    print('\n' + json.dumps(measure_cell(cell_of(given['cell']), **given['settings'])), flush=True)


def _dies_first() -> None:
    """Where memory runs out in spite of the limit, the system ends this process and no other; it outlives no parent."""
    try:
        Path('/proc/self/oom_score_adj').write_text('1000')
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    except (OSError, AttributeError):
        pass  # not Linux
