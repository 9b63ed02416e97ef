"""Two trainings in one work dir, or of one shared warm-up: the second is refused and told of the first."""

import pytest
from holding import held
from mmengine.config import Config

from mmdiff2in1.core.lock import InUseError
from mmdiff2in1.training.chain import run_stage, train, train_plain

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
