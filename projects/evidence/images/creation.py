"""Creates images and keeps them on disk: a second call with another question makes none anew.

N, H, W, 3: uint8 RGB.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.bf16 import bf16_autocast
from mmdiff2in1.core.images import from_model, to_model
from mmdiff2in1.generators import LatentDiffusion


@dataclass(frozen=True)
class CreationSettings:
    """How images are created, see `mmdiff2in1.generators.creation.create`."""

    num_calls: int = 20
    guidance_scale: float = 1.0
    batch_size: int = 30
    solver: str = 'dpm++'

    @property
    def calls_per_image(self) -> int:
        """U-Net evaluations that one image costs; guidance evaluates every step twice."""
        return self.num_calls * (2 if self.guidance_scale != 1 else 1)


class KeptImages:
    """Creates batches with one model and one setting, and keeps what it made.

    Args:
        diffusion: The generator.
        settings: How it creates.
        cache: Folder of what has been created before; files are named after everything that decides their content.
    """

    def __init__(self, diffusion: LatentDiffusion, settings: CreationSettings, cache: Path) -> None:
        self.diffusion, self.settings, self.cache = diffusion, settings, cache

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the generator."""
        return self.diffusion.weights_hash()

    @property
    def bfloat16(self) -> bool:
        """Whether creation runs under bfloat16 autocast: where the device has it, as frozen features do."""
        device = self.diffusion.device
        with bf16_autocast('auto', device):
            return torch.is_autocast_enabled(device.type)

    @torch.no_grad()
    def __call__(self, images: np.ndarray, captions: Sequence[str], seeds: Sequence[int], T: int) -> np.ndarray:
        """One created image per source, caption and seed; at T_max the sources (N, H, W, 3) only give the size."""
        file = self.cache / f'T{T:04d}-{self._key(images, captions, seeds, T)}.npy'
        if file.is_file():
            return np.load(file)
        made, size = [], self.settings.batch_size
        with tqdm(total=len(images), desc=f'creating, T={T}', unit='img') as bar:
            for start in range(0, len(images), size):
                part = slice(start, start + size)
                with bf16_autocast('auto', self.diffusion.device):
                    creation = self.diffusion.create(
                        to_model(list(images[part])),
                        captions=captions[part],
                        seeds=seeds[part],
                        T=T,
                        num_calls=self.settings.num_calls,
                        solver=self.settings.solver,
                        guidance_scale=self.settings.guidance_scale,
                    )
                made.append(from_model(creation.images))
                bar.update(len(made[-1]))
        created = np.concatenate(made)
        content = BytesIO()
        np.save(content, created)
        write_atomically(file, content.getvalue())
        return created

    @torch.no_grad()
    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """What the autoencoder alone makes of the images: creation without noise."""
        made, size = [], self.settings.batch_size
        for start in tqdm(range(0, len(images), size), desc='autoencoder', unit='batch'):
            batch = to_model(list(images[start : start + size])).to(self.diffusion.device)
            with bf16_autocast('auto', self.diffusion.device):
                made.append(from_model(self.diffusion.decode(self.diffusion.encode(batch))))
        return np.concatenate(made)

    def _key(self, images: np.ndarray, captions: Sequence[str], seeds: Sequence[int], T: int) -> str:
        sources = hashlib.sha256(images.tobytes()).hexdigest()
        recipe = [self.weights, self.bfloat16, asdict(self.settings), sources, list(images.shape), T]
        return hashlib.sha256(json.dumps([*recipe, list(captions), list(map(int, seeds))]).encode()).hexdigest()[:20]
