"""Half the memory and time for what is not trained, where the device really computes in bfloat16."""

from contextlib import AbstractContextManager, nullcontext

import torch


def bf16_autocast(wanted: bool | str, device: torch.device) -> AbstractContextManager:
    """Autocast to bfloat16; ``auto``: if ``device`` computes in it."""
    if wanted == 'auto':
        wanted = computes_bf16(device)
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def computes_bf16(device: torch.device) -> bool:
    """True if bfloat16 is native: elsewhere it is emulated, many times slower than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == 'cpu' and torch.ops.mkldnn._is_mkldnn_bf16_supported()
