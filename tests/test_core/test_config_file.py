"""What is wrong with a config is told with the file, which may be a base of it, and the line."""

import inspect
import re
import sys

import pytest

from mmdiff2in1.core.config_file import read_config


@pytest.mark.parametrize(
    ('content', 'place', 'said'),
    [
        (b'a = 1\nb = (2\n', ':2', "'(' was never closed"),
        (b'a = 1\n b = 2\n', ':2', 'unexpected indent'),
        (b'a = 1\n\nb = 1 / 0\n', ':3', 'ZeroDivisionError: division by zero'),
        (b'a = 1\nb = no_such\n', ':2', "NameError: name 'no_such' is not defined"),
        (b'a = 1\n# gr\xfcn\n', ':2', 'found the byte 0xfc, which is no UTF'),
        ('a = 1\n'.encode('utf-16-le'), ':1', 'found a zero byte'),
        (b'', '', 'found no settings, expected those of a config'),
    ],
)
@pytest.mark.parametrize('of', ['itself', 'its base'])
def test_a_config_that_cannot_be_read(tmp_path, content, place, said, of):
    file = tmp_path / 'mine.py'
    if of == 'its base':
        file.write_text("_base_ = ['./base.py']\n" + ('c = 3\n' if content else ''))
        file = tmp_path / 'base.py'
    file.write_bytes(content)
    if of == 'its base' and not content:  # nothing is wrong with that
        file = tmp_path / 'mine.py'
    with pytest.raises(ValueError, match=f'^{re.escape(f"{file}{place}")}: .*{re.escape(said)}'):
        read_config(tmp_path / 'mine.py')


def test_bases_in_a_circle(tmp_path):
    (tmp_path / 'a.py').write_text("_base_ = ['./b.py']\n")
    (tmp_path / 'b.py').write_text("_base_ = ['./a.py']\n")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)  # mmengine copies a file at each turn: not a thousand of them
    try:
        with pytest.raises(ValueError, match=r'a\.py: its _base_ leads back to itself'):
            read_config(tmp_path / 'a.py')
    finally:
        sys.setrecursionlimit(limit)
