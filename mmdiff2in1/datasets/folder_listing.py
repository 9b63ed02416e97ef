"""Which files there are, wherever mmengine's file backends look."""

import os.path as osp

from mmengine import fileio


class FolderListing:
    """Which files there are: one listing of a folder is faster than a question per file.

    Args:
        backend_args: Of mmengine's file backend.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args
        self._inside: dict[str, frozenset[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, name = osp.split(path)
        if folder not in self._inside:
            there = fileio.isdir(folder, backend_args=self.backend_args)
            names = fileio.list_dir_or_file(folder, list_dir=False, backend_args=self.backend_args) if there else ()
            self._inside[folder] = frozenset(names)
        return name in self._inside[folder]
