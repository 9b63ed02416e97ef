"""Before and after captioning: what is missing and what it would cost, what to mind in the result, what to do again."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from mmdiff2in1.core.text_files import printable

from .caption_file import CaptionFile
from .captioning import CaptionSummary, ImageSet, keys_of
from .sources import CaptionSource


def dry_run(
    images: ImageSet, source: CaptionSource, path: Path, examples: int = 3, fallback: str | None = None
) -> Iterator[str]:
    """Lines that say what the file at `path` holds and lacks, with a few captions as they would be written.

    Raises what `source.check` raises.
    """
    keys = keys_of(images, CaptionFile(path).read())
    todo = [file for file, key in zip(images.paths, keys, strict=True) if key is None]
    yield f'{len(images.paths)} images, of which {len(images.paths) - len(todo)} have a caption in {path}'
    source.check(todo)
    shown = todo[:examples]
    if not shown:
        return
    source(shown[:1])  # loads the model, if there is one
    started = time.perf_counter()
    captions = source(shown)
    seconds = (time.perf_counter() - started) / len(shown)
    for file, caption in zip(shown, captions, strict=True):
        yield printable(f'  {file}: {caption or fallback or "(empty)"}')
    yield f'{seconds:.2g} s per image in a batch of {len(shown)}: about {seconds * len(todo) / 60:.2g} min for all'


def check_writable(path: Path) -> None:
    """PermissionError if `path` cannot be written, or lies in a folder that is marked read-only."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    # The mark counts for an administrator too, who could write: shared data are often protected by nothing else.
    if not os.access(folder, os.W_OK) or not folder.stat().st_mode & 0o222:
        raise PermissionError(f'{folder} is read-only')


def forget(images: ImageSet, path: Path, which: str) -> int:
    """Takes captions of these images out of the file: those that are `empty`, or `all`; returns how many."""
    file = CaptionFile(path)
    captions = file.read()
    keys = {key for key in keys_of(images, captions) if key is not None}
    gone = {key for key in keys if which == 'all' or not captions[key].strip()}
    file.forget(gone)
    return len(gone)


def report(images: ImageSet, path: Path, examples: bool = True, cure: str = '') -> Iterator[str]:
    """Lines that say how many captions the file has for these images, what they look like, and what to mind.

    `cure` ends the line about empty ones.
    """
    summary = CaptionSummary.of(images, CaptionFile(path).read())
    yield f'written: {path}, captions of {len(summary.captions)} images'
    for name, caption in summary.examples() if examples else ():
        yield printable(f'  {name}: {caption or "(empty)"}')
    for caption, count in summary.repeated[:3]:
        yield f'mind: {count} of {len(summary.captions)} images have the caption {caption!r}'
    if summary.empty:
        yield printable(
            f'mind: {len(summary.empty)} captions are empty, the first is that of {summary.empty[0]}. Creation refuses '
            f"these images unless stages.synthesis.caption_fallback is set ('' creates them without a caption){cure}"
        )
