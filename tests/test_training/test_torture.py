"""The torture can fail: it sees a hang, a death, one changed byte, one changed weight and a file that was left."""

import os
import shutil
import signal
import time

import pytest
import torch
from torture.__main__ import main, parse_args, table
from torture.chain import difference, result
from torture.child import Ended, run
from torture.configs import unclear
from torture.kills import left_over, reached_stage, span
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
    ended = run(work, tmp_path / 'log', limit, kill_after)
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


def test_where_a_kill_hits(straight, tmp_path):
    assert reached_stage(straight[0]) == 'the end' and reached_stage(tmp_path) == 'checks'
    ends = dict(checks=4.0, warmup=6.0, synthetic=7.0, self_improving=10.0, test=10.5)
    assert span(ends, 'checks') == (0, 4) and span(ends, 'self_improving') == pytest.approx((3.2, 7.0))


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
