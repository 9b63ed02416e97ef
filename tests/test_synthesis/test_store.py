"""The store: round trips, what a crash leaves behind, shards, damage, a full disk."""

import errno
import hashlib
import json
import os
import threading

import cv2
import numpy as np
import pytest

from mmdiff2in1.core import atomic_files
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.store import MANIFEST


def image(seed=0, height=6, width=8):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label(height=6, width=8):
    return np.full((height, width), 255, np.uint8)


def labels():
    return dict(semantic_segmentation=label())


def record(name):
    return dict(sample_id=name, source='images/0.png', caption='ü', scores=dict(contrast=1.25))


@pytest.fixture
def store(tmp_path):
    return SampleStore(tmp_path / 'store')


@pytest.fixture
def filled(store):
    for index in range(4):
        store.add(record(f's{index}'), image(index), labels())
    return store


def ids(records):
    return [each['sample_id'] for each in records]


def test_round_trip(store):
    written = store.add(record('b'), image(1), labels())
    store.add(record('a'), image(2), labels())
    assert ids(store.records()) == ['a', 'b']
    assert store.records()[1] == written
    assert written | record('b') == written
    assert written['image'] == 'images/b.png'
    file = store.folder / 'labels/semantic_segmentation/b.png'
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert written['labels'] == dict(
        semantic_segmentation=dict(file='labels/semantic_segmentation/b.png', sha256=digest)
    )
    assert np.array_equal(cv2.imread(str(store.image(written)))[..., ::-1], image(1))
    assert store.labels(written) == dict(semantic_segmentation=file)
    assert np.array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), label())
    assert store.verify() == []
    assert sorted(file.name for file in store.folder.rglob('*') if file.is_file()) == [
        'a.png', 'a.png', 'b.png', 'b.png', MANIFEST,
    ]  # fmt: skip


@pytest.mark.parametrize('shape', [(6, 8), (6, 8, 3)])
def test_sixteen_bit_labels_survive(store, shape):
    depth = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    written = store.add(record('a'), image(), dict(depth=depth))
    loaded = cv2.imread(str(store.labels(written)['depth']), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(loaded[..., ::-1] if len(shape) == 3 else loaded, depth)


def test_a_sample_has_as_many_labels_as_it_is_given(store):
    """None, which is the rule, or several; each in the folder of its task."""
    none = store.add(record('a'), image())
    assert 'labels' not in none and store.labels(none) == {}
    depth, normal = np.full((6, 8), 2500, np.uint16), np.full((6, 8, 3), 40000, np.uint16)
    both = store.add(record('b'), image(), dict(depth=depth, normal=normal))
    assert store.labels(both) == {task: store.folder / f'labels/{task}/b.png' for task in ('depth', 'normal')}
    assert {file.relative_to(store.folder).as_posix() for file in store.folder.rglob('*.png')} == {
        'images/a.png', 'images/b.png', 'labels/depth/b.png', 'labels/normal/b.png',
    }  # fmt: skip
    assert store.verify() == []
    store.labels(both)['normal'].unlink()
    assert [(problem.file, problem.sample_id) for problem in store.verify()] == [('labels/normal/b.png', 'b')]
    store.remove(['b'])
    assert [file.name for file in store.folder.rglob('*.png')] == ['a.png']


def test_a_store_of_version_0_1_0_is_read(store):
    """Its records name an empty label map, which is neither looked at nor missed; new samples stand beside the old."""
    fresh = store.add(record('a'), image(1))
    old = fresh | dict(label='labels/a.png', label_sha256='0' * 64, label_kind='ignore', ignore_label=255)
    (store.folder / MANIFEST).write_text(json.dumps(old) + '\n')
    (store.folder / 'labels').mkdir()
    cv2.imwrite(str(store.folder / 'labels/a.png'), label())
    for _ in range(2):
        assert store.records() == [old] and store.is_whole(old) and store.labels(old) == {} and store.verify() == []
        (store.folder / 'labels/a.png').unlink(missing_ok=True)
    store.add(record('b'), image(2), labels())
    assert ids(store.records()) == ['a', 'b'] and store.verify() == []
    store.image(old).write_bytes(b'damaged')
    assert [(problem.file, problem.sample_id) for problem in store.verify()] == [('images/a.png', 'a')]


@pytest.mark.parametrize(
    ('picture', 'map_', 'message'),
    [
        (image().astype(float), label(), r'image is float64 \(6, 8, 3\), expected uint8'),
        (image()[..., 0], label(), r'image is uint8 \(6, 8\)'),
        (image(), label().astype(np.int64), 'label of depth is int64'),
        (image(), label(6, 9), r'label of depth is \(6, 9\), expected the size of its image \(6, 8\)'),
    ],
)
def test_other_arrays_are_refused_and_nothing_is_written(store, picture, map_, message):
    with pytest.raises(ValueError, match=message):
        store.add(record('a'), picture, dict(depth=map_))
    assert not store.exists


def test_no_store_is_an_error_for_readers_only(store):
    with pytest.raises(FileNotFoundError, match=r'holds no manifest\.jsonl.*mmdiff2in1 synthesize'):
        store.records()
    assert store.finished() == {}
    assert store.verify() == []
    assert not store.folder.exists()


@pytest.mark.parametrize('kept', [1, 20, -1])
def test_truncated_last_line_is_dropped_and_written_again(filled, kept):
    manifest = filled.folder / MANIFEST
    whole = manifest.read_bytes()
    lines = whole.splitlines(keepends=True)
    manifest.write_bytes(b''.join(lines[:-1]) + lines[-1][:kept])
    assert ids(filled.records()) == ['s0', 's1', 's2']
    assert filled.verify() == []
    filled.add(record('s3'), image(3), labels())
    assert manifest.read_bytes() == whole


def test_truncation_inside_a_long_first_line(store):
    store.folder.mkdir()
    (store.folder / MANIFEST).write_text('{"caption": "' + 'x' * 10000)
    assert store.finished() == {}
    store.add(record('a'), image(), labels())
    assert ids(store.records()) == ['a']


def test_broken_line_in_the_middle_is_named_and_removed(filled):
    manifest = filled.folder / MANIFEST
    lines = manifest.read_text().splitlines()
    manifest.write_text('\n'.join([lines[0], lines[1][:30], *lines[2:]]) + '\n')
    with pytest.raises(ValueError, match=r'manifest\.jsonl line 2 is no record.*--verify'):
        filled.records()
    assert [str(problem)[:36] for problem in filled.verify()] == ['manifest.jsonl: line 2 is no record:']
    filled.remove([])
    assert ids(filled.records()) == ['s0', 's2', 's3']


def test_shards_are_read_and_merged(store):
    for rank, names in ((0, 'ca'), (1, 'bd')):
        for name in names:
            SampleStore(store.folder, rank).add(record(name), image(ord(name)), labels())
    store.add(record('e'), image(), labels())
    before = store.records()
    assert ids(before) == list('abcde')
    store.merge()
    assert store.records() == before
    assert [file.name for file in store.folder.glob('manifest*')] == [MANIFEST]
    assert [json.loads(line)['sample_id'] for line in (store.folder / MANIFEST).read_text().splitlines()] == list(
        'abcde'
    )


def test_merge_that_was_killed_before_the_shards_went(store):
    shard = SampleStore(store.folder, 0)
    shard.add(record('a'), image(), labels())
    before = store.records()
    (store.folder / MANIFEST).write_bytes((store.folder / 'manifest.rank0.jsonl').read_bytes())
    assert store.records() == before
    store.merge()
    assert store.records() == before


def test_what_is_appended_during_a_merge_stays(store, monkeypatch):
    """Another process finishes a sample between reading and deleting: its shard is read again next time."""
    shard = SampleStore(store.folder, 0)
    shard.add(record('a'), image(), labels())
    read = SampleStore._read

    def read_then_append(self):
        found = read(self)
        monkeypatch.setattr(SampleStore, '_read', read)
        shard.add(record('b'), image(), labels())
        return found

    monkeypatch.setattr(SampleStore, '_read', read_then_append)
    store.merge()
    assert ids(store.records()) == ['a', 'b']
    store.merge(['a', 'b', 'late'])  # a record that this process does not see yet: nothing is written
    assert (store.folder / 'manifest.rank0.jsonl').is_file()
    store.merge(['a', 'b'])
    assert [file.name for file in store.folder.glob('manifest*')] == [MANIFEST] and ids(store.records()) == ['a', 'b']


def test_a_merge_does_not_take_a_shard_from_under_an_append(store, monkeypatch):
    """Another process has opened its shard and not written yet: the record would go into a file that is gone."""
    shard, merge = SampleStore(store.folder, 0), threading.Thread(target=store.merge)
    shard.add(record('a'), image(), labels())
    end_of = atomic_files._end_of_complete_lines

    def merged_meanwhile(stream):
        monkeypatch.setattr(atomic_files, '_end_of_complete_lines', end_of)
        merge.start()
        merge.join(0.3)
        return end_of(stream)

    monkeypatch.setattr(atomic_files, '_end_of_complete_lines', merged_meanwhile)
    shard.add(record('b'), image(), labels())
    merge.join()
    assert ids(store.records()) == ['a', 'b']


def test_two_processes_merge_at_once(store, monkeypatch):
    """The other one has removed a shard between its being listed and being looked at."""
    SampleStore(store.folder, 0).add(record('a'), image(), labels())
    listed = SampleStore._shards

    def listed_then_merged(self):
        found = listed(self)
        monkeypatch.setattr(SampleStore, '_shards', listed)
        SampleStore(store.folder).merge()
        return found

    monkeypatch.setattr(SampleStore, '_shards', listed_then_merged)
    store.merge()
    assert ids(store.records()) == ['a'] and [file.name for file in store.folder.glob('manifest*')] == [MANIFEST]


def test_whole_is_finished_with_its_files(filled):
    filled.reject(record('r'), 'contrast 1.25 is below 5')
    assert filled.whole(['s0', 's1', 'r', 'unknown']) == {'s0', 's1', 'r'}
    filled.image(filled.finished()['s1']).unlink()
    assert filled.whole(['s0', 's1', 'r', 'unknown']) == {'s0', 'r'}
    chosen = [filled.finished()[name] for name in ('s0', 's1')]
    assert [problem.sample_id for problem in filled.verify(chosen)] == ['s1']


@pytest.mark.parametrize('newer_in_shard', [True, False])
def test_of_two_records_the_one_that_fits_the_file_counts(store, newer_in_shard):
    older, newer = (
        SampleStore(store.folder, None if newer_in_shard else 0),
        SampleStore(store.folder, 0 if newer_in_shard else None),
    )
    older.add(record('a'), image(1), labels())
    written = newer.add(record('a'), image(2), labels())
    assert store.records() == [written]


def test_rejected_samples_are_finished_but_not_given_out(filled):
    filled.reject(record('r'), 'contrast 1.25 is below 5')
    assert 'r' not in ids(filled.records())
    assert filled.records(rejected=True)[0]['rejected'] == 'contrast 1.25 is below 5'
    assert 'r' in filled.finished()
    assert filled.verify() == []
    filled.remove(['r'])
    assert 'r' not in filled.finished()


def test_damage_is_named_by_file(filled):
    missing, changed, empty, _ = filled.records()
    filled.labels(missing)['semantic_segmentation'].unlink()
    data = bytearray(filled.image(changed).read_bytes())
    data[-20] ^= 1
    filled.image(changed).write_bytes(data)
    filled.image(empty).write_bytes(b'')
    found = {problem.file: (problem.sample_id, problem.found.split(':')[0]) for problem in filled.verify()}
    assert found == {
        'labels/semantic_segmentation/s0.png': ('s0', 'is missing'),
        'images/s1.png': ('s1', 'is damaged'),
        'images/s2.png': ('s2', 'is damaged'),
    }
    assert [filled.is_whole(each) for each in filled.records()] == [False, True, False, True]
    filled.remove({problem.sample_id for problem in filled.verify()})
    assert ids(filled.records()) == ['s3']
    assert [file.name for file in (filled.folder / 'images').iterdir()] == ['s3.png']
    assert filled.verify() == []


@pytest.mark.parametrize('step', ['image', 'label', 'manifest'])
def test_full_disk_says_what_is_safe_and_loses_nothing(filled, monkeypatch, step):
    countdown = dict(image=1, label=3, manifest=5)[step]  # a file and its folder are synced
    real_fsync = os.fsync

    def fsync(descriptor):
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real_fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fsync)
        with pytest.raises(
            OSError, match=r'No space left.*4 samples are finished.*run the same command again'
        ) as caught:
            filled.add(record('s4'), image(4), labels())
    assert caught.value.errno == errno.ENOSPC
    assert ids(filled.records())[:4] == ['s0', 's1', 's2', 's3']
    assert not list(filled.folder.rglob('*.part'))
    filled.add(record('s4'), image(4), labels())
    assert ids(filled.records()) == ['s0', 's1', 's2', 's3', 's4']
    assert filled.verify() == []


def test_other_errors_pass_unchanged(filled, monkeypatch):
    def fsync(_):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError, match='Input/output error') as caught:
        filled.add(record('s4'), image(4), labels())
    assert caught.value.errno == errno.EIO
