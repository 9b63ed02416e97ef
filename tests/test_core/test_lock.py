"""Locks of folders and files: between processes, after a kill, on what cannot be written."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from modes import modes_count

from mmdiff2in1.core.atomic_files import append_line, complete_lines, remove_parts, replacing, write_atomically
from mmdiff2in1.core.inside import is_inside, remove_inside
from mmdiff2in1.core.lock import InUseError, locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys, time
from mmdiff2in1.core.lock import locked
with locked(sys.argv[1], 'a test'):
    if len(sys.argv) > 2 and os.fork() == 0:  # such as a reader of a data loader
        time.sleep(60)
        os._exit(0)
    print('ready', flush=True)
    time.sleep(60)
"""


def run(code: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize('forks', [(), ('forks',)])
def test_a_folder_is_held_until_its_process_dies(forks, tmp_path):
    process = run(HOLD, tmp_path, *forks)
    try:
        assert process.stdout.readline() == 'ready\n'
        with pytest.raises(InUseError, match=rf'is in use by process {process.pid} on \S+ since 20.*\(a test\)'):
            with locked(tmp_path, 'another'):
                pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path, 'another') as held:
            assert held
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_may_ask_again_and_keeps_it_to_the_end(tmp_path):
    ask = f'from mmdiff2in1.core.lock import locked\nwith locked({str(tmp_path)!r}, "x"): print("got it")'
    with locked(tmp_path, 'outer'):
        with locked(tmp_path, 'inner'):
            pass
        assert run(ask).communicate()[0] == ''
    assert not list(tmp_path.iterdir()), 'nothing is left'
    assert run(ask).communicate()[0] == 'got it\n'


TURNS = """
import sys, time
from pathlib import Path
from mmdiff2in1.core.lock import InUseError, locked
file, done = Path(sys.argv[1], 'count'), 0
while done < 40:
    try:
        with locked(Path(sys.argv[1], 'folder'), 'counting'):
            count = int(file.read_text())
            time.sleep(0.001)
            file.write_text(str(count + 1))
            done += 1
    except InUseError:
        time.sleep(0.001)
"""


def test_a_lock_that_goes_is_not_taken_twice(tmp_path):
    """Its file is removed while others are about to open it."""
    (tmp_path / 'count').write_text('0')
    processes = [run(TURNS, tmp_path) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / 'count').read_text() == '120'


def test_what_cannot_be_written_is_not_locked(tmp_path):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there').chmod(0o555)
    with modes_count():
        with pytest.raises(PermissionError):
            (tmp_path / 'there' / 'file').touch()
        with locked(tmp_path / 'there', 'reading') as held:
            assert not held
    assert not list((tmp_path / 'there').iterdir())


def test_a_lock_is_no_link_to_elsewhere(tmp_path):
    (tmp_path / 'outside').write_text('mine')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / '.lock').symlink_to(tmp_path / 'outside')
    with pytest.raises(OSError), locked(tmp_path / 'folder', 'x'):
        pass
    assert (tmp_path / 'outside').read_text() == 'mine'


APPEND = """
import sys
from pathlib import Path
from mmdiff2in1.core.atomic_files import append_line
for i in range(60):
    append_line(Path(sys.argv[1]), f'{sys.argv[2]} {i} ' + 'x' * 3000)
"""


def test_lines_of_two_processes_are_all_there(tmp_path):
    file = tmp_path / 'lines'
    processes = [run(APPEND, file, name) for name in 'ab']
    assert [process.wait() for process in processes] == [0, 0]
    found = sorted(tuple(line.split()[:2]) for line in complete_lines(file))
    assert found == sorted((name, str(i)) for name in 'ab' for i in range(60))
    file.write_bytes(file.read_bytes() + b'cut')
    append_line(file, 'last')
    assert complete_lines(file)[-1] == 'last' and len(complete_lines(file)) == 121


WRITE = """
import sys, time
from pathlib import Path
from mmdiff2in1.core.atomic_files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text('theirs')
    print('ready', flush=True)
    time.sleep(60)
"""


def test_two_who_write_one_file_do_not_meet(tmp_path):
    """Neither loses what it writes, and what a living process writes is no leftover."""
    process = run(WRITE, tmp_path / 'file')
    try:
        assert process.stdout.readline() == 'ready\n'
        write_atomically(tmp_path / 'file', b'mine')
        assert (tmp_path / 'file').read_text() == 'mine'
        assert remove_parts(tmp_path) == [] and len(list(tmp_path.glob('.*.part'))) == 1
    finally:
        process.kill()
        process.wait()
    assert len(remove_parts(tmp_path)) == 1 and [file.name for file in tmp_path.iterdir()] == ['file']


def test_modes_are_those_of_any_new_file(tmp_path):
    write_atomically(tmp_path / 'file', b'')
    (tmp_path / 'other').touch()
    assert (tmp_path / 'file').stat().st_mode == (tmp_path / 'other').stat().st_mode
    with pytest.raises(RuntimeError), replacing(tmp_path / 'file') as part:
        part.write_bytes(b'half')
        raise RuntimeError
    assert (tmp_path / 'file').read_bytes() == b'' and not list(tmp_path.glob('.*'))


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('a.png', True),
        ('images/a.png', True),
        ('images/..a.png', True),
        ('../a', False),
        ('images/../../a', False),
        ('/a', False),
        ('..', False),
        ('.', False),
        ('', False),
        ('images/', False),
        ('a\0b', False),
        ('..\\a', False),
        (None, False),
        (3, False),
    ],
)
def test_names_inside(name, expected):
    assert is_inside(name) == expected


def test_only_what_is_inside_goes(tmp_path):
    outside, folder = tmp_path / 'outside', tmp_path / 'folder'
    for place in (outside, folder):
        place.mkdir()
        (place / 'a').write_text('mine')
    (folder / 'linked').symlink_to(outside)
    (folder / 'b').symlink_to(outside / 'a')
    for name in ('../outside/a', str(outside / 'a'), 'linked/a'):
        assert not remove_inside(folder, name)
    assert remove_inside(folder, 'b') and remove_inside(folder, 'a') and remove_inside(folder, 'never there')
    assert (outside / 'a').read_text() == 'mine' and [file.name for file in folder.iterdir()] == ['linked']


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Work goes on, and nobody's half-written file is taken for a leftover."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with locked(tmp_path, 'x') as held:
        assert held
    append_line(tmp_path / 'lines', 'one')
    write_atomically(tmp_path / 'file', b'two')
    (tmp_path / '.file.0123abcd.part').touch()
    assert remove_parts(tmp_path) == []
    assert (tmp_path / 'lines').read_text() == 'one\n' and (tmp_path / 'file').read_bytes() == b'two'
