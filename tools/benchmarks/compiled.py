"""A model of Scenes compiled beside the same as it is, in pairs: what torch.compile gains on a processor."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers the backbone
from mmdiff2in1.engine.compile_layers_hook import compile_layers
from mmdiff2in1.generators.compiling import compile_denoiser
from mmdiff2in1.generators.loading import load_generator

from .cells import COMPILED, Cell

MODEL = Path(__file__).parents[2] / 'configs' / '_base_' / 'models' / 'vpd_scenes.py'
STEPS = 5
"""Of one side of a pair."""


class CompiledPairs:
    """Steps of a plain and of a compiled model in turns, so that what else the machine does falls on both alike.

    Attributes:
        images_per_second: Of processor time, which others do not take; of each pair those of the plain and of the
            compiled one.
        notes: What the JSON line is to hold.
    """

    def __init__(self, cell: Cell) -> None:
        self._batch = cell.batch
        made = dict(features=_features, finetune=_training, create=_creation)[cell.case.removeprefix(COMPILED)]
        self._sides = made(cell)
        self.images_per_second: list[list[float]] = []
        self.notes = dict(images_per_second=self.images_per_second)

    def warm_up(self) -> None:
        """Compiles; a pair that does not count."""
        self.step()
        self.images_per_second.clear()

    def step(self) -> None:
        """One pair; every other one the other way round."""
        found = [0.0, 0.0]
        for side in (0, 1) if len(self.images_per_second) % 2 else (1, 0):
            start = time.process_time()
            for _ in range(STEPS):
                self._sides[side]()
            found[side] = STEPS * self._batch / (time.process_time() - start)
        self.images_per_second.append(found)


Step = Callable[[], Any]


def _features(cell: Cell) -> list[Step]:
    """What the backbone shows of images; layers compiled as CompileLayersHook does it."""
    images = _images(cell)

    def side(model: Any) -> Step:
        def step() -> None:
            with torch.no_grad():
                model.backbone(images)

        return step

    return [side(model.eval()) for model in _plain_and_compiled('frozen')]


def _training(cell: Cell) -> list[Step]:
    """A training step that changes the U-Net, too."""
    images, samples = _images(cell), []
    for label in torch.randint(11, (cell.batch, 1, cell.size, cell.size), generator=torch.Generator().manual_seed(0)):
        shape = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (cell.size, cell.size))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shape))

    def side(model: Any) -> Step:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = OptimWrapper(torch.optim.AdamW(trained, lr=1e-4))
        return lambda: optimizer.update_params(model.parse_losses(model.loss(images, samples))[0])

    return [side(model.train()) for model in _plain_and_compiled('finetune')]


def _creation(cell: Cell) -> list[Step]:
    """Images from images, T = 600; the U-Net compiled as `stages.synthesis.compile=True` does it."""
    generators: list[Any] = [load_generator('builtin:scenes') for _ in range(2)]
    compile_denoiser(generators[1].denoiser)
    images, options = _images(cell), dict(captions=['a room'] * cell.batch, seeds=list(range(cell.batch)), T=600)

    def side(generator: Any) -> Step:
        return lambda: generator.create(images, num_calls=cell.calls, **options)

    return [side(generator) for generator in generators]


def _plain_and_compiled(regime: str) -> list[Any]:
    init_default_scope('mmseg')
    config = Config.fromfile(MODEL, format_python_code=False).model
    config.backbone.update(regime=regime, bf16=False)
    torch.manual_seed(0)
    plain = MODELS.build(config)
    compiled = copy.deepcopy(plain)
    compile_layers(compiled)
    return [plain, compiled]


def _images(cell: Cell) -> torch.Tensor:
    """RGB in [-1, 1], (B, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(cell.batch, 3, cell.size, cell.size, generator=generator) * 2 - 1
