"""Endless batches of a pool: every image once per round, freshly augmented, a pure function of the step.

B samples; 3, H, W: RGB in [-1, 1].
"""

from dataclasses import dataclass

import torch
from images.pools import Pool
from torch import Tensor

from mmdiff2in1.core.randomness import derived_seed
from mmdiff2in1.tasks import DenseTask

from .augmentation import augment


@dataclass
class Batch:
    """Attributes: ``plain`` (B, 3, H, W) mirrored and cropped; ``images`` the same recoloured; ``targets`` of both."""

    plain: Tensor
    images: Tensor
    targets: dict[str, Tensor]

    @property
    def mirrored(self) -> Tensor:
        """The mirror images of ``images``."""
        return self.images.flip(-1)


@dataclass
class Stream:
    """Batches of ``pool``; two streams of other names or seeds draw independently."""

    pool: Pool
    name: str
    seed: int
    batch_size: int
    tasks: dict[str, DenseTask]

    def batch(self, step: int) -> Batch:
        """The batch of a step; nothing before it has to be drawn."""
        places = [divmod(step * self.batch_size + i, len(self.pool)) for i in range(self.batch_size)]
        orders = {
            round_: torch.randperm(len(self.pool), generator=self._generator('order', round_))
            for round_ in {round_ for round_, _ in places}
        }
        chosen = torch.stack([orders[round_][place] for round_, place in places])
        targets = {name: target[chosen] for name, target in self.pool.targets.items()}
        generator = self._generator('augment', step)
        plain, images, targets = augment(self.pool.images[chosen].float() / 255, targets, self.tasks, generator)
        return Batch(plain * 2 - 1, images * 2 - 1, targets)

    def _generator(self, *key: object) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.seed, self.name, *key))
