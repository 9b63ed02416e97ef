"""The torture can fail: it sees a hang, a death, one changed byte, one changed weight and a file that was left."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from spoilt_inputs import EITHER, MEANT, REFUSED, SAME, WAYS, name_of
from torture.__main__ import main, parse_args, table
from torture.chain import difference, result
from torture.child import Ended, run
from torture.configs import unclear
from torture.inputs import verdict
from torture.kills import left_over, reached_stage
from torture.moments import Event, Events, Moment, moment_in
from torture.stores import unnamed
from torture.trial import Outcome


def fail():
    raise ValueError('synthetic/manifest.jsonl: line 3 is cut')


def sleep():
    print('begun', flush=True)
    time.sleep(60)


@pytest.mark.parametrize(
    ('work', 'limit', 'kill_after', 'expected'),
    [
        (lambda: None, 60, None, ('done', '', '')),
        (fail, 60, None, ('raised', 'ValueError', 'synthetic/manifest.jsonl: line 3 is cut')),
        (sleep, 0.3, None, ('hung', '', '')),
        (sleep, 60, 0.3, ('killed', '', '')),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 60, None, ('died', 'SIGTERM', '')),
        (lambda: os._exit(3), 60, None, ('raised', 'exit', '')),
    ],
)
def test_how_a_child_ended(tmp_path, work, limit, kill_after, expected):
    killed = None if kill_after is None else Moment('checks', 0, kill_after)
    ended = run(work, tmp_path / 'log', limit, Events(tmp_path, tmp_path / 'run'), killed)
    assert (ended.how, ended.error, ended.text) == expected
    assert ended.seconds < 30


def test_one_byte_one_weight_one_score(straight, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(straight[0], work_dir)
    expected = result(work_dir)
    assert len([name for name in expected if name.startswith('synthetic/images/')]) == 12
    assert difference(expected, result(work_dir)) == ''

    image = sorted((work_dir / 'synthetic' / 'images').glob('*.png'))[3]
    image.write_bytes(image.read_bytes() + b'\0')
    assert difference(expected, result(work_dir)).endswith(
        f'parts of the result differ, e.g. synthetic/images/{image.name}'
    )
    shutil.copy(straight[0] / 'synthetic' / 'images' / image.name, image)

    file = work_dir / 'self_improving' / 'iter_20.pth'
    checkpoint = torch.load(file, weights_only=False)
    name = next(name for name, value in checkpoint['state_dict'].items() if value.is_floating_point())
    checkpoint['state_dict'][name].view(-1)[0] += 1e-6
    torch.save(checkpoint, file)
    assert difference(expected, result(work_dir)) == (
        f'1 of {len(expected)} parts of the result differ, e.g. self_improving/model.{name}'
    )
    assert left_over(work_dir) == ''
    (work_dir / 'warmup' / '.iter_20.pth.1.part').touch()
    assert left_over(work_dir) == 'left over: warmup/.iter_20.pth.1.part'


def test_the_stage_that_a_killed_run_was_in(straight, tmp_path):
    assert reached_stage(straight[0]) == 'test' and reached_stage(tmp_path) == 'checks'


def writes(folder):
    for name in ('a', 'warmup/b', 'warmup/c', 'data/d', 'test/e'):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text('x')
        (folder / 'a').read_text()  # of the same stage
    Path(folder.parent, 'elsewhere').write_text('')


def test_a_kill_hits_the_event_that_was_drawn(tmp_path):
    folder = tmp_path / 'run'
    ended = run(lambda: writes(folder), tmp_path / 'log', 60, Events(folder, folder))
    assert ended.how == 'done'
    found = Counter(event.stage for event in ended.events)
    # The start; each folder asked for, each file written and read; `data` is of the stage that is at work.
    assert found == {'checks': 4, 'warmup': 9, 'test': 3}
    shutil.rmtree(folder)

    def stops():
        writes(folder)
        time.sleep(60)

    ended = run(stops, tmp_path / 'log', 60, Events(folder, folder), Moment('warmup', 8, 0.2))
    assert ended.how == 'killed' and 0.2 <= ended.seconds < 30
    ended = run(lambda: writes(folder), tmp_path / 'log', 60, Events(folder, folder), Moment('warmup', 99, 0.0))
    assert ended.how == 'done'


def test_moments_fall_within_their_stage():
    straight = [
        Event('checks', 0.0),
        Event('checks', 1.0),
        Event('warmup', 3.0),
        Event('warmup', 3.5),
        Event('test', 9),
    ]
    rng = random.Random(0)
    drawn = [moment_in('warmup', straight, 10.0, rng) for _ in range(200)]
    assert {moment.event for moment in drawn} == {0, 1}
    assert max(moment.wait for moment in drawn if moment.event == 0) <= 0.5
    assert 4.0 < max(moment.wait for moment in drawn if moment.event == 1) <= 5.5
    assert 60 < sum(moment.wait == 0.0 for moment in drawn) < 140
    assert {moment_in('warmup', straight, 10.0, rng, done=1).event for _ in range(50)} == {0}
    assert max(moment_in('test', straight, 10.0, rng).wait for _ in range(50)) <= 1.0


@pytest.mark.parametrize(
    ('ended', 'good'),
    [
        (Ended('raised', 1, 'ValueError', '{store}/manifest.jsonl: line 3 is cut; run --verify'), True),
        (Ended('raised', 1, 'ValueError', 'line 3 is cut'), False),
        (Ended('raised', 1, 'KeyError', "'{store}'"), False),
        (Ended('hung', 1), False),
    ],
)
def test_which_refusals_of_a_store_count(ended, good, tmp_path):
    ended = Ended(ended.how, 1, ended.error, ended.text.format(store=tmp_path))
    assert (unnamed(ended, tmp_path) == '') is good


@pytest.mark.parametrize(
    ('error', 'text', 'good'),
    [
        ('ValueError', 'the warm-up cannot run: optim_wrapper: lr=nan', True),
        ('KeyError', "'lr'", False),
        ('ValueError', 'nan', False),
    ],
)
def test_which_refusals_of_a_config_count(error, text, good):
    assert (unclear(Ended('raised', 1, error, text), ['lr', 'AdamW']) == '') is good


def test_the_table_counts_what_is_broken():
    outcomes = [Outcome('a', 'in warmup', kind='kills'), Outcome('b', 'in warmup', 'it differs', kind='kills')]
    assert table(outcomes).splitlines()[-1] == '| kills | 2 | 1 | in warmup 2 |'


@pytest.mark.parametrize('only', ['kills', 'kill:3', 'kills:x'])
def test_a_trial_that_is_none(only, capsys):
    with pytest.raises(SystemExit):
        parse_args(['--only', only, '--seed', '1'])
    assert f'--only {only}: expected KIND:NUMBER' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['--only', 'kills:1'])
    assert 'needs the --seed' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('promise', 'came', 'differs', 'expected'),
    [
        (REFUSED, 'refused early', '', ('refused early', '')),
        (REFUSED, 'unclear', '', ('unclear', 'broken')),
        (REFUSED, 'accepted', '', ('accepted', 'accepted, and should be refused')),
        (SAME, 'accepted', '', ('accepted, same result', '')),
        (SAME, 'accepted', '1 of 9', ('accepted, wrong result', '1 of 9')),
        (SAME, 'refused early', '', ('refused', 'refused, and should be accepted')),
        (EITHER, 'refused early', '', ('refused early', '')),
        (EITHER, 'accepted', '1 of 9', ('accepted, wrong result', '1 of 9')),
        (MEANT, 'accepted', '1 of 9', ('accepted, as it may be meant', '')),
        (MEANT, 'found late', '', ('found late', 'broken')),
    ],
)
def test_what_counts_of_a_spoilt_input(promise, came, differs, expected):
    broken = 'broken' if came in ('unclear', 'found late') else ''
    assert verdict(promise, came, broken, lambda: differs) == expected


GIVEN = {
    'captions': (
        'captions.jsonl',
        b'{"image": "a.png", "caption": "a room"}\n{"image": "b.png", "caption": "a bed"}\n',
    ),
    'list': ('train.txt', b'000000\n000001\n000002\n'),
    'class names': ('classes.txt', b'wall\nbed\n'),
    'config': ('mine.py', b'a = 1\nb = dict(\n    c=2)\n'),
    'json': ('config.json', b'{"_class_name": "X", "beta_start": 0.1, "steps": 1000, "kind": "linear"}'),
}


@pytest.mark.parametrize('kind', GIVEN)
def test_each_way_spoils_a_file_of_its_kind(kind, tmp_path):
    name, content = GIVEN[kind]
    for number, (way, promise) in enumerate(WAYS[kind].items()):
        file = tmp_path / str(number) / name
        file.parent.mkdir()
        file.write_bytes(content)
        assert promise in (REFUSED, SAME, EITHER, MEANT)
        for seed in range(20):  # one that shuffles may draw the same order
            way(file, random.Random(seed))
            if not file.is_file() or file.is_symlink() or file.read_bytes() != content:
                break
        else:
            pytest.fail(f'{name_of(way)} changes nothing')
