"""Lets the modes of files count for the superuser too, who may otherwise write where nothing may be written."""

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

VERSION_3 = 0x20080522
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


class _Header(ctypes.Structure):
    _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [('effective', ctypes.c_uint32), ('permitted', ctypes.c_uint32), ('inheritable', ctypes.c_uint32)]


@contextlib.contextmanager
def modes_count():
    """This thread, and those that it starts, lose the superuser's right to pass over modes; afterwards it is back."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = _Header(VERSION_3, 0), (_Data * 2)()
    assert libc.capget(ctypes.byref(header), before) == 0
    without = (_Data * 2)(*(_Data(each.effective, each.permitted, each.inheritable) for each in before))
    without[0].effective &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    if libc.capset(ctypes.byref(header), without) != 0:
        pytest.skip('the superuser cannot give up its right to pass over modes here')
    try:
        yield
    finally:
        assert libc.capset(ctypes.byref(header), before) == 0


@contextlib.contextmanager
def read_only(folder: Path):
    """A medium that cannot be written: files and folders without the right to, for the superuser as well."""
    places = [folder, *folder.rglob('*')]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        with modes_count():
            yield
    finally:
        for place in places:
            place.chmod(0o755 if place.is_dir() else 0o644)
