"""What a number was measured with: device, versions, threads, date."""

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch


def environment(device: str) -> dict[str, Any]:
    """For the JSON lines; no names of hosts, users or folders."""
    found: dict[str, Any] = dict(
        device=torch.cuda.get_device_name() if device == 'cuda' else _processor(),
        torch=torch.__version__,
        diffusers=diffusers.__version__,
        python='.'.join(map(str, sys.version_info[:3])),
        system=platform.system(),
        threads=torch.get_num_threads(),
        date=datetime.now(UTC).strftime('%Y-%m-%d'),
    )
    if device == 'cuda':
        free, total = torch.cuda.mem_get_info()
        found |= dict(cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), memory=round(total / 2**30, 1))
    return found


def _processor() -> str:
    """The CPU's name and the widest vector instructions that torch uses."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        name = next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        pass
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}'
