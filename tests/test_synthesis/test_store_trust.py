"""A store that others have written or linked: no path leaves it, every field is looked at, one run at a time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


WRITE = """
import sys
import numpy as np
from mmdiff2in1.synthesis import SampleStore
store = SampleStore(sys.argv[1])
image = np.zeros((6, 8, 3), np.uint8)
for i in range(24):
    store.add(dict(sample_id=f'{sys.argv[2]}{i:02d}', source='0.png', caption='x' * 5000), image)
    store.merge()
"""
HOLD = """
import sys, time
from mmdiff2in1.synthesis import SampleStore
with SampleStore(sys.argv[1]).writing('creating samples'):
    print('ready', flush=True)
    time.sleep(60)
"""


def run(code: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-W', 'ignore', '-c', code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_writers_lose_nothing(tmp_path):
    """Both append to one manifest, and both write it anew; 48 of 48."""
    processes = [run(WRITE, tmp_path / 'store', name) for name in 'ab']
    assert [process.wait() for process in processes] == [0, 0]
    store = SampleStore(tmp_path / 'store')
    assert [each['sample_id'] for each in store.records()] == [f'{name}{i:02d}' for name in 'ab' for i in range(24)]
    assert store.verify() == []


def test_a_second_run_is_refused_until_the_first_is_dead(store):
    part = store.folder / 'images' / '.a.png.0123abcd.part'
    part.write_text('half')
    process = run(HOLD, store.folder)
    try:
        assert process.stdout.readline() == 'ready\n'
        assert not part.exists(), 'what a killed run has left goes'
        expected = rf'{store.folder} is in use by process {process.pid} on .* \(creating samples\)'
        with pytest.raises(InUseError, match=expected):
            remove_damaged(store)
        with SampleStore(store.folder, rank=1).writing('another process of that run'):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert remove_damaged(store) == []


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
