"""Peak memory of a process, limits on it, and what an exhausted memory looks like.

GB are 2^30 bytes.
"""

import resource
from pathlib import Path

import torch

GB = 2**30
CONTEXT = 0.75
"""GB of a GPU that CUDA and its libraries hold outside torch's allocator; a card of 16 GB leaves the rest."""


def limit(device: str, gigabytes: float) -> None:
    """Lets this process use `gigabytes` of the device; 0: what there is.

    On a CPU all of the process's own memory counts, and 0 leaves a tenth of what is free now, so that no other process
    suffers.

    Raises ValueError if a GPU has less.
    """
    if device == 'cpu':
        size = int(gigabytes * GB) or _available() * 9 // 10
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        return
    if gigabytes:
        total = torch.cuda.get_device_properties(device).total_memory
        if gigabytes * GB > total:
            raise ValueError(f'--memory {gigabytes:g} asked for, this GPU has {total / GB:.1f} GB')
        torch.cuda.set_per_process_memory_fraction((gigabytes - CONTEXT) * GB / total)


def reset_peak(device: str) -> None:
    """From now on the peak is counted."""
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path('/proc/self/clear_refs').write_text('5')  # sets the high-water mark back, see proc(5)
    except OSError:
        pass  # then building the model counts as well


def peak(device: str) -> dict[str, float]:
    """GB since `reset_peak`: of tensors on a GPU (`reserved`: with the allocator's slack), of the process on a CPU."""
    if device != 'cpu':
        return dict(
            memory_peak=torch.cuda.max_memory_allocated() / GB, memory_reserved=torch.cuda.max_memory_reserved() / GB
        )
    return dict(memory_peak=high_water_mark() / GB)


def high_water_mark() -> int:
    """Bytes that this process held at most, since `reset_peak('cpu')`."""
    return _status('VmHWM')


def resident() -> int:
    """Bytes that this process holds now."""
    return _status('VmRSS')


def is_exhausted(error: BaseException) -> bool:
    """Whether `error` says that memory was not enough; torch on a CPU has no type of its own for it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and (
        'allocate memory' in text or 'not enough memory' in text or 'out of memory' in text
    )


def _status(name: str) -> int:
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _available() -> int:
    lines = Path('/proc/meminfo').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable'))
