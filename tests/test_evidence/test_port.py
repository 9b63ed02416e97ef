"""projects/evidence/port.py: the loop of then, with the package's formulas, is the loop of today; and its raw lines."""

import json
from pathlib import Path

import port
import pytest

LINES = Path(port.__file__).parents[2] / 'docs' / 'evidence' / 'port.jsonl'


def test_every_difference_has_a_cause():
    """Of each task, arm and precision there is one line per variant, and the last one is equal."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()]
    assert len(lines) == 3 * 2 * 8 * len(port.VARIANTS) and all(line['steps'] == 20 for line in lines)
    assert {line['commit'] for line in lines} == {port.OLD[:12]} and all(line['equal_first_weights'] for line in lines)
    last = [line for line in lines if line['old'] == port.VARIANTS[-1]]
    assert all(line['bit_for_bit'] for line in last)


@pytest.mark.slow
def test_it_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(port, 'WARMUP', 2)
    monkeypatch.setattr(port, 'STEPS', 2)
    monkeypatch.setattr(port, 'SCENES', 4)
    monkeypatch.setattr(port, 'DRAWS', 1)
    try:
        port.main(['--out', str(tmp_path / 'port.jsonl'), '--tasks', 'depth', '--precisions', 'float32'])
    except SystemExit as error:  # a shallow clone
        pytest.skip(str(error))
    lines = [json.loads(line) for line in (tmp_path / 'port.jsonl').read_text().splitlines()]
    assert all(line['bit_for_bit'] for line in lines if line['old'] == port.VARIANTS[-1])
    assert not any(line['bit_for_bit'] for line in lines if line['old'] == port.VARIANTS[0])
