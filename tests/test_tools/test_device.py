"""--device: the whole process sees one device; one that is not there is an error before any work."""

import mmengine.device.utils
import pytest
import torch

from mmdiff2in1.__main__ import main
from mmdiff2in1.commands import device_arguments
from mmdiff2in1.commands.device_arguments import check_hidden, hide_others
from mmdiff2in1.core.devices import check_device

VISIBLE = 'CUDA_VISIBLE_DEVICES'
PROCESS = ('train', 'test', 'compare', 'denoise', 'distil', 'pretrain')


@pytest.mark.parametrize(
    ('device', 'before', 'after'),
    [
        ('cpu', None, '-1'), ('cpu', '0,1', '-1'), ('cuda', None, None), ('cuda', '1', '1'), ('cuda:2', None, '2'),
        ('cuda:1', '4,7', '7'), ('cuda:0', 'GPU-a,GPU-b', 'GPU-a'), ('cuda:2', '4,7', '-1'), ('cuda:0', '-1', '-1'),
    ],
)  # fmt: skip
def test_what_the_process_sees(monkeypatch, device, before, after):
    monkeypatch.setenv(VISIBLE, before or '')
    if before is None:
        monkeypatch.delenv(VISIBLE)
    hide_others(device)
    assert device_arguments.os.environ.get(VISIBLE) == after


def test_several_processes_take_one_each(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv(VISIBLE, '0,1')
    hide_others('cuda')
    with pytest.raises(ValueError, match='of several processes each takes a GPU of its own; say --device cuda'):
        hide_others('cuda:1')


def test_mmengine_takes_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'mps')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    check_hidden('cpu')
    assert mmengine.device.utils.get_device() == 'cpu'
    with pytest.raises(ValueError, match='--device cuda:0: torch .* cannot compute there, .*--device cpu goes'):
        check_hidden('cuda:0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    check_hidden('cuda')
    assert mmengine.device.utils.get_device() == 'cuda'
    with pytest.raises(ValueError, match='torch sees the GPUs of this process already'):
        check_hidden('cpu')


def test_devices_that_are_not_there(monkeypatch):
    check_device('cpu')
    with pytest.raises(ValueError, match="^--device 'gpu': expected cpu, cuda, or cuda:0, cuda:1 …$"):
        check_device('gpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    check_device('cuda:1')
    with pytest.raises(ValueError, match='--device cuda:2: there are 2 GPUs, cuda:0 is the first'):
        check_device('cuda:2')


@pytest.mark.parametrize('command', PROCESS)
def test_every_training_command_takes_it(command, capsys):
    with pytest.raises(SystemExit):
        main([command, '--help'])
    assert '--device DEVICE' in capsys.readouterr().out


def test_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.pth').touch()
    monkeypatch.setenv(VISIBLE, '-1')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for arguments in (['train', 'unet_scenes'], ['test', 'unet_scenes', 'a.pth'], ['compare', 'unet_scenes-paste']):
        with pytest.raises(SystemExit, match='--device cuda:3: torch .* cannot compute there'):
            main([*arguments, '--device', 'cuda:3'])
    with pytest.raises(SystemExit, match='--device cuda: torch .* cannot compute there'):
        main(['generate', 'unet_scenes', 'a.pth', '--prompt', 'x', '--device', 'cuda'])
    assert [each.name for each in tmp_path.iterdir()] == ['a.pth']
