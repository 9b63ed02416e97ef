"""The user's own images without labels, as samples of a store: recorded where they lie, not copied."""

import glob
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from mmengine.logging import print_log

from mmdiff2in1.core.folders import IMAGE_SUFFIXES
from mmdiff2in1.core.images import check_sources, image_size
from mmdiff2in1.core.photos import photos_below

from .recipe import MAX_STEM
from .store import IMAGES, UNLABELLED, SampleStore


@dataclass(frozen=True)
class UnlabelledImage:
    """A file: its absolute `path`, length in bytes, and time of its last change in nanoseconds."""

    path: str
    bytes: int
    modified: int


@dataclass(frozen=True)
class UnlabelledPool:
    """Images that become samples without a label; `copied`: their files are copied into the store, byte by byte."""

    images: tuple[UnlabelledImage, ...]
    copied: bool = False

    @classmethod
    def of(cls, places: str | Sequence[str], copied: bool = False) -> 'UnlabelledPool':
        """Those in `places`, see `image_files`."""
        stats = {file: os.stat(file) for file in image_files(places)}
        images = [UnlabelledImage(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats.items()]
        return cls(tuple(images), copied)

    def without_leaks(self, labelled: Iterable[str], scored: Mapping[str, Iterable[str]]) -> 'UnlabelledPool':
        """The pool without the `labelled` images, which is said.

        Raises ValueError naming images of the `scored` sets, by their names: training on them would spoil the scores.
        """
        files = [image.path for image in self.images]
        for name, images in scored.items():
            found = shared(files, images)
            if found:
                raise ValueError(
                    f'{len(found)} of {len(files)} unlabelled images are also images of the {name} set, first '
                    f'{found[0]}: trained on, they would spoil its scores. Take them out of stages.synthesis.unlabelled'
                )
        known = set(shared(files, labelled))
        if known:
            print_log(
                f'{len(known)} of {len(files)} unlabelled images are labelled images of the training set and are left '
                f'out of the unlabelled ones, first {min(known)}',
                'current',
                logging.WARNING,
            )
        if len(known) == len(files):
            raise ValueError('every one of the unlabelled images is a labelled one of the training set')
        return UnlabelledPool(tuple(image for image in self.images if image.path not in known), self.copied)

    def records(self, store: SampleStore) -> dict[str, dict]:
        """{sample_id: record} of the whole pool; of several equal files the first counts.

        Files that the store does not know as they are now are decoded and hashed, others are not touched.

        Raises FileNotFoundError or ValueError naming the files that cannot be read, ValueError for images of the store
        itself.
        """
        inside = [image.path for image in self.images if store.folder.absolute() in Path(image.path).parents]
        if inside:
            raise ValueError(
                f'{inside[0]} is an image of the store {store.folder} itself; expected unlabelled images outside of it'
            )
        finished = [record for record in store.finished().values() if record.get('kind') == UNLABELLED]
        known = {(each['path'], each['bytes'], each['modified']): each for each in finished}
        new = [image.path for image in self.images if (image.path, image.bytes, image.modified) not in known]
        check_sources(new, 'unlabelled images')
        with ThreadPoolExecutor() as pool:
            digests = dict(zip(new, pool.map(digest_of, new), strict=True))
        by_digest: dict[str, dict] = {}
        for image in self.images:
            there = known.get((image.path, image.bytes, image.modified))
            digest = digests[image.path] if there is None else there['image_sha256']
            size = list(image_size(image.path)) if there is None else there['size']
            by_digest.setdefault(digest, self._record(image, digest, size))
        if len(by_digest) < len(self.images):
            equal = len(self.images) - len(by_digest)
            print_log(f'{equal} of {len(self.images)} unlabelled images equal another one and are left out', 'current')
        return {record['sample_id']: record for record in by_digest.values()}

    def add(self, store: SampleStore, rank: int = 0, world_size: int = 1) -> list[str]:
        """Record the share of a process in the store, as far as it is not there; returns the ids of the whole pool.

        Labels that a teacher has written since stay with their image, as long as their files are there.
        """
        finished, records = store.finished(), self.records(store)
        shard = SampleStore(store.folder, rank) if world_size > 1 else store
        for record in list(records.values())[rank::world_size]:
            there = finished.get(record['sample_id'], {})
            files = store.labels(there)
            labels = {task: label for task, label in there.get('labels', {}).items() if files[task].is_file()}
            record |= dict(labels=labels) if labels else {}
            if there != record or not store.is_whole(there):
                shard.add_file(record, record['path'])
        return sorted(records)

    def _record(self, image: UnlabelledImage, digest: str, size: list[int]) -> dict:
        file = Path(image.path)
        stem = re.sub(r'[^A-Za-z0-9_.-]', '_', file.stem)[:MAX_STEM]
        sample_id = f'{stem}-{UNLABELLED}-{digest[:12]}'
        place = f'{IMAGES}/{sample_id}{file.suffix.lower()}' if self.copied else image.path
        facts = dict(sample_id=sample_id, kind=UNLABELLED, source=None, caption='', size=size)
        return asdict(image) | facts | dict(image=place, image_sha256=digest)


def image_files(places: str | Sequence[str]) -> list[str]:
    """Absolute paths of all images in `places`, each once, sorted: folders with all below, files, patterns with *.

    Hidden files and folders are left out. Raises FileNotFoundError for a place without images.
    """
    found: set[str] = set()
    for place in [places] if isinstance(places, str | Path) else places:
        path = Path(place).expanduser()
        tops = [path] if path.exists() else _matches(str(path))
        files = [
            file for top in tops for file in ([top / name for name in photos_below(top)] if top.is_dir() else [top])
        ]
        images = [os.path.abspath(file) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            what = 'no images in it' if tops else 'nothing there'
            raise FileNotFoundError(
                f'stages.synthesis.unlabelled={place}: {what}; expected a folder of images '
                f'({", ".join(IMAGE_SUFFIXES)}), a file, or a pattern like photos/*.jpg. If the folder has moved, '
                'name its new place: images that a store knows are found again by their content'
            )
        found |= set(images)
    return sorted(Path(file).as_posix() for file in found)


def shared(files: Sequence[str], others: Iterable[str]) -> list[str]:
    """Those of `files` that are among `others`: the same file, or one with the same bytes."""
    there = [os.path.realpath(file) for file in others if os.path.isfile(file)]
    same, by_size = set(there), dict[int, list[str]]()
    for file in there:
        by_size.setdefault(os.path.getsize(file), []).append(file)

    def known(file: str) -> bool:
        if os.path.realpath(file) in same:
            return True
        return any(digest_of(file) == digest_of(other) for other in by_size.get(os.path.getsize(file), ()))

    return [file for file in files if known(file)]


def digest_of(file: str) -> str:
    """SHA-256 of a file; kept as long as its size and time stay."""
    stat = os.stat(file)
    return _digest(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 20)
def _digest(file: str, _size: int, _modified: int) -> str:
    with open(file, 'rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def _matches(pattern: str) -> list[Path]:
    """Files and folders; a bracket is one of a name if there are such names, else begins a choice of letters."""
    named = glob.glob(pattern.replace('[', '[[]'), recursive=True)
    return [Path(match) for match in sorted(named or glob.glob(pattern, recursive=True))]
