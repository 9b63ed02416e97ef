"""Ctrl-C ends a training after the step in hand, with a checkpoint of it."""

import signal
import threading
from types import FrameType
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class InterruptHook(Hook):
    """Lets the checkpoint hook save the step that was running when Ctrl-C came, then raises KeyboardInterrupt.

    A second Ctrl-C ends at once. Of several processes, and with checkpoints by epoch, nothing is saved in between: the
    last checkpoint counts.
    """

    # After every other hook of the step.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def before_train(self, runner: Runner) -> None:
        """From here on Ctrl-C waits for the end of the step."""
        self.asked = False
        if get_world_size() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()
        print('\ninterrupted: the step in hand is finished and saved; once more to end at once', flush=True)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Saves and stops, if that was asked for."""
        # Between two steps of one accumulated gradient nothing exact can be saved.
        if not self.asked or (runner.iter + 1) % getattr(runner.optim_wrapper, '_accumulative_counts', 1):
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and not hook.by_epoch:
                hook.interval = 1
                if hook.last_ckpt is None or not str(hook.last_ckpt).endswith(f'iter_{runner.iter + 1}.pth'):
                    hook.after_train_iter(runner, batch_idx, data_batch, outputs)
                runner.logger.info(f'interrupted after step {runner.iter + 1}, saved: {hook.last_ckpt}')
        raise KeyboardInterrupt

    def after_train(self, runner: Runner) -> None:
        """Ctrl-C does what it did before."""
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
