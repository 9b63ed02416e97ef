"""A store that others have written or linked: no path leaves it, every field is looked at, one run at a time."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from forks import Fork
from modes import read_only

from mmdiff2in1.core.lock import InUseError
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.records import flaw_of
from mmdiff2in1.synthesis.store import MANIFEST
from mmdiff2in1.synthesis.upkeep import remove_damaged

ROOT = Path(__file__).resolve().parents[2]
DIGEST = '0' * 64
IMAGE = np.zeros((6, 8, 3), np.uint8)


@pytest.fixture
def store(tmp_path):
    """Two samples, and a file of the user's beside the store."""
    store = SampleStore(tmp_path / 'store')
    for name in ('a', 'b'):
        store.add(dict(sample_id=name, source='0.png', caption=''), IMAGE, dict(depth=np.zeros((6, 8), np.uint16)))
    (tmp_path / 'precious.png').write_text('mine')
    return store


def rewrite(store: SampleStore, **changes: object) -> None:
    """Changes the first record; a dot leads into a dictionary, `...` takes a field out."""
    first, *others = (store.folder / MANIFEST).read_text().splitlines()
    record = json.loads(first)
    for name, value in changes.items():
        *path, last = name.split('.')
        place = record
        for step in path:
            place = place[step]
        place.pop(last, None)
        if value is not ...:
            place[last] = value
    (store.folder / MANIFEST).write_text('\n'.join([json.dumps(record), *others]) + '\n')


FLAWS = [
    ('image', '../precious.png', "found '../precious.png', expected a path below the store"),
    ('image', '/precious.png', "found '/precious.png', expected a path below"),
    ('image', 'images/../../precious.png', 'expected a path below'),
    ('image', None, 'found None, expected a path below'),
    ('image', ..., 'found nothing, expected a path below'),
    ('image', ['a'], r"found \['a'\], expected a path below"),
    ('image_sha256', 'abc', "found 'abc', expected 64 hexadecimal digits"),
    ('image_sha256', ..., 'found nothing, expected 64'),
    ('labels', [1], r'found \[1\], expected file and sha256 by task'),
    ('labels', dict(depth='x'), 'expected file and sha256 by task'),
    ('labels.depth.file', '../../precious.png', 'expected a path below'),
    ('labels.depth.sha256', 3, 'found 3, expected 64'),
    ('labels.depth.by', 3, 'found 3, expected text'),
    ('sample_id', '../a', "found '../a', expected a file name"),
    ('sample_id', 7, 'found 7, expected a file name'),
    ('source', 5, 'found 5, expected the path of an image, or null'),
    ('source', ..., 'found nothing, expected the path of an image'),
    ('caption', None, 'found None, expected text'),
    ('size', [64], r'found \[64\], expected \[height, width\]'),
    ('size', [0, 64], 'expected .height, width'),
    ('T', '600', "found '600', expected an integer of 0 or more"),
    ('seed', True, 'found True, expected an integer of 0 or more'),
    ('timesteps', 5, 'found 5, expected a list of integers'),
    ('scores', dict(contrast='high'), 'expected numbers by name'),
    ('source_labels', [], 'expected paths by name'),
    ('rejected', 5, 'found 5, expected the reason, or null'),
]


@pytest.mark.parametrize(('field', 'value', 'expected'), FLAWS)
def test_a_wrong_field_is_named_and_its_sample_removed(store, tmp_path, field, value, expected):
    rewrite(store, **{field: value})
    with pytest.raises(ValueError, match=rf'manifest\.jsonl line 1, field {field}: .*{expected}.*--verify') as caught:
        store.records()
    assert len(str(caught.value)) < 600
    (problem,) = remove_damaged(store)
    assert problem.file == MANIFEST and problem.found.startswith(f'line 1, field {field}: ')
    assert [each['sample_id'] for each in store.records()] == ['b'] and store.verify() == []
    assert (tmp_path / 'precious.png').read_text() == 'mine'


def test_an_absolute_path_of_the_users_own_image_stays_allowed(store, tmp_path):
    """Of unlabelled images alone; it is never deleted."""
    file = tmp_path / 'precious.png'
    record = dict(sample_id='u', kind='unlabelled', source=None, caption='', size=[6, 8], image=str(file))
    record |= dict(path=str(file), bytes=4, modified=0, image_sha256=DIGEST)
    store.add_file(record, file)
    assert store.finished()['u']['image'] == str(file)
    assert [problem.sample_id for problem in remove_damaged(store)] == ['u']  # another content than it had
    assert file.read_text() == 'mine' and 'u' not in store.finished()


def test_records_that_are_no_dictionaries(store):
    for line in ('[1]', '"text"', 'null', '{}', '[' * 100_000):
        with open(store.folder / MANIFEST, 'a') as stream:
            stream.write(line + '\n')
    assert [problem.found.split(':')[0] for problem in store.verify()] == [
        'line 3, found [1], expected a record',
        "line 4, found 'text', expected a record",
        'line 5, found None, expected a record',
        'line 6, field sample_id',
        'line 7 is no record',
    ]
    remove_damaged(store)
    assert [each['sample_id'] for each in store.records()] == ['a', 'b']


@pytest.mark.parametrize('name', ['../a', 'a/b', '', '..'])
def test_a_sample_cannot_be_named_out_of_its_store(store, name):
    before = sorted(store.folder.parent.rglob('*'))
    with pytest.raises(ValueError, match='field sample_id: found'):
        store.add(dict(sample_id=name, source=None), IMAGE)
    assert sorted(store.folder.parent.rglob('*')) == before
    assert flaw_of(dict(sample_id='.hidden-T1', source=None, rejected='dark')) is None


def test_nothing_is_deleted_behind_a_link(store, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    os.rename(store.folder / 'images', elsewhere)
    (store.folder / 'images').symlink_to(elsewhere)
    depth = store.folder / 'labels' / 'depth' / 'a.png'
    depth.unlink()
    depth.symlink_to(tmp_path / 'precious.png')
    assert [problem.sample_id for problem in remove_damaged(store)] == ['a']
    assert sorted(file.name for file in elsewhere.iterdir()) == ['a.png', 'b.png']
    assert (tmp_path / 'precious.png').read_text() == 'mine' and not depth.is_symlink()
    assert [each['sample_id'] for each in store.records()] == ['b']


@pytest.mark.parametrize('what', ['link', 'folder'])
def test_a_manifest_is_a_file_of_the_store(store, tmp_path, what):
    manifest = store.folder / MANIFEST
    (tmp_path / 'precious.png').write_text('no new line at its end')
    manifest.unlink()
    manifest.symlink_to(tmp_path / 'precious.png') if what == 'link' else manifest.mkdir()
    with pytest.raises(ValueError, match=rf'manifest\.jsonl is a {what}, expected a file'):
        store.add(dict(sample_id='c', source=None), IMAGE)
    assert (tmp_path / 'precious.png').read_text() == 'no new line at its end'


def test_a_folder_in_the_place_of_an_image_is_named(store):
    store.image(store.records()[0]).unlink()
    (store.folder / 'images' / 'a.png').mkdir()
    with pytest.raises(ValueError, match=r'images/a\.png is a folder, expected a file; move it away'):
        remove_damaged(store)
    (store.folder / 'images' / 'a.png').rmdir()
    assert remove_damaged(store) == [] and [each['sample_id'] for each in store.records()] == ['b']


def works(folder: Path, rank: int, say: Callable[[str], None]) -> None:
    """One process of a run of any size, at work until it finds its `end`."""
    try:
        with SampleStore(folder, rank).writing('creating samples'):
            say('inside')
            end = time.monotonic() + 300
            while not (folder / f'end{rank}').exists() and time.monotonic() < end:
                time.sleep(0.01)
    except InUseError as error:
        say(str(error))


def write(folder: Path, name: str) -> None:
    store = SampleStore(folder)
    for i in range(24):
        store.add(dict(sample_id=f'{name}{i:02d}', source='0.png', caption='x' * 5000), IMAGE)
        store.merge()


def test_two_writers_lose_nothing(tmp_path):
    """Both append to one manifest, and both write it anew; 48 of 48."""
    processes = [Fork(tmp_path / f'{name}.log', write, tmp_path / 'store', name) for name in 'ab']
    said = [process.wait(60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    store = SampleStore(tmp_path / 'store')
    assert [each['sample_id'] for each in store.records()] == [f'{name}{i:02d}' for name in 'ab' for i in range(24)]
    assert store.verify() == []


def test_a_second_run_is_refused_until_the_first_is_dead(store, tmp_path):
    part = store.folder / 'images' / '.a.png.0123abcd.part'
    part.write_text('half')
    process = Fork(tmp_path / 'log', works, store.folder, 0, print)
    try:
        process.until(lambda: process.said() == 'inside\n')
        assert not part.exists(), 'what a killed run has left goes'
        expected = rf'{store.folder} is in use by process {process.pid} on .* \(creating samples\)'
        with pytest.raises(InUseError, match=expected):
            remove_damaged(store)
        with pytest.raises(InUseError, match=expected), SampleStore(store.folder, rank=1).writing('another run'):
            pass
    finally:
        process.kill()
    assert remove_damaged(store) == []


class OfARun:
    """A process as torchrun starts it, which has imported already; what it `said`."""

    def __init__(self, store: SampleStore, rank: int, world_size: int, port: int):
        self.ours, theirs = multiprocessing.Pipe()
        place = dict(RANK=rank, WORLD_SIZE=world_size, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        self.process = multiprocessing.get_context('fork').Process(
            target=self._work, args=(store.folder, rank, theirs, {key: str(value) for key, value in place.items()})
        )
        self.process.start()
        self.pid = self.process.pid

    @staticmethod
    def _work(folder: Path, rank: int, theirs: Connection, place: dict[str, str]) -> None:
        os.environ.update(place)
        works(folder, rank, theirs.send)

    @property
    def said(self) -> str:
        assert self.ours.poll(120)
        return self.ours.recv()


def test_runs_of_different_sizes_do_not_share_a_store(store):
    """Not the second process of another run either, nor when the first process of the run at work is ready."""
    first, second = OfARun(store, 0, 2, 29500), OfARun(store, 1, 2, 29500)
    others = []

    def answer(*process: int) -> str:
        others.append(OfARun(store, *process))
        return others[-1].said

    try:
        assert first.said == second.said == 'inside', 'one of each rank works'
        both = rf'{store.folder} is in use by process ({first.pid}|{second.pid}) on .* \(creating samples\); wait'
        for process in ((0, 1, 29500), (0, 2, 29501), (1, 2, 29501), (2, 3, 29500)):
            said = answer(*process)
            assert re.match(both, said) and '\n' not in said
        assert f'is in use by process {second.pid} on' in answer(1, 2, 29500), 'that rank is taken'

        (store.folder / 'end0').touch()
        first.process.join()
        for process in ((0, 1, 29502), (1, 2, 29502)):
            assert f'is in use by process {second.pid} on' in answer(*process)
        assert answer(0, 2, 29500) == 'inside', 'the first may come again'
        second.process.kill()
        second.process.join()
        assert answer(0, 1, 29502) == 'inside', 'a lock ends with its run'
        for each in others:
            each.process.join()
        assert not (store.folder / '.lock').exists()
    finally:
        for each in (first, second, *others):
            each.process.kill()


@pytest.mark.slow
def test_processes_of_torchrun_share_a_store_that_a_lone_one_is_kept_out_of(store, tmp_path):
    script = tmp_path / 'two.py'
    script.write_text(
        'import os, sys\nfrom pathlib import Path\nfrom test_store_trust import works\n'
        "works(Path(sys.argv[1]), int(os.environ['RANK']), lambda said: print(said, os.getpid(), flush=True))\n"
    )
    command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    place = os.pathsep.join(map(str, (ROOT, ROOT / 'tests', Path(__file__).parent)))
    two = subprocess.Popen(
        [*command, str(script), str(store.folder)],
        env=os.environ | {'PYTHONPATH': place, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        inside = dict(reversed(two.stdout.readline().split()) for _ in range(2))
        assert set(inside.values()) == {'inside'} and len(inside) == 2
        lone = OfARun(store, 0, 1, 29500).said
        assert any(f'is in use by process {pid} on' in lone for pid in inside)
        for rank in range(2):
            (store.folder / f'end{rank}').touch()
        assert two.wait() == 0 and OfARun(store, 0, 1, 29500).said == 'inside'
    finally:
        two.kill()


def test_a_complete_store_on_a_medium_that_cannot_be_written(store):
    before = {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()}
    with read_only(store.folder):
        with pytest.raises(PermissionError):
            (store.folder / 'new').touch()
        with store.writing('creating samples'):
            assert store.whole(['a', 'b']) == {'a', 'b'}
            store.merge(['a', 'b'])
        assert remove_damaged(store) == []
        with pytest.raises(PermissionError):
            store.add(dict(sample_id='c', source=None), IMAGE)
    assert {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()} == before
