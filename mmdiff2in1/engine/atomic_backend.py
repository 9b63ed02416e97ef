"""A storage backend of mmengine whose files are either whole or absent, whenever the process is killed."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmdiff2in1.core.atomic_files import write_atomically


class AtomicBackend(LocalBackend):
    """Writes to a hidden neighbour `.<name>.….part`, flushes it to the disk and renames it over the target.

    Chosen by `backend_args=dict(backend='atomic')`. A process killed while writing leaves the old file and the
    neighbour, which `remove_parts` deletes.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Raises OSError (disk full) with the old file untouched and nothing left behind."""
        try:
            write_atomically(Path(filepath), obj)
        except OSError as error:
            error.add_note(f'while writing {filepath}; what was there before is untouched. Free some space and resume')
            raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """As `put`, for text."""
        self.put(obj.encode(encoding), filepath)


register_backend('atomic', AtomicBackend, force=True)
