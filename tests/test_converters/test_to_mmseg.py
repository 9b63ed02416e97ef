"""tools/model_converters/to_mmseg.py: what mmengine loads of a self-improving checkpoint, before and after."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS
from safetensors.torch import load_file

import mmdiff2in1.components  # noqa: F401  registers

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'to_mmseg.py'
SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=(32, 32)),
    backbone=dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,),
                  downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,)),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=3, in_index=-1),
    test_cfg=dict(mode='whole'),
)  # fmt: skip


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('to_mmseg', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(tmp_path):
    """A self-improving model whose θ_C and θ_E differ, and its checkpoint."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=SEGMENTOR))
    for parameter in model.creator.parameters():
        parameter.data.add_(1)
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta, optimizer={}), tmp_path / 'iter_9.pth')
    return model, tmp_path / 'iter_9.pth'


@pytest.mark.parametrize('which', ['creator', 'exploiter'])
def test_mmengine_loads_all_of_it(tool, trained, tmp_path, which, capsys):
    model, path = trained
    torch.manual_seed(1)
    plain = MODELS.build(SEGMENTOR)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    load_checkpoint(plain, str(path))
    assert all(torch.equal(before[name], tensor) for name, tensor in plain.state_dict().items())

    tool.main([str(path), '--out', str(tmp_path / 'plain.pth'), '--model', which])
    assert f'{which}: {len(before)} tensors under plain names' in capsys.readouterr().out
    meta = load_checkpoint(plain, str(tmp_path / 'plain.pth'), strict=True)['meta']
    wanted = getattr(model, which).state_dict()
    assert all(torch.equal(wanted[name], tensor) for name, tensor in plain.state_dict().items())
    assert meta['dataset_meta']['classes'] == ('a', 'b', 'c')
    tool.main([str(path), '--out', str(tmp_path / 'new/plain.safetensors'), '--model', which])
    stored = load_file(tmp_path / 'new/plain.safetensors')
    assert stored.keys() == wanted.keys() and all(torch.equal(wanted[name], stored[name]) for name in stored)


def test_what_is_refused(tool, trained, tmp_path, capsys):
    path = trained[1]
    for flags, message in (('x.bin', 'expected a .safetensors or .pth file'), (str(path), 'is the checkpoint itself')):
        with pytest.raises(SystemExit):
            tool.main([str(path), '--out', flags])
        assert message in capsys.readouterr().err
    tool.main([str(path), '--out', str(tmp_path / 'plain.pth')])
    with pytest.raises(SystemExit, match='of a self-improving training; .* it has plain names already'):
        tool.main([str(tmp_path / 'plain.pth'), '--out', str(tmp_path / 'again.pth')])
    with pytest.raises(SystemExit, match='does not exist'):
        tool.main([str(tmp_path / 'none.pth'), '--out', str(tmp_path / 'again.pth')])
