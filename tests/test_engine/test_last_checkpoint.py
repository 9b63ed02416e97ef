"""A run goes on from a checkpoint of its own, also where its folder was copied, and deletes none but its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmdiff2in1.engine.last_checkpoint import last_checkpoint, name_for
from mmdiff2in1.engine.stage_folder import StageFolder

WITHOUT = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)


@pytest.fixture
def trained(tiny, scene_files, tmp_path):
    """Trains a run of this name up to so many steps, on from where it is, with a checkpoint at every second."""

    def train(name: str, steps: int, resume: bool = False, **hook):
        checkpoint = dict(type='AtomicCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=2) | hook
        runner = tiny.segmentation_runner(
            tmp_path / name, scene_files, **WITHOUT, default_hooks=dict(checkpoint=checkpoint), max_iters=steps,
            resume=resume,
        )  # fmt: skip
        runner.train()
        return runner

    return train


@pytest.mark.parametrize('written', ['name', 'whole path'])
def test_a_copied_run_goes_on_from_its_own_checkpoint(trained, tmp_path, written):
    """The run that it was copied from has gone on since, its checkpoint changed under the same name."""
    trained('run', 2)
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == 'iter_2.pth'
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    if written == 'whole path':  # as runs of earlier versions have it
        (tmp_path / 'copy' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'iter_2.pth'))
    other = torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=False)
    other['meta']['iter'] = 3
    torch.save(other, tmp_path / 'run' / 'iter_2.pth')
    copied = trained('copy', 4, resume=True)
    assert copied._load_from == str(tmp_path / 'copy' / 'iter_2.pth')
    assert sorted(file.name for file in (tmp_path / 'copy').glob('*.pth')) == ['iter_2.pth', 'iter_4.pth']
    assert sorted(file.name for file in (tmp_path / 'run').glob('*.pth')) == ['iter_2.pth']


def test_a_run_whose_checkpoints_are_elsewhere(trained, tmp_path):
    trained('run', 2, out_dir=str(tmp_path / 'disk'))
    own = tmp_path / 'disk' / 'run' / 'iter_2.pth'
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(own)
    assert last_checkpoint(tmp_path / 'run', tmp_path / 'disk') == own
    assert trained('run', 4, resume=True, out_dir=str(tmp_path / 'disk')).iter == 4
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    with pytest.raises(ValueError, match=r'copy/last_checkpoint names .*run/iter_4\.pth, a checkpoint of another run'):
        trained('copy', 6, resume=True, out_dir=str(tmp_path / 'disk'))


def test_what_last_checkpoint_may_say(tmp_path):
    work_dir = tmp_path / 'run'
    assert last_checkpoint(work_dir) is None
    work_dir.mkdir()
    for name in ('run/iter_2.pth', 'foreign.pth'):
        (tmp_path / name).touch()

    def says(text: str) -> Path | None:
        (work_dir / 'last_checkpoint').write_text(text)
        return last_checkpoint(work_dir)

    own = work_dir / 'iter_2.pth'
    assert says('iter_2.pth\n') == says(str(own)) == says('/somewhere/else/iter_2.pth') == own
    assert says('work_dirs/run/iter_2.pth') == own  # mmengine's own hook, started elsewhere
    with pytest.raises(ValueError, match=r'last_checkpoint is empty; write the name'):
        says('')
    with pytest.raises(ValueError, match=r'foreign\.pth, a checkpoint of another run; write the name'):
        says(str(tmp_path / 'foreign.pth'))
    for text in ('iter_9.pth', '/somewhere/iter_9.pth', '../foreign.pth'):
        with pytest.raises(FileNotFoundError, match='which is not there'):
            says(text)
    assert name_for(own, work_dir) == 'iter_2.pth' and name_for('/disk/run/a.pth', work_dir) == '/disk/run/a.pth'


def test_a_checkpoint_of_another_stage_is_not_gone_on_from(trained, tmp_path):
    StageFolder(tmp_path / 'run', 'a' * 64).begin()
    trained('run', 2)
    assert torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=False)['meta']['stage'] == 'a' * 64
    assert trained('run', 4, resume=True).iter == 4
    (tmp_path / 'run' / 'begun.json').write_text(json.dumps(dict(fingerprint='b' * 64)))
    with pytest.raises(ValueError, match=r'iter_4\.pth is a checkpoint of another run .*aaaaaaaa, expected bbbbbbbb'):
        trained('run', 6, resume=True)
    (tmp_path / 'run' / 'begun.json').write_text('{"fingerprint"')
    with pytest.raises(ValueError, match=r'begun\.json is damaged .*delete it to run the stage anew'):
        trained('run', 6, resume=True)


def test_a_checkpoint_cannot_have_files_of_others_deleted(trained, tmp_path):
    """It brings the names along that its run had still to delete."""
    trained('run', 2)
    for name in ('precious.pth', 'run/old.pth'):
        (tmp_path / name).write_text('mine')
    file = tmp_path / 'run' / 'iter_2.pth'
    content = torch.load(file, weights_only=False)
    names = ['../precious.pth', str(tmp_path / 'precious.pth'), 'old.pth']
    content['message_hub']['runtime_info']['outdated_checkpoints'] = names
    torch.save(content, file)
    trained('run', 4, resume=True)
    assert (tmp_path / 'precious.pth').read_text() == 'mine'
    assert not (tmp_path / 'run' / 'old.pth').exists(), 'its own go'
