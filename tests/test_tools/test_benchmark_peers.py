"""Others' code beside ours: by turns, agreement before times, what is no clone, stand-ins of both, the page."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import peer_stand_ins
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / 'tools'))  # at the end: tools/test.py is not the standard library's

from benchmarks import page as whole_page  # noqa: E402
from benchmarks.peers import clones, command, measuring, page, pairs, released, vpd  # noqa: E402
from benchmarks.peers.clones import Clone  # noqa: E402
from benchmarks.peers.pairs import Pair, Side, by_turns, compared, disagreement, peak_bytes  # noqa: E402
from benchmarks.peers.rows import ROWS, Setup, settled, setup_of  # noqa: E402

SMALL = Setup('vpd-features', 'cpu', 'small', 64, 'fp32', 2, 0)


@pytest.fixture
def their_vpd(tmp_path):
    return peer_stand_ins.write(tmp_path / 'VPD', peer_stand_ins.VPD)


@pytest.fixture
def their_release(tmp_path):
    return peer_stand_ins.write(tmp_path / 'released', peer_stand_ins.RELEASED)


def sides(theirs, ours, calls=None):
    """A pair whose steps are noted in `calls`."""
    calls = [] if calls is None else calls

    def side(name, value):
        return Side(lambda: calls.append(name), lambda: dict(value=torch.tensor(value)), list)

    return Pair(side('theirs', theirs), side('ours', ours))


# Times


def test_by_turns_and_the_ratio_of_each_pair():
    calls = []
    # Read before and after each step; those of the first two do not count.
    times = [0, 9, 9, 18, *(0, 6), *(10, 12), *(20, 28), *(30, 34), *(40, 49), *(50, 53)]
    clock, processor = iter(times), iter(range(100))
    found = by_turns(sides([1.0], [1.0], calls), 3, 'cpu', lambda: next(clock), lambda: next(processor))
    assert calls == ['theirs', 'ours'] * 4
    assert found['theirs'] == dict(seconds=[6, 8, 9], core_seconds=[1, 1, 1])
    assert found['ours']['seconds'] == [2, 4, 3]
    shown = compared(found['theirs']['seconds'], found['ours']['seconds'])
    assert shown == dict(theirs=8, ours=3, ratio=3, ratio_min=2, ratio_max=3)


def test_the_peak_of_a_step_is_what_is_held_and_what_it_makes():
    held = torch.zeros(1000)

    def step():
        first = torch.ones(500)
        del first
        return torch.ones(200) + 1

    side = Side(step, dict, lambda: [held])
    assert peak_bytes(side, 'cpu') == 4 * (1000 + 500)


# Agreement


def test_the_largest_difference_counts():
    theirs = dict(a=torch.tensor([1.0, -4.0]), b=torch.tensor([0.0]))
    assert disagreement(theirs, dict(a=torch.tensor([1.0, -3.0]), b=torch.tensor([0.0]))) == dict(a=0.25, b=0.0)
    nan = dict(a=torch.tensor([1.0, torch.nan]), b=torch.tensor([0.0]))
    assert disagreement(theirs, nan)['a'] > 1e30
    with pytest.raises(ValueError, match='outputs of theirs: a, b; of ours: a'):
        disagreement(theirs, dict(a=theirs['a']))
    with pytest.raises(ValueError, match=r'b: theirs is \(1,\), ours \(2,\)'):
        disagreement(theirs, dict(a=theirs['a'], b=torch.zeros(2)))


def test_sides_that_disagree_are_not_timed():
    calls = []
    with pytest.raises(
        SystemExit, match='vpd-features: the sides disagree, nothing was timed; of the largest entry: value by 0.01'
    ):
        measuring.measured(SMALL, sides([1.0, 100.0], [2.0, 100.0], calls), 5)
    assert not calls
    other = replace(SMALL, row='released-create-default')
    with pytest.raises(SystemExit, match='value by 0.01'):  # only what the row names may differ
        measuring.measured(other, sides([1.0, 100.0], [2.0, 100.0]), 5)
    line = measuring.measured(replace(SMALL, dtype='bf16'), sides([1.0, 128.0], [1.0625, 128.0], calls), 5)
    assert line['difference'] == dict(value=2**-11) and calls == ['theirs', 'ours'] * 7
    assert setup_of(json.loads(json.dumps(line))) == replace(SMALL, dtype='bf16')


def test_what_a_row_says_may_differ():
    def pair(value):
        outputs = dict(image=torch.tensor([value]), latent=torch.tensor([value]))
        return Side(lambda: None, lambda: outputs, list)

    setup = replace(SMALL, row='released-create-default')
    line = measuring.measured(setup, Pair(pair(1.0), pair(0.5)), 5)
    assert line['difference'] == dict(image=0.5, latent=0.5) and 'fewer calls' in line['differs']


# Clones


def test_what_is_no_clone(tmp_path, their_vpd, capsys):
    with pytest.raises(SystemExit, match=r'--vpd .*: vpd/models.py was expected and not found; give the folder of a'):
        Clone('vpd', tmp_path)
    (their_vpd / 'stable-diffusion/ldm/models/diffusion/ddpm.py').unlink()
    with pytest.raises(SystemExit, match='ddpm.py was expected and not found; git submodule update --init'):
        command.main(['--vpd', str(their_vpd), '--rows', 'vpd-features'])
    with pytest.raises(SystemExit, match='training_2nd_stage.py was expected and not found'):
        Clone('released', their_vpd)


@pytest.mark.parametrize(
    'text, message',
    [
        (
            'import nowhere_installed',
            'imports nowhere_installed, which is not installed: pip install nowhere_installed',
        ),
        ('import json.nothing', 'imports json.nothing, which is not there'),
        ('from json import nothing', 'cannot import name .nothing.*of another version than it expects'),
    ],
)
def test_a_dependency_that_is_missing(their_vpd, text, message):
    (their_vpd / 'vpd/models.py').write_text(text)
    clone = Clone('vpd', their_vpd)
    with clone.importable(), pytest.raises(SystemExit, match=message):
        clone.load('vpd')


def test_stand_ins_are_gone_afterwards_and_refuse_to_work(their_vpd):
    paths, clone = [*sys.path], Clone('vpd', their_vpd)
    with clone.importable():
        (models,) = clone.load('vpd.models')
        with pytest.raises(RuntimeError, match=r'omegaconf.OmegaConf is needed after all: tools/benchmarks/peers/clon'):
            models.OmegaConf()
    assert sys.path == paths and not {'vpd', 'vpd.models', 'omegaconf', 'timm'} & {*sys.modules}
    assert not any(isinstance(each, clones._Finder) for each in sys.meta_path)


def test_code_is_taken_out_of_their_scripts(their_release):
    clone = Clone('released', their_release)
    seen = []
    body = clone.loop('training_2nd_stage.py', 'train_loader', 'cpu')
    exec(body, dict(torch=torch, samples=torch.tensor([1.0, 2.0]), seen=seen))
    assert seen == [5.0]
    with pytest.raises(SystemExit, match='a function warm_up was expected and not found; another version'):
        clone.function('training_2nd_stage.py', 'warm_up', 'cpu')
    with pytest.raises(SystemExit, match='a loop over val_loader was expected and not found'):
        clone.loop('training_2nd_stage.py', 'val_loader', 'cpu')


# Rows


@pytest.mark.parametrize('row', ['vpd-features', 'vpd-frozen'])
def test_what_a_stand_in_computes_is_ours(row, their_vpd):
    clone = Clone('vpd', their_vpd)
    with clone.importable():
        pair = vpd.rows(replace(SMALL, row=row), clone)
    found = disagreement(pair.theirs.outputs(), pair.ours.outputs())
    expected = {'loss', 'gradient of the neck'} if row == 'vpd-frozen' else {f'level {i}' for i in range(4)}
    assert found.keys() == expected and max(found.values()) < 1e-4


def test_a_clone_that_computes_something_else_is_told(their_vpd):
    file = their_vpd / 'segmentation/models/vpd_seg.py'
    file.write_text(file.read_text().replace('self.unet(img,', 'self.unet(0.9 * img,'))
    clone = Clone('vpd', their_vpd)
    with clone.importable():
        pair = vpd.rows(SMALL, clone)
    with pytest.raises(SystemExit, match='vpd-features: the sides disagree, nothing was timed; .* level 0 by'):
        measuring.measured(SMALL, pair, 5)


def test_the_average_of_a_stand_in_is_ours(their_release):
    clone = Clone('released', their_release)
    with clone.importable():
        pair = released.rows(replace(SMALL, row='released-ema'), clone)
        before = pair.ours.outputs()
        again = pair.ours.outputs()
        assert all((before[name] - again[name]).abs().max() > 1e-6 for name in before)  # it goes on
        pair.theirs.outputs()
        found = disagreement(pair.theirs.outputs(), again)
    assert found.keys() == {'neck', 'decode_head'} and max(found.values()) < 1e-6


# The command


def test_dry_run_lists_rows_and_what_is_done(tmp_path, capsys):
    out = tmp_path / 'peers.jsonl'
    done = settled(Setup('released-create', 'cpu', 'small', 256, 'fp32', 4, 50))
    out.write_text(json.dumps(done.record()) + '\n')
    command.main(['--dry-run', '--out', str(out), '--size', '256', '--batch', '4', '8', '--dtype', 'fp32', 'bf16'])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[2] for line in lines if line.startswith('to do')]
    assert len(lines) == 7 * 4 + 2 * 2 + 1 and {*names} == {*ROWS}  # created one by one; averages know no images
    (shown,) = [line for line in lines if line.startswith('done')]
    assert 'released-create ' in shown and 'small fp32 256 px b1 50 calls' in shown
    assert 'small bf16 512 px b8' in next(line for line in reversed(lines) if 'released-features' in line)
    assert settled(Setup('vpd-frozen', 'cuda', 'full', 256, 'bf16', 4, 50)).record()['size'] == 256


@pytest.mark.parametrize(
    'flags, message',
    [
        ('', 'name a clone: --vpd PATH or --released PATH'),
        ('--pairs 4', '--pairs 4: at least 5 are needed'),
        ('--size 100', 'expected a multiple of 64'),
        ('--batch 1', '2 or more'),
        ('--calls 7', 'a divisor of 600'),
        ('--rows nothing', 'invalid choice'),
        ('--vpd VPD --device cuda', 'no GPU was found'),
    ],
)
def test_what_is_refused(flags, message, capsys, their_vpd):
    if 'GPU' in message and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(SystemExit) as error:
        command.main(flags.replace('VPD', str(their_vpd)).split())
    assert message in f'{error.value}{capsys.readouterr().err}'


def test_rows_are_measured_once_and_the_page_is_made_of_them(tmp_path, monkeypatch, their_vpd):
    out, asked = tmp_path / 'peers.jsonl', []
    environment = dict(device='a processor', torch='2', diffusers='1', python='3', threads=1, date='2026-01-01')
    monkeypatch.setattr(measuring, 'environment', lambda _: environment)

    def apart(setup, args):
        asked.append(setup.row)
        if setup.row == 'vpd-finetune':
            return None
        clock, processor = iter([0, 4, 4, 6] * 9), iter([0, 3, 3, 4] * 9)
        clocks = dict(clock=lambda: next(clock), processor=lambda: next(processor))
        line = measuring.measured(setup, sides([1.0, 2.0], [1.0, 2.0001]), args.pairs, **clocks)
        return line | dict(bytes=dict(theirs=3 * 2**20, ours=2**20))

    monkeypatch.setattr(command, '_measured_apart', apart)
    flags = ['--vpd', str(their_vpd), '--out', str(out)]
    for _ in range(2):
        with pytest.raises(SystemExit, match='without a result, see above: vpd-finetune$'):
            command.main(flags)
    names = [name for name in ROWS if name.startswith('vpd')]
    assert asked == [*names, 'vpd-finetune']  # what has no line is tried again; no clone, no row
    text = page.write_peers(out).read_text()
    assert (
        '| vpd-features | small, fp32, 512 px, b2 | 5 | 4 | 2 | 2.00 (2.00 – 2.00) | 3.00 | 3 | 1 | 3.00 | 5e-05 |'
        in text
    )
    assert '| vpd-finetune-checkpointing * |' in text and '* The sides differ: under recomputation' in text
    assert page.write_peers(tmp_path / 'nothing.jsonl') is None
    with pytest.raises(SystemExit, match='measure first'):
        whole_page.write_page(tmp_path)  # these lines belong to another page


def test_a_child_prints_the_line_of_its_row(their_vpd, monkeypatch, capsys):
    monkeypatch.setattr(vpd, 'rows', lambda setup, clone: sides([1.0], [1.0]))
    command.main(['--child', json.dumps(SMALL.record()), '--vpd', str(their_vpd)])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert setup_of(line) == SMALL and len(line['seconds']['theirs']) == 5 and pairs.SIDES == ('theirs', 'ours')


def test_a_side_that_cannot_do_it_is_told_in_a_line(their_vpd, monkeypatch):
    def rows(setup, clone):
        raise RuntimeError('expected the same dtype\nand much more')

    monkeypatch.setattr(vpd, 'rows', rows)
    setup = replace(SMALL, dtype='bf16')
    with pytest.raises(SystemExit, match=r'^vpd-features \(small, bf16, 64 px, b2\): expected the same dtype$'):
        command.main(['--child', json.dumps(setup.record()), '--vpd', str(their_vpd)])


def test_a_row_that_fails_has_no_line(monkeypatch):
    monkeypatch.setattr(command.subprocess, 'run', lambda *_, **__: command.subprocess.CompletedProcess([], 1, ''))
    args = type('Args', (), dict(vpd='VPD', pairs=5))
    assert command._measured_apart(SMALL, args) is None
