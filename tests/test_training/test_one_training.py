"""Two trainings in one work dir, or of one shared warm-up: the second is refused and told of the first."""

from types import SimpleNamespace

import pytest
from holding import held
from mmengine.config import Config

from mmdiff2in1.core.lock import InUseError
from mmdiff2in1.training import chain
from mmdiff2in1.training.chain import begun_anew, run_stage, train, train_plain

ENTRIES = {
    'a chain': lambda folder: train(Config({}), folder),
    'a plain config': lambda folder: train_plain(Config({}), folder),
    'a shared warm-up': lambda folder: run_stage('warm-up', Config(dict(work_dir=str(folder))), resume=True),
}


@pytest.mark.parametrize('entry', ENTRIES)
def test_the_second_is_refused(entry, tmp_path):
    with held(tmp_path / 'run') as pid:
        before = sorted((tmp_path / 'run').iterdir())
        with pytest.raises(InUseError, match=rf'run is in use by process {pid} on \S+ since .* \(training\); wait'):
            ENTRIES[entry](tmp_path / 'run')
        assert sorted((tmp_path / 'run').iterdir()) == before
    with pytest.raises(Exception) as caught:  # an empty config goes no further
        ENTRIES[entry](tmp_path / 'run')
    assert not isinstance(caught.value, InUseError)


@pytest.mark.parametrize('entry', ['a chain', 'a plain config'])
def test_what_a_killed_one_was_writing_is_cleared_away(entry, tmp_path):
    """A kill between the beginning of results.json and its end, or of the metrics of a test."""
    left = [tmp_path / '.results.json.9739fd4f.part', tmp_path / 'test' / '.finished.json.0a1b2c3d.part']
    (tmp_path / 'test').mkdir()
    for file in left:
        file.touch()
    with pytest.raises(Exception):  # noqa: B017 (an empty config goes no further)
        ENTRIES[entry](tmp_path)
    assert not any(file.exists() for file in left)


def test_an_unfinished_stage_that_begins_anew_is_told(tmp_path):
    assert begun_anew('warm-up', tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_18.pth')
    assert begun_anew('warm-up', tmp_path) == (
        f'warm-up: {tmp_path} holds iter_18.pth of an unfinished run; it BEGINS ANEW, --resume goes on from there'
    )


def test_a_plain_training_that_begins_anew_is_told(tmp_path, monkeypatch):
    """Whoever forgets --resume reads it before the first step, which is not taken here."""
    (tmp_path / 'last_checkpoint').write_text('iter_18.pth')
    for name in (
        'check_values',
        'check_keys',
        'check_weights',
        'check_data',
        'rehearse',
        'split_global_batch',
        'resume_where_possible',
    ):
        monkeypatch.setattr(chain, name, lambda *_: None)
    monkeypatch.setattr(chain, 'build_runner', lambda _: SimpleNamespace(train=lambda: None))
    told = []
    monkeypatch.setattr(chain, 'print_log', lambda text, *_: told.append(text))
    for resume in (True, False):
        train_plain(Config(), tmp_path, resume)
    assert told == [begun_anew('training', tmp_path)] and 'BEGINS ANEW' in told[0]
