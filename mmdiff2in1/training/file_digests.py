"""Digests of files, told apart by their size and a sample of their content: gigabytes are not read whole."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.generators.class_embeddings import cache_folder

LARGE = 64, 1 << 16
"""Blocks, and bytes per block, that are read of a file of weights."""
SMALL = 8, 1 << 12
"""The same for a PNG, whose last block holds a checksum of all; other label files are read whole."""
SETTLED = 2 * 10**9
"""Nanoseconds: a file that was written so lately may be written again without a trace in its time."""


def sampled_digest(file: str | Path, blocks: tuple[int, int] = LARGE) -> str:
    """Hash of a file's size and of blocks that are evenly spread over it, the first and the last included."""
    size, (count, length) = os.stat(file).st_size, blocks
    digest = hashlib.sha256(str(size).encode())
    with open(file, 'rb') as stream:
        if blocks == SMALL and not str(file).lower().endswith('.png'):
            digest.update(stream.read())  # without a checksum at its end, a change may lie between the blocks
            return digest.hexdigest()
        for offset in sorted({i * max(0, size - length) // (count - 1) for i in range(count)}):
            stream.seek(offset)
            digest.update(stream.read(length))
    return digest.hexdigest()


def digests_of(files: Sequence[str], place: str) -> list[str]:
    """`sampled_digest` of many small files; known ones whose size and times have not changed cost a look, no reading.

    Args:
        files: Paths; one that is not there has the digest ''.
        place: What the files have in common; the digests are kept in the cache folder under a name made from it.
    """
    kept = cache_folder() / f'files-{hashlib.sha256(os.fsencode(os.path.abspath(place))).hexdigest()[:20]}.json'
    known = _read(kept)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda file: _digest(file, known), files))
    latest = time.time_ns() - SETTLED
    entries = {
        os.path.abspath(file): [*facts, digest]
        for file, (facts, digest) in zip(files, found, strict=True)
        if facts and max(facts[1:]) < latest
    }
    if any(known.get(file) != entry for file, entry in entries.items()):
        with contextlib.suppress(OSError):  # not kept: the next start reads the files again
            write_atomically(kept, json.dumps(known | entries).encode())
    return [digest for _, digest in found]


def _digest(file: str, known: dict[str, list]) -> tuple[list[int], str]:
    """Size and times of a file, and its digest."""
    try:
        stat = os.stat(file)
        facts = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        entry = known.get(os.path.abspath(file))
        return facts, entry[-1] if entry and entry[:-1] == facts else sampled_digest(file, SMALL)
    except FileNotFoundError:
        return [], ''


def _read(kept: Path) -> dict[str, list]:
    try:
        return json.loads(kept.read_text())
    except (OSError, ValueError):
        return {}
