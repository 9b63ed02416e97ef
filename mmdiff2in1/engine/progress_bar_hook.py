"""One line of progress with the time left, for runs whose log is silenced."""

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from tqdm import tqdm


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A bar over the training iterations of a stage, with the loss every ``interval`` iterations."""

    bar: tqdm

    def __init__(self, title: str = 'training', interval: int = 20):
        self.title, self.interval = title, interval

    def before_train(self, runner: Runner) -> None:
        """Opens the bar where a resumed run goes on."""
        total = runner.max_iters
        self.bar = tqdm(total=total, initial=runner.iter, desc=self.title, unit='it', disable=not is_main_process())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """One step further."""
        self.bar.update()
        if self.every_n_train_iters(runner, self.interval) and outputs and 'loss' in outputs:
            self.bar.set_postfix(loss=f'{float(outputs["loss"]):.3f}', refresh=False)

    def after_train(self, runner: Runner) -> None:
        """Closes the bar."""
        self.bar.close()
