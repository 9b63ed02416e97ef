"""Random draws that depend on nothing but a key: Python, NumPy and torch are seeded together, by a hash of it."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*key: object, bits: int = 63) -> int:
    """A seed in [0, 2^bits), bits <= 256, read off the SHA-256 of `key` (strings, integers, None).

    A hash, because sums such as seed + rank + iteration collide: (0, 1) and (1, 0) would draw the same numbers.
    """
    digest = hashlib.sha256(json.dumps(key, default=int).encode()).digest()
    return int.from_bytes(digest, 'little') >> (256 - bits)


def seed_all(*key: object) -> None:
    """Seed Python, NumPy, torch on the CPU and, once CUDA is in use, torch on every visible GPU from `key`.

    Each generator gets its own word of the hash: Python's and NumPy's are the same algorithm and would otherwise draw
    the same numbers.
    """
    words = np.frombuffer(derived_seed(*key, bits=256).to_bytes(32, 'little'), dtype='<u4')
    random.seed(words[0:2].tobytes())
    np.random.seed(words[2:6])
    torch_seed = int(words[6]) << 32 | int(words[7])
    # Not torch.manual_seed: without CUDA in use it queues a lazy call with a stack trace, for every call anew.
    torch.default_generator.manual_seed(torch_seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(torch_seed)


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Outside, nobody notices what is drawn inside: the states of Python, NumPy and torch are put back."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def derived_randomness(*key: object) -> Iterator[None]:
    """Inside, everything is drawn from `key` (see `seed_all`); outside, nobody notices: all states are put back."""
    with kept_randomness():
        seed_all(*key)
        yield
