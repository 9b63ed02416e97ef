"""Evaluation of both models: θ_C, the one that ships, under the plain metric names, θ_E under `exploiter/`."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, TestLoop, ValLoop, autocast
from mmseg.registry import LOOPS
from torch import nn
from torch.utils.data import DataLoader

from mmdiff2in1.core.randomness import derived_randomness, kept_randomness


class _EvaluatesBoth:
    """`run` of a loop over θ_C and, if asked for, θ_E, in one pass over the data.

    What both have in common is computed once per batch where the model offers it (`predictor`). Both see the same
    draws, seeded from the runner's seed: an evaluation does not depend on when it is run. Afterwards the random state
    of the training is put back and what a loop of mmengine would have drawn from it is drawn, so that all that is
    trained then is what the plain model would train.

    Hooks of single iterations see θ_C only, so that pictures and timings show what ships.
    """

    stage: str
    exploiter: bool
    runner: Runner
    dataloader: DataLoader
    evaluator: Evaluator
    fp16: bool

    def run(self) -> dict:
        runner = self.runner
        size = len(self.dataloader.dataset)
        with derived_randomness(runner.seed, 'evaluation', get_rank()), _evaluable(runner.model).evaluated('creator'):
            runner.call_hook(f'before_{self.stage}')
            runner.call_hook(f'before_{self.stage}_epoch')
            runner.model.eval()
            # A copy of the metrics as they are before the first batch: their results are kept apart.
            self._of_exploiter = beside(self.evaluator) if self.exploiter else None
            before = torch.get_rng_state()
            batches = iter(self.dataloader)
            drawn = not torch.equal(before, torch.get_rng_state())
            for idx, batch in enumerate(batches):
                self.run_iter(idx, batch)
            metrics = self.evaluator.evaluate(size)
            if self.exploiter:
                runner.logger.info('The metrics of θ_E follow under exploiter/')
                found = self._of_exploiter.evaluate(size)
                metrics |= {f'exploiter/{name}': value for name, value in found.items()}
            runner.call_hook(f'after_{self.stage}_epoch', metrics=metrics)
            runner.call_hook(f'after_{self.stage}')
        if drawn:  # the seed of the workers, by every iterator of torch but those of workers that persist
            torch.empty((), dtype=torch.int64).random_()
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """One batch: θ_C between the hooks, then θ_E, which starts from the random state that θ_C started from."""
        call_hook = self.runner.call_hook
        call_hook(f'before_{self.stage}_iter', batch_idx=idx, data_batch=data_batch)
        with autocast(enabled=self.fp16):
            predict = self._predictor(data_batch)
        with kept_randomness() if self.exploiter else nullcontext():
            with autocast(enabled=self.fp16):
                outputs = predict('creator')
            self.evaluator.process(data_samples=outputs, data_batch=data_batch)
            call_hook(f'after_{self.stage}_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        if self.exploiter:
            with autocast(enabled=self.fp16):
                outputs = predict('exploiter')
            self._of_exploiter.process(data_samples=outputs, data_batch=data_batch)

    def _predictor(self, batch: dict) -> Callable[[str], list]:
        """'creator' or 'exploiter' → its prediction of `batch`."""
        model = _evaluable(self.runner.model)
        outer = self.runner.model
        wrapped = outer.module if is_model_wrapper(outer) else outer
        if self.exploiter and wrapped is model and hasattr(model, 'predictor'):
            return model.predictor(batch)

        def predict(which: str) -> list:
            # Test-time augmentation, for instance: a model around the model has a step of its own.
            with model.evaluated(which):
                return getattr(outer, f'{self.stage}_step')(batch)

        return predict


@LOOPS.register_module()
class SelfImprovingValLoop(_EvaluatesBoth, ValLoop):
    """Validation during training of a model that offers `evaluated(which)`, such as `SelfImprovingSegmentor`.

    `mIoU` is θ_C's and `exploiter/mIoU` θ_E's; `exploiter=False` leaves θ_E out. Both names can be given to
    `save_best`.

    Raises TypeError for another model, when run.
    """

    stage = 'val'

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
        exploiter: bool = True,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.exploiter = exploiter


@LOOPS.register_module()
class SelfImprovingTestLoop(_EvaluatesBoth, TestLoop):
    """Test of θ_C, with `exploiter=True` of θ_E as well; names as in `SelfImprovingValLoop`."""

    stage = 'test'

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
        exploiter: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.exploiter = exploiter


def beside(evaluator: Evaluator) -> Evaluator:
    """A copy for θ_E; what its metrics write goes into a folder `exploiter` inside that of θ_C's files."""
    copied = copy.deepcopy(evaluator)
    for metric in copied.metrics:
        if getattr(metric, 'output_dir', None):
            metric.output_dir = str(Path(metric.output_dir, 'exploiter'))
            Path(metric.output_dir).mkdir(parents=True, exist_ok=True)
    return copied


def _evaluable(model: nn.Module) -> nn.Module:
    """The self-improving model inside wrappers for several GPUs and for test-time augmentation."""
    inner = model
    while not hasattr(inner, 'evaluated') and hasattr(inner, 'module'):
        inner = inner.module
    if not hasattr(inner, 'evaluated'):
        raise TypeError(
            f'{type(model).__name__} is one model, expected θ_C and θ_E; '
            "use val_cfg=dict(type='ValLoop') and test_cfg=dict(type='TestLoop'), or wrap it in SelfImprovingSegmentor"
        )
    return inner
