"""The process group of a torchrun start, on GPUs and on CPUs."""

import os

import torch
import torch.distributed as dist


def launcher_of_environment() -> str:
    """``pytorch`` under torchrun, else ``none``; starts the process group there.

    mmengine's own start calls ``torch.cuda.set_device`` whatever the backend, so it fails on machines without CUDA; it
    leaves a group alone that stands already.
    """
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        return 'none'
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        dist.init_process_group('nccl' if torch.cuda.is_available() else 'gloo')
    return 'pytorch'


def wrapper_config(find_unused_parameters: bool = False) -> dict:
    """``model_wrapper_cfg`` that works on GPUs and CPUs: mmengine's default names a device even where there is none."""
    device_ids = [int(os.environ.get('LOCAL_RANK', 0))] if torch.cuda.is_available() else None
    return dict(
        type='MMDistributedDataParallel',
        device_ids=device_ids,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
    )
