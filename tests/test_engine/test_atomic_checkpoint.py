"""Checkpoints before, during and after each step of a save."""

import errno
import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend

from mmdiff2in1.engine import AtomicBackend, AtomicCheckpointHook
from mmdiff2in1.engine.last_checkpoint import last_checkpoint


class Killed(BaseException):
    """Stands for SIGKILL where a process of its own is not needed."""


def names(folder):
    return sorted(file.name for file in Path(folder).glob('*.pth'))


def test_backend_is_registered_and_round_trips(tmp_path):
    backend = get_file_backend(backend_args=dict(backend='atomic'))
    assert isinstance(backend, AtomicBackend)
    backend.put(b'one', tmp_path / 'a' / 'file')
    backend.put(b'two', str(tmp_path / 'a' / 'file'))
    backend.put_text('θ', tmp_path / 'text')
    assert backend.get(tmp_path / 'a' / 'file') == b'two'
    assert backend.get_text(tmp_path / 'text') == 'θ'
    assert [file.name for file in (tmp_path / 'a').iterdir()] == ['file']


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    backend = AtomicBackend()
    backend.put(b'old', tmp_path / 'file')

    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space') as raised:
        backend.put(b'new', tmp_path / 'file')
    assert 'is untouched' in raised.value.__notes__[0]
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [('file', b'old')]


def test_old_checkpoints_go_after_the_new_one_is_safe(tiny, scene_files, tmp_path, monkeypatch):
    """At every rename the newest complete checkpoint exists and `last_checkpoint` names a complete file."""
    replace, seen = os.replace, []

    def watched(source, target):
        pointer = last_checkpoint(tmp_path / 'run')
        seen.append((Path(target).name, names(tmp_path / 'run'), pointer and pointer.name))
        if pointer:
            torch.load(pointer, weights_only=False)
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watched)
    tiny.segmentation_runner(tmp_path / 'run', scene_files, max_iters=4).train()
    best = [name for name in names(tmp_path / 'run') if name.startswith('best')]

    # Validation after steps 3 and 4; the checkpoint of the time is written again to hold the best score.
    assert seen[:4] == [
        ('iter_2.pth', [], None),
        ('last_checkpoint', ['iter_2.pth'], None),
        ('best_accuracy_iter_3.pth', ['iter_2.pth'], 'iter_2.pth'),
        ('iter_3.pth', ['best_accuracy_iter_3.pth', 'iter_2.pth'], 'iter_2.pth'),
    ]
    assert seen[5] == ('iter_4.pth', ['best_accuracy_iter_3.pth', 'iter_3.pth'], 'iter_3.pth')
    assert names(tmp_path / 'run') == [*best, 'iter_4.pth']
    assert len(best) == 1


def test_the_old_best_stays_until_the_new_best_is_in_the_last_checkpoint(tiny, scene_files, tmp_path, monkeypatch):
    # θ_C's accuracy as given, so that the second validation is better.
    scores = iter([dict(accuracy=0.1), dict(accuracy=0.2)])
    monkeypatch.setattr(tiny.PixelAccuracy, 'compute_metrics', lambda self, results: next(scores))
    replace, seen = os.replace, []

    def watched(source, target):
        seen.append((Path(target).name, [name for name in names(tmp_path / 'run') if name.startswith('best')]))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watched)
    settings = dict(val_cfg=dict(type='SelfImprovingValLoop', exploiter=False))
    tiny.segmentation_runner(tmp_path / 'run', scene_files, max_iters=4, **settings).train()
    assert seen[-3:] == [
        ('best_accuracy_iter_4.pth', ['best_accuracy_iter_3.pth']),
        ('iter_4.pth', ['best_accuracy_iter_3.pth', 'best_accuracy_iter_4.pth']),
        ('last_checkpoint', ['best_accuracy_iter_3.pth', 'best_accuracy_iter_4.pth']),
    ]
    assert names(tmp_path / 'run') == ['best_accuracy_iter_4.pth', 'iter_4.pth']


def test_kill_between_save_and_delete_is_made_good_on_resume(tiny, scene_files, tmp_path, monkeypatch):
    delete = AtomicCheckpointHook._delete_outdated

    def killed(hook):
        if (tmp_path / 'run/iter_6.pth').exists():
            raise Killed
        delete(hook)

    monkeypatch.setattr(AtomicCheckpointHook, '_delete_outdated', killed)
    without = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    checkpoint = dict(checkpoint=dict(type='AtomicCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=2))
    with pytest.raises(Killed):
        tiny.segmentation_runner(tmp_path / 'run', scene_files, **without, default_hooks=checkpoint).train()
    assert names(tmp_path / 'run') == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    assert last_checkpoint(tmp_path / 'run').name == 'iter_6.pth'

    monkeypatch.setattr(AtomicCheckpointHook, '_delete_outdated', delete)
    resumed = tiny.segmentation_runner(
        tmp_path / 'run', scene_files, **without, default_hooks=checkpoint, resume=True, max_iters=6
    )
    resumed.train()
    assert resumed.iter == 6
    assert names(tmp_path / 'run') == ['iter_4.pth', 'iter_6.pth']


def test_own_checkpoints_load_under_weights_only(tiny, scene_files, tmp_path):
    """Optimizer, schedulers and the log's history included, with the scoped allow-list of mmengine and nothing more."""
    from mmengine.runner.checkpoint import get_torch_safe_globals

    tiny.segmentation_runner(tmp_path / 'run', scene_files, max_iters=4).train()
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        checkpoint = torch.load(last_checkpoint(tmp_path / 'run'), weights_only=True)
    assert {'state_dict', 'optimizer', 'param_schedulers', 'message_hub', 'meta'} <= set(checkpoint)
    history = checkpoint['message_hub']['log_scalars']['train/ema_updates'].data[0]
    assert history.tolist() == [0, 1, 2, 2]  # 5, 10, 15, 20 samples; an update per 7


@pytest.mark.parametrize('arguments', [dict(backend_args=dict(backend='petrel')), dict(file_client_args=dict())])
def test_remote_stores_are_refused(arguments):
    with pytest.raises(ValueError, match='use CheckpointHook for a remote store'):
        AtomicCheckpointHook(**arguments)
