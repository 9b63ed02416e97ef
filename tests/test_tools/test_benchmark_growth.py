"""Growth of costs: real points at toy sizes, lines that are not measured twice, the page and its plots."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / 'tools'))  # at the end: tools/test.py is not the standard library's

from benchmarks import growth, growth_model, growth_page, growth_store  # noqa: E402

from mmdiff2in1.synthesis import SampleStore, record_reading  # noqa: E402


def test_stores_are_those_that_creation_writes(tmp_path, monkeypatch):
    """Every line is accepted as it stands, and the images are whole."""
    size = growth_store.write_store(tmp_path / 'store', 5, with_images=True)
    store = SampleStore(tmp_path / 'store')
    monkeypatch.setattr(record_reading, 'flaw_of', None)
    assert len(store.records()) == 5 and store.verify() == [] and store.unrecorded() == []
    assert size == sum(store.image(record).stat().st_size for record in store.records())


def test_two_manifests_are_merged(tmp_path):
    found = growth_store.merging(6, tmp_path / 'store')
    assert [file.name for file in (tmp_path / 'store').glob('manifest*')] == ['manifest.jsonl']
    assert len(SampleStore(tmp_path / 'store').records()) == 6
    assert found.keys() == {'seconds', 'core_seconds', 'bytes'} and found['seconds'] > 0


def test_counts_of_creation_and_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(growth_model, 'SHARED', 12)
    monkeypatch.setattr(growth_model, 'REPEATS', 1)
    assert growth_model.ranks(4, tmp_path / 'ranks')['calls'] == 12 // 4 * growth_model.CALLS
    one, five = (growth_model.tasks(number, tmp_path) for number in (1, 5))
    assert one['flops'] < five['flops'] < 1.2 * one['flops'] and one['bytes'] < five['bytes']


def test_measured_points_are_not_measured_again(tmp_path, monkeypatch, capsys):
    out, asked = tmp_path / 'cpu.jsonl', []
    environment = dict(device='a processor', torch='2', python='3', date='2026-01-01')

    def child(name, number):
        asked.append((name, number))
        cost = dict(seconds=2e-6 * number, core_seconds=1e-6 * number, bytes=1000 * number)
        return dict(curve=name, number=number, environment=environment) | cost

    monkeypatch.setattr(growth, '_child', child)
    for _ in range(2):
        growth.main(['--curves', 'opening', 'synthetic', '--most', '100000', '--out', str(out)])
    assert asked == [('opening', 10_000), ('opening', 100_000), *(('synthetic', number) for number in (0, 2, 4, 8))]
    growth.main(['--curves', 'opening', '--out', str(out), '--dry-run'])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ['done', 'done', 'to']
    lines = [json.loads(line) for line in out.read_text().splitlines() if '"opening"' in line]
    (tmp_path / 'growth').mkdir()
    (tmp_path / 'growth/cpu.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    page = growth_page.write_growth(tmp_path / 'growth')
    text = page.read_text()
    assert '| 100,000 | 0.1 | 0.2 | 10.00 | 95.4 | 1,000 |' in text and 'slope 1.00' in text
    assert (tmp_path / 'growth/opening.png').stat().st_size < 30_000 and 'synthetic' not in text.partition('## ')[2]


def test_a_point_that_fails_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(growth.subprocess, 'run', lambda *_, **__: growth.subprocess.CompletedProcess([], 3))
    with pytest.raises(SystemExit, match='opening at 10000: exit status 3'):
        growth.main(['--curves', 'opening', '--out', str(tmp_path / 'cpu.jsonl')])
