"""Pools of created images: made once per labelled set and recipe, kept in a file.

N samples; H, W pixels.
"""

import hashlib
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from mmdiff2in1.datasets.randomness import derived_seed
from mmdiff2in1.diffusion import LatentDiffusion
from mmdiff2in1.models.backbones.bf16 import bf16_autocast
from mmdiff2in1.synthesis.atomic import write_atomically

from .arms import MAX_SAMPLES, Creation
from .pools import Pool

NUM_CALLS, BATCH = 10, 16
IN_A_ROOM, EMPTY = ' in a room with ', 'an empty room with '


def created_pool(diffusion: LatentDiffusion, source: Pool, recipe: Creation, seed: int, folder: Path) -> Pool:
    """The samples of ``recipe`` from the labelled images of ``source``, from the file or made now.

    Returns:
        The samples; under ``targets`` nothing, because θ_C labels them.
    """
    count = min(recipe.per_image * len(source), MAX_SAMPLES)
    captions = _captions(source, recipe, count, seed)
    # The samples of one source take the levels in turn, and the sources do not start at the same one.
    levels = [recipe.T[(i + i // len(source)) % len(recipe.T)] for i in range(count)]
    identity = json.dumps([diffusion.weights_hash(), asdict(recipe), levels, captions, NUM_CALLS, seed])
    pixels = hashlib.sha256(source.images.numpy().tobytes()).hexdigest()
    path = folder / f'{hashlib.sha256((identity + pixels).encode()).hexdigest()[:16]}.npz'
    if path.is_file():
        return Pool(torch.from_numpy(np.load(path)['images']), {}, captions)
    images = torch.empty(count, *source.images.shape[1:], dtype=torch.uint8)
    for T in sorted(set(levels)):
        chosen = [i for i, level in enumerate(levels) if level == T]
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            with bf16_autocast('auto', diffusion.device):
                creation = diffusion.create(
                    images=source.images[[i % len(source) for i in batch]].float() / 127.5 - 1,
                    captions=[captions[i] for i in batch],
                    seeds=[derived_seed('experiment', seed, i) for i in batch],
                    T=T,
                    num_calls=NUM_CALLS,
                    solver='dpm++',
                )
            images[batch] = ((creation.images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    file = io.BytesIO()
    np.savez_compressed(file, images=images.numpy())
    write_atomically(path, file.getvalue(), writer=str(os.getpid()))  # jobs of one labelled set share their pools
    return Pool(images, {}, captions)


def _captions(source: Pool, recipe: Creation, count: int, seed: int) -> list[str]:
    own = [source.captions[i % len(source)] for i in range(count)]
    if not recipe.recombined:
        return own
    steps = np.random.default_rng([seed, 2]).integers(1, len(source), size=count)  # never 0: never its own things
    things = [source.captions[(i + step) % len(source)] for i, step in enumerate(steps)]
    return [recombined(other, caption) for other, caption in zip(things, own, strict=True)]


def recombined(things_of: str, room_of: str) -> str:
    """The things of one caption of Scenes in the room of another: a scene that may never have been seen.

    >>> recombined('a bed in a room with red walls and a wooden floor', 'an empty room with blue walls and a red floor')
    'a bed in a room with blue walls and a red floor'
    """
    things = things_of.split(IN_A_ROOM)[0] if IN_A_ROOM in things_of else None
    room = room_of.split(IN_A_ROOM)[1] if IN_A_ROOM in room_of else room_of.removeprefix(EMPTY)
    return f'{EMPTY}{room}' if things is None else f'{things}{IN_A_ROOM}{room}'
