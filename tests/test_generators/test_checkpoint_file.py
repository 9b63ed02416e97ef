"""Checkpoints are read without running what is in them, or refused with the names of what could be run."""

import argparse
import ast
from pathlib import Path, PosixPath

import hostile
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mmdiff2in1.generators.checkpoint_file import Unread, read_checkpoint_file

ROOT = Path(__file__).resolve().parents[2]
READER = 'mmdiff2in1/generators/checkpoint_file.py'


@pytest.mark.parametrize('mmap', [False, True])
@pytest.mark.parametrize('kind', hostile.KINDS)
def test_what_could_run_is_refused(kind, mmap, tmp_path):
    watch = hostile.Watch(tmp_path / 'ran')
    path = hostile.write(kind, tmp_path / 'model.pth', watch.marker)
    with pytest.raises(ValueError, match=r'model\.pth (holds|cannot be read)') as caught:
        read_checkpoint_file(path, mmap=mmap)
    watch.assert_nothing_ran()
    named = {'system': 'posix.system', 'old format': 'posix.system', 'log': 'posix.system', 'eval': 'builtins.eval'}
    assert named.get(kind, '') in str(caught.value)
    assert 'weights_only=False' not in str(caught.value).split('If you trust')[0]


@pytest.mark.parametrize('variable', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
def test_there_is_no_switch(variable, tmp_path, monkeypatch):
    """Neither torch's variable nor what the process has allowed elsewhere."""
    watch = hostile.Watch(tmp_path / 'ran')
    monkeypatch.setenv(variable, '1')
    with torch.serialization.safe_globals([getattr, HistoryBuffer, eval]):
        for kind in ('system', 'eval', 'replaces eval'):
            with pytest.raises(ValueError, match='model.pth'):
                read_checkpoint_file(hostile.write(kind, tmp_path / 'model.pth', watch.marker))
        watch.assert_nothing_ran()
        assert {getattr, HistoryBuffer, eval} <= set(torch.serialization.get_safe_globals()), 'left as it was'
    assert not {getattr, eval, Unread} & set(torch.serialization.get_safe_globals())


def test_every_object_that_is_not_known_is_named(tmp_path):
    class Left:
        pass

    Left.__qualname__ = 'Left'
    globals()['Left'] = Left
    torch.save(dict(state_dict={}, a=Left(), b=argparse.ArgumentParser), tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=r'holds argparse\.ArgumentParser, \S*test_checkpoint_file\.Left, which could'):
        read_checkpoint_file(tmp_path / 'model.pth')


def test_what_trainings_leave_beside_their_weights_is_passed_over(tmp_path):
    args = argparse.Namespace(out=PosixPath('x'), lr=1.0)
    content = dict(model={'w': torch.ones(2)}, args=args, best=np.float64(0.5), all=np.arange(3), cut=slice(1, 2))
    torch.save(content, tmp_path / 'model.pth')
    found = read_checkpoint_file(tmp_path / 'model.pth')
    assert isinstance(found['args'], Unread) and not vars(found['args'])
    assert found['model']['w'].tolist() == [1, 1] and found['best'] == 0.5 and found['all'].tolist() == [0, 1, 2]


def test_logs_come_back_as_numbers_and_bring_no_functions(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 2], max_length=7)
    history._statistics_methods = dict(HistoryBuffer._statistics_methods, mean=HistoryBuffer.max)
    torch.save(dict(message_hub=dict(log_scalars={'train/loss': history})), tmp_path / 'model.pth')
    found = read_checkpoint_file(tmp_path / 'model.pth')['message_hub']['log_scalars']['train/loss']
    assert type(found) is HistoryBuffer and found.max_length == 7
    assert [part.tolist() for part in found.data] == [[1.0, 3.0], [1, 2]]
    assert found.statistics('mean') == 4 / 3
    history._count_history = ['text']
    torch.save(dict(message_hub=dict(log_scalars=dict(x=history))), tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match=r"log_scalars\['x'\] is no log of numbers"):
        read_checkpoint_file(tmp_path / 'odd.pth')


@pytest.mark.parametrize(
    'array',
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.array([1.5, -2], '>f4'),
        np.array(['wall', 'tür']),
        np.array([True, False]),
        np.zeros((0, 3), np.uint8),
        np.array(7, np.complex64),
    ],
)
def test_arrays_and_numbers_come_back(tmp_path, array):
    content = dict(a=array, nested=[dict(b=(array, 1))], number=array.ravel()[0] if array.size else np.int8(3))
    torch.save(content, tmp_path / 'model.pth')
    found = read_checkpoint_file(tmp_path / 'model.pth')
    for each in (found['a'], found['nested'][0]['b'][0]):
        assert type(each) is np.ndarray and each.dtype == array.dtype and np.array_equal(each, array)
        each.flags.writeable = True
    assert type(found['number']) is type(content['number']) and found['number'] == content['number']


class Pickled:
    """Whatever `function(*arguments)` gives, with a state."""

    def __init__(self, function, *arguments, state=None):
        self.parts = function, arguments, *(() if state is None else (state,))

    def __reduce__(self):
        return self.parts


RECONSTRUCT = np.empty(0).__reduce__()[0]
POINTERS = b'\x10' * 8
"""What NumPy takes for the address of an object, where the type is one of objects."""


@pytest.mark.parametrize(
    'value',
    [
        Pickled(np.ndarray, (1,), np.dtype('O'), POINTERS),
        Pickled(np.ndarray, (1,), np.dtype('i8'), POINTERS),
        Pickled(RECONSTRUCT, np.ndarray, (0,), b'b', state=(1, (1,), np.dtype('O'), False, POINTERS)),
        Pickled(RECONSTRUCT, np.ndarray, (0,), b'b', state=(1, (9,), np.dtype('f8'), False, POINTERS)),
        Pickled(np.float64(0).__reduce__()[0], np.dtype([('a', 'O')]), np.zeros(1)),
        Pickled(np.dtype, 'f8', False, True, state=(3, '<', None, ('a',), dict(a=(np.dtype('O'), 0)), -1, -1, 63)),
        np.array([None], object),
    ],
)
def test_arrays_of_pointers_are_not_made(tmp_path, value):
    torch.save(dict(state_dict={}, value=value), tmp_path / 'model.pth')
    try:
        found = read_checkpoint_file(tmp_path / 'model.pth')['value']
    except ValueError as error:
        assert 'model.pth' in str(error)
    else:
        assert isinstance(found, Unread) or found == np.dtype('f8') and found.names is None


def test_safetensors_and_damage(tmp_path):
    save_file({'w': torch.ones(2)}, tmp_path / 'model.safetensors')
    assert read_checkpoint_file(tmp_path / 'model.safetensors')['w'].tolist() == [1, 1]
    for suffix in ('pth', 'safetensors'):
        (tmp_path / f'cut.{suffix}').write_bytes(b'PK\x03\x04 and nothing else')
        with pytest.raises(ValueError, match=rf'cut\.{suffix} cannot be read .*is it complete'):
            read_checkpoint_file(tmp_path / f'cut.{suffix}')
    with pytest.raises(FileNotFoundError, match='nothing.pth does not exist'):
        read_checkpoint_file(tmp_path / 'nothing.pth')


@pytest.mark.parametrize('name', ['model.pth', 'model.ckpt', 'MODEL.SAFETENSORS', '8d3f'])
def test_the_first_bytes_decide_and_not_the_name(tmp_path, name):
    save_file({'w': torch.ones(2)}, tmp_path / name)
    assert read_checkpoint_file(tmp_path / name)['w'].tolist() == [1, 1]
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-4])
    with pytest.raises(ValueError, match=rf'{name} cannot be read .*is it complete'):
        read_checkpoint_file(tmp_path / name)


@pytest.mark.parametrize('old', [False, True])
def test_a_checkpoint_named_safetensors(tmp_path, old):
    path = tmp_path / 'model.safetensors'
    torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=not old)
    assert read_checkpoint_file(path)['w'].tolist() == [1, 1]


@pytest.mark.parametrize('kind', hostile.KINDS)
def test_the_name_of_safetensors_opens_no_door(kind, tmp_path):
    watch = hostile.Watch(tmp_path / 'ran')
    path = hostile.write(kind, tmp_path / 'model.safetensors', watch.marker)
    with pytest.raises(ValueError, match=r'model\.safetensors (holds|cannot be read)'):
        read_checkpoint_file(path)
    watch.assert_nothing_ran()


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'it is a pointer of Git LFS.*git lfs pull'),
        (b'<!DOCTYPE html><html>', 'it is a web page; download the file itself'),
        (b'\n<html>', 'it is a web page'),
        (b'GGUF\x03\0\0\0', 'it is a GGUF file of quantised weights'),
        (b'{"weight_map": {}}', 'it is a JSON file'),
        (b'', 'it is empty'),
    ],
)
def test_what_lies_in_the_place_of_weights(tmp_path, data, message, suffix):
    (tmp_path / f'model.{suffix}').write_bytes(data)
    with pytest.raises(ValueError, match=rf'model\.{suffix} cannot be read: {message}'):
        read_checkpoint_file(tmp_path / f'model.{suffix}')


def test_there_is_one_reader():
    """Neither torch.load nor what fetches and reads in one step stands anywhere else."""
    found = []
    for path in [*ROOT.glob('mmdiff2in1/**/*.py'), *ROOT.glob('tools/**/*.py'), *ROOT.glob('projects/**/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ''
            if name.endswith(('torch.load', 'load_url', 'load_state_dict_from_url', '_load_checkpoint', 'pickle.load')):
                found.append(path.relative_to(ROOT).as_posix())
    assert set(found) == {READER}
