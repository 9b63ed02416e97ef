"""One of two processes that train one config in several ways, one after the other; run by `test_fully_sharded.py`."""

import os
import shutil
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmseg.registry import HOOKS
from torch.distributed.tensor import DTensor

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.training.runs import build_runner, resume_where_possible

STEPS = 4


@HOOKS.register_module()
class EndInStep(Hook):
    """Ends the run in the middle of a step, behind a checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            raise KeyboardInterrupt


def train(config: Path, work_dir: Path, *, sharded: bool, steps: int = STEPS, ends_in: int = 0) -> dict:
    """Goes on from the last checkpoint, if there is one; what this process holds afterwards, in numbers."""
    cfg = Config.fromfile(config, format_python_code=False)
    init_default_scope(cfg.default_scope)
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.max_iters = steps
    if sharded:
        cfg.model_wrapper_cfg = dict(type='FullyShardedModel')
    if ends_in:
        cfg.custom_hooks.append(dict(type='EndInStep', step=ends_in))
    resume_where_possible(cfg)
    runner = build_runner(cfg)
    try:
        runner.train()
    except KeyboardInterrupt:
        return {}
    moments = [value for state in runner.optim_wrapper.optimizer.state.values() for value in state.values()]
    return dict(
        weights=_held(runner.model.parameters()),
        of_creator=_held(p for name, p in runner.model.named_parameters() if '.creator.' in f'.{name}'),
        moments=_held(value for value in moments if value.ndim),
    )


def _held(tensors) -> tuple[int, int]:
    """Numbers on this process, numbers in all."""
    tensors = [tensor.detach() for tensor in tensors]
    own = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(map(torch.numel, own)), sum(map(torch.numel, tensors))


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2)
    config, held = folder / 'stage.py', {}
    held['plain'] = train(config, folder / 'plain', sharded=False)
    held['sharded'] = train(config, folder / 'sharded', sharded=True)
    train(config, folder / 'resumed', sharded=True, ends_in=STEPS)
    held['resumed'] = train(config, folder / 'resumed', sharded=True)
    if rank == 0:  # sharded on from a checkpoint of a run that was not
        (folder / 'crossed').mkdir()
        shutil.copy(folder / 'plain' / f'iter_{STEPS // 2}.pth', folder / 'crossed')
        (folder / 'crossed' / 'last_checkpoint').write_text(f'iter_{STEPS // 2}.pth')
    torch.distributed.barrier()
    train(config, folder / 'crossed', sharded=True)
    held['warm-up'] = train(folder / 'warmup.py', folder / 'warmup', sharded=False, steps=2)
    held['sharded warm-up'] = train(folder / 'warmup.py', folder / 'sharded-warmup', sharded=True, steps=2)
    torch.save(held, folder / f'held.{rank}.pth')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), Path(sys.argv[2]))
