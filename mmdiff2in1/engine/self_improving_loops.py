"""Evaluation of both models: θ_C, the one that ships, under the plain metric names, θ_E under `exploiter/`."""

from collections.abc import Callable

import torch
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop, ValLoop, autocast
from mmseg.registry import LOOPS
from torch import nn
from torch.utils.data import DataLoader

from mmdiff2in1.datasets.randomness import derived_randomness, seed_all


class _EvaluatesBoth:
    """`run` of a loop over θ_C and, if asked for, θ_E.

    Both see the same draws, seeded from the runner's seed, and the random state of the training is put back: an
    evaluation neither depends on when it is run nor changes what is trained after it.

    Hooks of single iterations see θ_C only, so that pictures and timings show what ships.
    """

    stage: str
    exploiter: bool
    runner: Runner
    dataloader: DataLoader
    evaluator: Evaluator
    fp16: bool
    run_iter: Callable[[int, dict], None]

    def run(self) -> dict:
        runner = self.runner
        model = _evaluable(runner.model)
        key = (runner.seed, 'evaluation', get_rank())
        with derived_randomness(*key):
            runner.call_hook(f'before_{self.stage}')
            runner.call_hook(f'before_{self.stage}_epoch')
            runner.model.eval()
            with model.evaluated('creator'):
                for idx, batch in enumerate(self.dataloader):
                    self.run_iter(idx, batch)
                metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
            if self.exploiter:
                runner.logger.info('Evaluating θ_E; its metrics follow under exploiter/')
                seed_all(*key)
                with model.evaluated('exploiter'):
                    for batch in self.dataloader:
                        self._process(batch)
                    found = self.evaluator.evaluate(len(self.dataloader.dataset))
                metrics |= {f'exploiter/{name}': value for name, value in found.items()}
            runner.call_hook(f'after_{self.stage}_epoch', metrics=metrics)
            runner.call_hook(f'after_{self.stage}')
        return metrics

    @torch.no_grad()
    def _process(self, batch: dict) -> None:
        step = getattr(self.runner.model, f'{self.stage}_step')
        with autocast(enabled=self.fp16):
            outputs = step(batch)
        self.evaluator.process(data_samples=outputs, data_batch=batch)


@LOOPS.register_module()
class SelfImprovingValLoop(_EvaluatesBoth, ValLoop):
    """Validation during training of a model that offers `evaluated(which)`, such as `SelfImprovingSegmentor`.

    `mIoU` is θ_C's and `exploiter/mIoU` θ_E's; `exploiter=False` skips the second pass. Both names can be given to
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
