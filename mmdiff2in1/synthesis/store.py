"""A folder of finished synthetic samples that survives being killed at any moment.

    store/manifest.jsonl            one JSON record per finished sample
    store/manifest.rank<r>.jsonl    the same, while several processes write; read transparently, folded in by `merge`
    store/images/<sample_id>.png    uint8 RGB (H, W, 3); unlabelled images of the user stay where they lie, and the
                                    record has their absolute path
    store/labels/<task>/<sample_id>.png   where a sample has labels: uint8 or uint16, (H, W) or (H, W, 3), as the task
                                          encodes them, or a top-k map of classes, uint16 (2k · H, W)

Most samples have none: what a created image is taught with is decided in training (`label_rule`), and `source_labels`
of its record says where the labels of its source are. A label is the sample's own, or a teacher's, whose mark then
stands beside it (`by`). A record is appended only after its files are safely on disk, so a kill loses at most the
sample in hand.
"""

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mmdiff2in1.core.ahead import ahead, together
from mmdiff2in1.core.atomic_files import append_line, complete_text, remove_parts, write_atomically
from mmdiff2in1.core.folders import IMAGE_SUFFIXES
from mmdiff2in1.core.inside import remove_inside
from mmdiff2in1.core.lock import alone, locked
from mmdiff2in1.core.one_run import this_run
from mmdiff2in1.core.processes import usable_cores

from .record_index import RecordIndex, Records
from .record_reading import read_records
from .records import UNLABELLED, check_record, file_name
from .store_files import Damage, check_label, damage_of, encoded, files_of, is_there, reading, size_of

MANIFEST = 'manifest.jsonl'
IMAGES, LABELS = 'images', 'labels'
TOGETHER = 64
"""Records whose files one thread looks at before it is asked again."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
__all__ = ['IMAGES', 'LABELS', 'MANIFEST', 'UNLABELLED', 'Damage', 'SampleStore']


class SampleStore:
    """Reads and writes the store at `path`; `rank` names the shard to append to (None: the manifest itself).

    Opening creates nothing. Several processes of one run may append at once, each with its own `rank`; two runs are
    kept apart by `writing`.
    """

    def __init__(self, path: str | Path, rank: int | None = None) -> None:
        self.folder = Path(path)
        self.rank = rank

    @property
    def exists(self) -> bool:
        """True if a manifest or a shard of one is there."""
        return self._manifest.is_file() or bool(self._shards())

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """The store is this run's own until the block ends, or the process; `what` it does is told to others.

        Without a `rank` it is this process's own. What killed runs have left half-written goes first. A complete store
        may lie where nothing can be written: then nothing is locked.

        Raises InUseError if another run writes to it.
        """
        run = None if self.rank is None else this_run()
        with locked(self.folder, what, run, self.rank or 0) as is_locked:
            self._check_folders()
            if is_locked and not self.rank:
                for folder in (self.folder, self.folder / IMAGES, *(self.folder / LABELS).glob('*')):
                    remove_parts(folder)
            yield

    def records(self, rejected: bool = False) -> Records:
        """All kept samples sorted by `sample_id`; with `rejected=True` those that a filter refused, too.

        All lines of the manifest are checked now, each record is parsed whenever it is asked for.

        Raises FileNotFoundError if this is no store, ValueError naming file and line of a broken record.
        """
        if not self.exists:
            raise FileNotFoundError(
                f'{self.folder} holds no {MANIFEST}, expected a folder of synthetic samples; '
                'create it with mmdiff2in1 synthesize CONFIG --out <folder>'
            )
        index = self.finished()
        return Records(index, [name for name in index if rejected or name not in index.rejected])

    def finished(self) -> RecordIndex:
        """{sample_id: record} of every sample that needs no more work, the rejected included; empty without a store."""
        records, problems = self._read()
        if problems:
            raise ValueError(f'{self.folder / problems[0].file} {problems[0].found}; {self._cure}')
        return records

    def image(self, record: dict) -> Path:
        """The image of a record."""
        return self.folder / record['image']

    def labels(self, record: dict) -> dict[str, Path]:
        """The labels of its own that a sample has, by task."""
        return {task: self.folder / label['file'] for task, label in record.get('labels', {}).items()}

    def is_whole(self, record: dict) -> bool:
        """True if the files of a record are there and not empty; `verify` looks at their content."""
        if record.get('rejected'):
            return True
        return all(is_there(self.folder / name) for name, _ in files_of(record))

    def add(self, record: dict, image: np.ndarray, labels: Mapping[str, np.ndarray] | None = None) -> dict:
        """Write the files, then the record with their names and hashes; returns that record.

        `image` is uint8 RGB (H, W, 3); each of `labels`, by task, uint8 or uint16, (H, W) or (H, W, 3), of the same
        H, W; `record` needs at least 'sample_id'.

        Raises ValueError for other arrays; OSError with what is finished and what to do when the disk is full.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)')
        for task, label in (labels or {}).items():
            check_label(task, label)
            if label.shape[:2] != image.shape[:2]:
                raise ValueError(
                    f'the label of {task} is {label.shape[:2]}, expected the size of its image {image.shape[:2]}'
                )
        name = file_name(record)
        record = dict(record, image=f'{IMAGES}/{name}')
        record['image_sha256'] = self._write(record['image'], image)
        if labels:
            record['labels'] = {
                task: dict(file=(file := f'{LABELS}/{task}/{name}'), sha256=self._write(file, label))
                for task, label in labels.items()
            }
        self._append(record)
        return record

    def add_file(self, record: dict, file: str | Path) -> None:
        """Write a record whose `image` and `image_sha256` are known.

        An `image` with an absolute path stays where it is; below the store, it becomes a copy of `file`, byte by byte.
        """
        check_record(record)
        if not os.path.isabs(record['image']):
            with self._explaining_full_disk():
                write_atomically(self.folder / record['image'], Path(file).read_bytes())
        self._append(record)

    def label(self, record: dict, labels: Mapping[str, np.ndarray], by: str) -> dict:
        """Write a teacher's labels of a finished sample, then its record anew; returns that record.

        `labels`, by task, replace those of the same tasks; `by` is the mark of the teacher. Not to be called while
        another process labels the same sample.

        Raises ValueError for other arrays; OSError as `add` does.
        """
        for task, label in labels.items():
            check_label(task, label)
        name = file_name(record)
        files = {task: f'{LABELS}/{task}/{name}' for task in labels}
        written = {task: dict(file=file, sha256=self._write(file, labels[task]), by=by) for task, file in files.items()}
        record = dict(record, labels=record.get('labels', {}) | written)
        self._append(record)
        return record

    def _write(self, name: str, array: np.ndarray) -> str:
        """Write a PNG; its hash."""
        data = encoded(array)
        with self._explaining_full_disk():
            write_atomically(self.folder / name, data)
        return hashlib.sha256(data).hexdigest()

    def reject(self, record: dict, reason: str) -> dict:
        """Record that this sample was made and refused: it is neither stored, nor made again, nor trained on."""
        record = dict(record, image=None, rejected=reason)
        self._append(record)
        return record

    def whole(self, sample_ids: Iterable[str]) -> set[str]:
        """Those of the samples that are finished and have their files, the rejected included."""
        records = self.finished()
        return {name for name in sample_ids if name in records and self.is_whole(records[name])}

    def merge(self, expected: Collection[str] = ()) -> None:
        """Fold all shards into one manifest sorted by `sample_id`.

        Several processes may do it at once, others may append, and it may be killed: the new manifest is in place
        before the first shard goes, and readers look at the shards first. Where a record of the samples `expected` is
        not seen (a network file system may be late), or nothing is to be done, nothing is written.
        """
        shards = self._shard_sizes()
        records = self.finished()
        if any(name not in records for name in expected) or (not shards and self._is_merged(records)):
            return
        del records  # a large store is in memory once
        with alone(self._own(self._manifest)):
            self._replace(self.finished(), shards)

    def verify(self, records: Iterable[dict] | None = None) -> list[Damage]:
        """Compare every file with its hash, those of `records` or all; an empty list means that all is well."""
        problems: list[Damage] = []
        if records is None:
            found, problems = self._read()
            records = found.values()
        with ThreadPoolExecutor() as pool:  # reading and hashing happen outside the interpreter lock
            for damages in ahead(pool, self._damages, together(records, TOGETHER), most=4 * usable_cores()):
                problems += damages
        return problems

    def _damages(self, records: Iterable[dict]) -> list[Damage]:
        places = [(record['sample_id'], *file) for record in records for file in files_of(record)]
        damages = [(name, damage_of(self.folder / name, expected), sample_id) for sample_id, name, expected in places]
        return [Damage(name, damage, sample_id) for name, damage, sample_id in damages if damage]

    def check_whole(self, records: Collection[dict]) -> None:
        """Raises ValueError naming the first of these records' files that are damaged, and the cure."""
        problems = self.verify(records)
        if problems:
            shown = '; '.join(map(str, problems[:3])) + ('; …' if problems[3:] else '')
            damaged = len({problem.sample_id for problem in problems})
            raise ValueError(f'{self.folder}: {damaged} of {len(records)} samples are damaged: {shown}; {self._cure}')

    def unrecorded(self) -> list[str]:
        """Names of images that no record names: a run was killed between the two, or the manifest has lost lines."""
        folder = self.folder / IMAGES
        # The folder first: a run that is at work writes the record after the image.
        with reading(folder):
            files = [each for each in folder.iterdir() if each.suffix in IMAGE_SUFFIXES] if folder.is_dir() else []
        known = {record.get('image') for record in self._read()[0].values()}
        names = [f'{IMAGES}/{each.name}' for each in files if not each.name.startswith('.')]
        return sorted(name for name in names if name not in known)

    def remove(self, sample_ids: Iterable[str]) -> None:
        """Forget these samples and delete their files, so that the next run makes them again.

        Files outside of the store, which are the user's, stay, and so do those that a link in the store leads to.
        Broken lines of the manifest go as well. Not to be called while another process writes.

        Raises ValueError if a folder is in the place of a file; the sample is forgotten all the same.
        """
        shards, blocked = self._shard_sizes(), list[str]()
        with alone(self._own(self._manifest)):
            records, _ = self._read()
            known = {sample_id for sample_id in sample_ids if sample_id in records}
            gone = [records[sample_id] for sample_id in known]
            self._replace(records.without(known), shards)
        for record in gone:
            for name, _ in files_of(record):
                if (self.folder / name).is_dir():
                    blocked.append(name)
                else:
                    remove_inside(self.folder, name)
        if blocked:
            raise ValueError(f'{self.folder / blocked[0]} is a folder, expected a file; move it away')

    @property
    def _manifest(self) -> Path:
        return self.folder / MANIFEST

    @property
    def _cure(self) -> str:
        command = f'mmdiff2in1 synthesize CONFIG --out {self.folder} --verify'
        return f'run {command} to remove what is damaged; the next run makes it again'

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob('manifest.rank*.jsonl'))

    def _append(self, record: dict) -> None:
        check_record(record)
        file = self._manifest if self.rank is None else self.folder / f'manifest.rank{self.rank}.jsonl'
        with self._explaining_full_disk():
            append_line(self._own(file), json.dumps(record, sort_keys=True))

    def _shard_sizes(self) -> dict[Path, int]:
        return {shard: size for shard in self._shards() if (size := size_of(shard)) is not None}

    def _replace(self, records: RecordIndex, shards: dict[Path, int]) -> None:
        """Writes the manifest; of `shards`, sizes as they were before `records` were read, only unchanged ones go."""
        with self._explaining_full_disk():
            write_atomically(self._manifest, records.lines())
        for shard, size in shards.items():
            if size_of(shard) == size:
                with alone(shard):  # whoever is about to append has it open, and writes where it lies
                    if size_of(shard) == size:
                        shard.unlink()

    def _read(self) -> tuple[RecordIndex, list[Damage]]:
        """Records by sample_id in sorted order, and broken lines."""
        if self._manifest.is_dir() or self.folder.is_file():
            self._check_folders()
            self._own(self._manifest)
        # Shards are read first: see `merge`. What they say is newer.
        *shards, manifest = ((file.name, _text(file)) for file in [*self._shards(), self._manifest])
        return read_records([manifest, *shards], self._describes_disk)

    def _own(self, file: Path) -> Path:
        """A manifest or shard that may be written: not one that a link leads to, elsewhere."""
        if file.is_symlink() or file.is_dir():
            what = 'link' if file.is_symlink() else 'folder'
            raise ValueError(f'{file} is a {what}, expected a file of the store itself; put its content there')
        return file

    def _check_folders(self) -> None:
        for place in (self.folder, self.folder / IMAGES, self.folder / LABELS, *(self.folder / LABELS).glob('*')):
            # Version 0.1.0 has label files in the folder of the tasks' folders.
            if os.path.lexists(place) and not place.is_dir() and place.parent.name != LABELS:
                what = 'link that leads nowhere' if place.is_symlink() and not place.exists() else 'file'
                raise ValueError(f'{place} is a {what}, expected a folder; move it away')

    def _is_merged(self, records: RecordIndex) -> bool:
        return self._manifest.is_file() and records.stands_in(self._manifest.stat().st_size)

    def _describes_disk(self, record: dict) -> bool:
        return not any(damage_of(self.folder / name, expected) for name, expected in files_of(record))

    @contextmanager
    def _explaining_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            done = len(self._read()[0])
            raise OSError(
                error.errno,
                f'{os.strerror(error.errno)}: {done} samples are finished and safe in {self.folder}; '
                'free some space and run the same command again, it goes on from there',
            ) from error


def _text(file: Path) -> bytes:
    with reading(file):
        return complete_text(file)
