"""What is compared, and under which circumstances."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any

RELEASED_SIZE = 512
"""The released code sorts features by the sides 8, 16, 32 and 64, which only images of 512 × 512 have."""


@dataclass(frozen=True)
class Row:
    """What both sides do.

    Attributes:
        peer: A name of `PEERS`.
        what: Is done.
        differs: In what the sides differ.
        tolerance: Of their outputs, relative to the largest entry.
        looser: Tolerance of single outputs; infinite: they may differ.
        size: The only one that theirs takes.
    """

    peer: str
    what: str
    differs: str = ''
    tolerance: float = 1e-3
    looser: Mapping[str, float] = field(default_factory=dict)
    size: int | None = None


TEXT = 'an image with its maps: VAE encoder, U-Net at t = 1 under class tokens, cross-attention maps'
ROWS = {
    'vpd-features': Row('vpd', f'perception alone; {TEXT}'),
    'vpd-frozen': Row('vpd', 'a training step of neck and head (ours on both sides), nothing of the U-Net trained'),
    'vpd-finetune': Row(
        'vpd',
        'a training step of everything but the VAE, nothing recomputed (use_checkpoint off in theirs, and the flag of '
        'its transformers that no config reaches)',
        # Rectifiers near zero: 1e-6 on the weights moves it by 1e-3.
        looser={'gradient of the text adapter': 1e-2},
    ),
    'vpd-finetune-checkpointing': Row(
        'vpd',
        'the same, the inside of the layers recomputed in the backward pass (use_checkpoint as in their config)',
        'under recomputation their attention maps are made without gradient, so that no loss reaches the U-Net '
        'through them',
        looser={'gradient of the U-Net': inf, 'gradient of the text adapter': inf},
    ),
    'released-features': Row(
        'released', 'perception alone: sampled latent, noise at t = 0, empty prompt, every block', size=RELEASED_SIZE
    ),
    'released-second-stage': Row(
        'released',
        'a second-stage step, half of the images created; θ_C sees draws of its own on either side',
        'θ_C labels created images alone, without gradient and at every pixel in ours; all images, with a graph that '
        'is thrown away and at 40 % of the points in theirs',
        size=RELEASED_SIZE,
    ),
    'released-second-stage-shared': Row(
        'released',
        'the same; ours by default, θ_C and θ_E see one draw',
        'as above, and VAE and U-Net run once in ours, twice in theirs',
        size=RELEASED_SIZE,
    ),
    'released-create': Row(
        'released',
        'an image created from one at T = 600, as many U-Net calls on either side',
        looser=dict(image=3e-2),  # a decoder of random weights magnifies what the latents differ by
    ),
    'released-create-default': Row(
        'released',
        'the same; their number of calls against our default of 20',
        'fewer calls give other images; how few are as good: docs/evidence/generator.md',
        looser=dict(image=inf, latent=inf),
    ),
    'released-ema': Row(
        'released',
        'θ_C ← 0.998 θ_C + 0.002 θ_E, adapter and decoder at full width',
        'theirs averages 34 million weights that nothing reads, too; singular vectors are copied in ours',
        tolerance=1e-5,
    ),
}


@dataclass(frozen=True)
class Setup:
    """Circumstances of a row.

    Attributes:
        row: A name of `ROWS`.
        device: cpu or cuda.
        width: full, that of Stable Diffusion 1.5, or small, a tenth of it.
        size: Side of the images.
        dtype: fp32, tf32 or bf16.
        batch: Images.
        calls: Of the U-Net for an image, in theirs.
    """

    row: str
    device: str
    width: str
    size: int
    dtype: str
    batch: int
    calls: int

    def record(self) -> dict[str, Any]:
        """As it stands in the JSON lines; `setup_of` reads it back."""
        return asdict(self)


def setup_of(record: dict[str, Any]) -> Setup:
    """The circumstances of a JSON line."""
    return Setup(**{name: record[name] for name in Setup.__dataclass_fields__})


def settled(setup: Setup) -> Setup:
    """With what the row leaves no choice in: its only size, one image where theirs takes no more, no calls."""
    row = ROWS[setup.row]
    creates = setup.row.startswith('released-create')
    if setup.row == 'released-ema':
        return replace(setup, width='full', size=0, batch=0, calls=0, dtype='fp32')
    return replace(
        setup, size=row.size or setup.size, batch=1 if creates else setup.batch, calls=setup.calls if creates else 0
    )
