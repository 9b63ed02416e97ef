"""What one measurement is: a job, how it computes, and how much memory it may take."""

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

CASES = {
    'matmul': 'the largest rate of square matrix products, the peak that the others are compared with',
    'features': 'perception forward: VAE encode and the U-Net with class maps',
    'features-detail': 'the same with a detail path: levels of the VAE encoder, and a stem of 16 channels',
    'features-timesteps': 'features of two timesteps in one call of the U-Net',
    'frozen': 'training step of FPN and head on a frozen U-Net',
    'finetune': 'training step that changes the U-Net, too (VPD)',
    'mixed': 'training step of the self-improving stage, half of the batch labelled by θ_C; U-Net fine-tuned',
    'create': 'creation of images: VAE encode, U-Net calls, VAE decode',
    'ema': 'one update of θ_C by SelfImprovingHook, U-Net fine-tuned',
    'bae': "training step of Bae et al.'s decoder with its adapter alone, on features of the U-Net that are at hand",
    'bae-predict': 'its prediction, which refines every pixel: that of a test and of a pseudo label',
    'idisc': "training step of iDisc's head alone",
    'idisc-predict': 'its prediction',
    'vpd-depth': "training step of VPD's depth head alone",
    'vpd-depth-predict': 'its prediction',
    'views-vpd_scenes': 'warm-up steps of configs/baselines/vpd_scenes.py without and with 8 cached views, in pairs',
    'views-bae_scenes-normal': 'the same of configs/baselines/bae_scenes-normal.py',
    'views-vpd': 'the same of VPD, frozen, at the size of Stable Diffusion 1.5, with one cached view of each image',
    'compiled-features': 'perception forward of configs/_base_/models/vpd_scenes.py, plain and compiled, in pairs',
    'compiled-finetune': 'training step of it that changes the U-Net, too, plain and compiled, in pairs',
    'compiled-create': "creation by 'builtin:scenes', plain and with a compiled U-Net, in pairs",
}
HEADS = ('bae', 'idisc', 'vpd-depth')
VIEWS, COMPILED = 'views-', 'compiled-'
FULL_VIEWS = 'views-vpd'
HEAD_CASES = tuple(f'{head}{end}' for head in HEADS for end in ('', '-predict'))
PRECISIONS = {
    'fp32': 'full single precision',
    'tf32': 'single precision, matrix products in TensorFloat-32 (GPUs)',
    'bf16': 'bfloat16 autocast, weights in single precision',
    'bf16-weights': 'weights and activations in bfloat16; not for training',
}
OPTIONS = {
    'checkpointing': 'DiffusionBackbone(gradient_checkpointing=True)',
    'channels_last': 'weights and images as torch.channels_last',
    'compile': 'torch.compile of each residual layer and each transformer of U-Net and VAE',
    'math-attention': 'scaled_dot_product_attention without fusion',
    'fused-adamw': 'AdamW(fused=True)',
}
TRAINING = ('frozen', 'finetune', 'mixed', *HEADS)
MODELS = ('stable-diffusion-1.5', 'tiny', 'scenes')


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        case: One of CASES.
        precision: One of PRECISIONS.
        batch: Images; for `mixed` half of them are synthetic.
        calls: U-Net calls per image, for creation; else 0.
        options: Some of OPTIONS, in that order.
        memory: GB (2^30 bytes) of the device that it may use, 0: all.
        model: One of MODELS.
        size: Side of the images in pixels.
        device: 'cpu' or 'cuda'.
    """

    case: str
    precision: str = 'fp32'
    batch: int = 1
    calls: int = 0
    options: tuple[str, ...] = ()
    memory: float = 0
    model: str = 'stable-diffusion-1.5'
    size: int = 512
    device: str = 'cpu'

    @property
    def name(self) -> str:
        """Unique, for `--cells` and the progress bar."""
        parts = [self.case + (f'-{self.calls}' if self.calls else ''), self.precision, f'b{self.batch}', *self.options]
        parts += [f'{self.memory:g}GB'] if self.memory else []
        parts += [self.model, str(self.size)] if (self.model, self.size) != ('stable-diffusion-1.5', 512) else []
        return ' '.join([*parts, self.device])

    @property
    def regime(self) -> str:
        """Of the backbone."""
        return 'finetune' if self.case in ('finetune', 'mixed', 'ema') else 'frozen'

    @property
    def head(self) -> str | None:
        """The one of HEADS that is measured alone; None: other things are."""
        name = self.case.removesuffix('-predict')
        return name if name in HEADS else None

    @property
    def warmup(self) -> str | None:
        """The config whose warm-up is measured with and without cached views; None: other things are."""
        return self.case.removeprefix(VIEWS) if self.case.startswith(VIEWS) else None

    @property
    def paired(self) -> bool:
        """Whether two ways are measured in turns."""
        return self.case.startswith((VIEWS, COMPILED))

    def record(self) -> dict[str, Any]:
        """As it stands in the JSON lines; `cell_of` reads it back."""
        return asdict(self) | dict(options=list(self.options))


def cell_of(record: dict[str, Any]) -> Cell:
    """The cell that a JSON line was measured with."""
    values = {name: record[name] for name in Cell.__dataclass_fields__}
    return Cell(**(values | dict(options=tuple(values['options']))))


def product_of(
    cases: list[str],
    precisions: list[str],
    batches: list[int],
    calls: list[int],
    option_sets: list[tuple[str, ...]],
    memories: list[float],
    **common: Any,
) -> list[Cell]:
    """All combinations that make sense, each once."""
    cells = []
    for case, memory, precision, options, batch, number in product(
        cases, memories, precisions, option_sets, batches, calls
    ):
        alone = case in ('matmul', 'ema')
        cell = Cell(
            case,
            precision,
            1 if alone else batch,
            number if case in ('create', f'{COMPILED}create') else 0,
            () if alone else tuple(name for name in OPTIONS if name in options),
            0 if alone else memory,
            **common,
        )
        if sensible(cell) and cell not in cells:
            cells.append(cell)
    return cells


def sensible(cell: Cell) -> bool:
    """Whether the cell measures something that the same cell with fewer options does not."""
    training = cell.case in TRAINING
    of_scenes = cell.paired and cell.case != FULL_VIEWS
    return of_scenes == (cell.model == 'scenes') and not (
        ('checkpointing' in cell.options and cell.regime == 'frozen')
        or ('fused-adamw' in cell.options and not training)
        or (cell.precision == 'bf16-weights' and (training or cell.case in ('ema', 'matmul')))
        or (cell.precision == 'tf32' and cell.device == 'cpu')
        or (cell.case == 'ema' and cell.precision != 'fp32')
        or (cell.case == 'mixed' and cell.batch % 2)
        or (cell.head and ({'compile', 'math-attention'} & {*cell.options} or cell.model != MODELS[0]))
        or (cell.paired and {*cell.options} - {'channels_last'})
        or (cell.case == FULL_VIEWS and (cell.model != MODELS[0] or cell.precision not in ('fp32', 'bf16')))
        or (cell.case.startswith(COMPILED) and (cell.options or cell.precision != 'fp32'))
    )
