"""Lines that are accepted as they stand: all that we write, and nothing that a look at each field refuses."""

import json
import random
import re

import cv2
import numpy as np
import pytest

from mmdiff2in1.synthesis import SampleRecipe, SampleStore, record_reading
from mmdiff2in1.synthesis.records import as_line, flaw_of
from mmdiff2in1.synthesis.run import _record
from mmdiff2in1.synthesis.sound_lines import sound_line
from mmdiff2in1.synthesis.store import MANIFEST
from mmdiff2in1.synthesis.unlabelled import UnlabelledPool

IMAGE = np.zeros((6, 8, 3), np.uint8)
LABEL = np.zeros((6, 8), np.uint16)
REJECTED = 'c-T600-s0005'


def created(**changes) -> dict:
    fields = dict(source='images/a.b_1.jpg', caption='a chair', seed=3, T=600, grid='even', num_calls=3)
    fields |= dict(solver='dpm++', guidance_scale=7.5, size=(6, 8), weights_hash='ab' * 32)
    record = _record(SampleRecipe(**fields | changes), [589, 300, 1], {'images/a.b_1.jpg': dict(depth='depth/a.png')})
    return record | dict(scores=dict(contrast=31.25, source_distance=0.001), restore_size=True)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    """A sample of each kind that has a line of its own."""
    folder = tmp_path_factory.mktemp('sound')
    store = SampleStore(folder / 'store')
    store.add(created(), IMAGE)
    store.add(created(source=None, T=1000), IMAGE)
    store.add(created(caption='Küche "5" \\ 🙂\n\x7f', source='ü/b.png', guidance_scale=1, seed=12345), IMAGE)
    store.label(store.add(created(seed=4), IMAGE, dict(parts=LABEL)), dict(depth=LABEL), by='a "teacher"')
    store.reject(created(seed=5, source='c.png'), 'contrast 1 is below 2')
    for number, name in enumerate(('IMG_1.png', 'ä b.JPG')):
        (folder / 'photos').mkdir(exist_ok=True)
        (folder / 'photos' / name).write_bytes(cv2.imencode('.png', np.full((6, 8, 3), number, np.uint8))[1].tobytes())
    for copied, name in ((False, 'IMG_1.png'), (True, 'ä b.JPG')):
        UnlabelledPool.of(str(folder / 'photos' / name), copied).add(store)
    store.merge()
    return store


def test_all_that_is_written_is_accepted_unparsed(store, monkeypatch):
    manifest = (store.folder / MANIFEST).read_bytes()
    records = [json.loads(line) for line in manifest.splitlines()]
    start, found = 0, []
    while start < len(manifest):
        sample_id, start, is_rejected = sound_line(manifest, start)
        found.append((sample_id, is_rejected))
    assert len(found) == 7 and found == [(each['sample_id'], bool(each.get('rejected'))) for each in records]
    assert [name.rpartition('-')[0] for name, is_rejected in found if is_rejected] == [REJECTED]

    def refuse(record):
        raise AssertionError(f'{record} was looked at')

    monkeypatch.setattr(record_reading, 'flaw_of', refuse)
    assert store.records(rejected=True) == records
    assert store.records() == [each for each in records if not each.get('rejected')]


def test_nothing_is_accepted_that_has_a_flaw(store):
    """Characters taken out, doubled, exchanged and put in at random: what is accepted then is without a flaw."""
    rng, accepted, refused = random.Random(0), 0, 0
    lines = (store.folder / MANIFEST).read_bytes().splitlines(keepends=True)
    pieces = [*(b'0', b'1', b'-', b'.', b'/', b'../', b'\\', b'\\u0041', b'\\u0000', b'"', b' ', b'{', b']', b'null')]
    pieces += [b'', b'\xff']
    for _ in range(6000):
        line = rng.choice(lines)
        for _ in range(rng.randint(1, 2)):
            at, size = rng.randrange(len(line) - 1), rng.choice((0, 0, 1, 1, 2))
            line = line[:at] + rng.choice([*pieces, line[at : at + 1]]) + line[at + size :]
        sound = sound_line(line, 0)
        if sound is None or sound[1] != len(line):
            refused += 1
            continue
        record = json.loads(line)
        assert flaw_of(record) is None, line
        assert sound[::2] == (record['sample_id'], bool(record.get('rejected')))
        accepted += 1
    assert accepted > 100 and refused > 1000


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (b'"images/a.b_1-T', b'"../a.b_1-T'),
        (b'"images/a.b_1-T', b'"/images/a.b_1-T'),
        (b'"images/a.b_1-T', b'"images/../a.b_1-T'),
        (b'.png", "image_sha256"', b'x.png", "image_sha256"'),
        (b'"T": 600', b'"T": 601'),
        (b'"num_calls": 3', b'"num_calls": 601'),
        (b'a chair', b'\\u0061 chair'),
        (b'7.5,', b'7.50,'),
        (b'[589, ', b'[0589, '),
        (b'[589, ', b'[589,, '),
        (b'31.25', b'031.25'),
        (b'"depth": "depth/a.png"', b'"depth": 5'),
        (b'"restore_size": true', b'"restore_size": 1'),
        (b'[6, 8]', b'[0, 8]'),
    ],
)
def test_what_is_not_as_we_write_it_is_looked_at(old, new):
    line = as_line(created() | dict(image=f'images/{created()["sample_id"]}.png', image_sha256='0' * 64))
    assert sound_line(line, 0) is not None and line.count(old) == 1
    assert sound_line(line.replace(old, new), 0) is None


def test_other_names_of_the_same_recipe_are_refused():
    """The hash of a name is that of the recipe: of another caption, and as it is written in another way."""
    for change in (dict(caption='a table'), dict(guidance_scale=0.00001), dict(seed=7), dict(source='images/b.jpg')):
        record = created() | change
        record |= dict(image=f'images/{record["sample_id"]}.png', image_sha256='0' * 64)
        assert sound_line(as_line(record), 0) is None


def test_lines_that_are_not_written_by_us_are_read_all_the_same(store, tmp_path):
    """Keys in another order, a record of another programme, one that is broken, and one of which there are two."""
    lines = (store.folder / MANIFEST).read_text().splitlines()
    other = SampleStore(tmp_path / 'other')
    other.folder.mkdir()
    turned = json.dumps(dict(reversed(json.loads(lines[0]).items())))
    foreign = json.dumps(dict(sample_id='zz', source=None, rejected='dark'))
    file = other.folder / MANIFEST
    file.write_text('\n'.join([foreign, lines[2], turned, lines[1], lines[1]]) + '\n')
    names = sorted(re.findall(r'"sample_id": "([^"]*)"', '\n'.join([*lines[:3], foreign])))
    assert [*other.finished()] == names and other.finished().rejected >= {'zz'}
    assert other.finished()[names[0]] == json.loads(lines[0])
    other.merge()
    assert file.read_bytes() == b''.join(as_line(record) for record in other.records(rejected=True))
    before = file.stat().st_ino
    other.merge()
    assert file.stat().st_ino == before, 'what is merged is not written again'
    file.write_text(file.read_text() + '{"sample_id": "../x", "source": null}\n')
    with pytest.raises(ValueError, match=r'manifest\.jsonl line 5, field sample_id: found'):
        other.records()


def test_records_are_a_sequence_and_each_is_the_callers_own(store):
    records = store.records()
    records[0]['caption'] = 'mine'
    assert records[0]['caption'] != 'mine'
    assert records[1:3] == [records[1], records[2]] and records[-1] == list(records)[-1] and len(records[::2]) == 3
    assert records != list(records)[:-1] and records != 'text'
    index = store.finished()
    name = records[0]['sample_id']
    left = index.without({name})
    assert name in index and name not in left and len(left) == len(index) - 1
    assert b''.join(left.lines()) == b''.join(line for line in index.lines() if name.encode() not in line)
