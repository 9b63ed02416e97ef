"""The recipe of one synthetic sample: everything its pixels depend on, and the name that follows from it.

H, W image size at creation. T is the noising timestep (1 … T_max).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

MAX_STEM = 80
LATER = ('layout', 'condition')
"""Fields that came later: without them a recipe keeps its name."""


def stable_hash(*parts: object) -> int:
    """A 256-bit integer that depends on nothing but `parts`.

    Every random choice of this room is read off it, because Python's and NumPy's generators may change their streams
    between releases and a sample must keep its name.
    """
    return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), 16)


@dataclass(frozen=True)
class Condition:
    """The input of a ControlNet: the `task` whose label map is drawn, and the SHA-256 of that `picture`."""

    task: str
    picture: str


@dataclass(frozen=True, kw_only=True)
class SampleRecipe:
    """Everything that makes one synthetic image; two equal recipes make the same image.

    `source` is the image file relative to the data root with forward slashes, or None for a sample from pure noise.
    `caption` may be empty (unconditional). `seed` counts the repeats of a source: 0, 1, 2 …, see `noise_seed`.
    `T` is the timestep to which the source is noised; `grid`, `num_calls`, `solver`, `guidance_scale` are those of
    `LatentDiffusion.create`; `size` is the (H, W) of creation; `weights_hash` is `LatentDiffusion.weights_hash()`.
    `layout` is what composes the image first, see `Composing.identity`; then T may be 0: no generator looks at it.
    `condition` is what its layout follows, or None.

    Raises ValueError for a field that no diffusion model could serve: T < 1, no calls, more calls than T, empty size.
    """

    source: str | None
    caption: str
    seed: int
    T: int
    grid: str
    num_calls: int
    solver: str
    guidance_scale: float
    size: tuple[int, int]
    weights_hash: str
    layout: Mapping[str, Any] | None = field(default=None, hash=False)
    condition: Condition | None = None

    def __post_init__(self) -> None:
        # 1 and 1.0, or a list and a tuple, are the same recipe and must get the same name.
        object.__setattr__(self, 'guidance_scale', float(self.guidance_scale))
        object.__setattr__(self, 'size', tuple(int(side) for side in self.size))
        what = f'recipe of {self.source or "a sample from noise"}'
        if not isinstance(self.caption, str):
            raise ValueError(f'{what}: caption is {self.caption!r}, expected text; use "" for no caption')
        for name in ('seed', 'T', 'num_calls'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f'{what}: {name} is {value!r}, expected an integer')
        if self.seed < 0:
            raise ValueError(f'{what}: seed is {self.seed}, expected 0 or more')
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f'{what}: size is {list(self.size)}, expected [height, width] in pixels')
        if self.layout is not None and self.T == self.num_calls == 0:
            return
        if self.T < 1:
            raise ValueError(f'{what}: T is {self.T}, expected 1 … T_max (1000 for Stable Diffusion)')
        if not 1 <= self.num_calls <= self.T:
            raise ValueError(
                f'{what}: num_calls is {self.num_calls}, expected 1 … T = {self.T}: '
                'there are no more than T distinct timesteps to call the U-Net at'
            )

    @property
    def fields(self) -> dict[str, Any]:
        """All fields by name; what did not exist in older recipes is left out where it is None."""
        own = {name: value for name, value in vars(self).items() if name not in LATER or value is not None}
        return own if self.condition is None else own | dict(condition=asdict(self.condition))

    @property
    def canonical(self) -> str:
        """The recipe as JSON with sorted keys: the text whose hash ends the `sample_id`."""
        return json.dumps(self.fields, sort_keys=True, separators=(',', ':'))

    @property
    def sample_id(self) -> str:
        """A readable, file-safe name that is equal for equal recipes: `<source stem>-T600-s0001-1a2b3c4d`."""
        stem = PurePosixPath(self.source).stem if self.source else 'noise'
        stem = re.sub(r'[^A-Za-z0-9_.-]', '_', stem)[:MAX_STEM]
        digest = hashlib.sha256(self.canonical.encode()).hexdigest()[:8]
        return f'{stem}-T{self.T}-s{self.seed:04d}-{digest}'

    @property
    def noise_seed(self) -> int:
        """The seed of the initial noise, in 0 … 2^63 - 1: drawn from the source and `seed`.

        Were it `seed` itself, the n-th sample of every source would be painted over the very same noise. T is left
        out, so samples of one source that differ in T alone start from the same noise and can be compared.
        """
        return stable_hash('noise', self.source if self.source else self.caption, self.seed) >> (256 - 63)

    @property
    def batch_key(self) -> tuple:
        """Samples with an equal key can be created in one call."""
        solving = (self.T, self.grid, self.num_calls, self.solver, self.guidance_scale, self.size)
        return (self.source is None, self.condition is None, *solving)
