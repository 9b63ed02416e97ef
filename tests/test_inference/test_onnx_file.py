"""A model as an ONNX file: onnxruntime computes what the inferencer does, from the file alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.__main__ import main
from mmdiff2in1.inference import Diff2in1Inferencer, onnx_file
from mmdiff2in1.inference.perception import logits_of
from mmdiff2in1.models.backbones.feature_config import feature_config

PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[100.0, 120.0, 140.0], std=[50.0, 60.0, 70.0], size=(16, 16))
CNN = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(PREPROCESSOR, bgr_to_rgb=True),
    backbone=dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,),
                  downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,)),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=3, in_index=-1),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
SEGFORMER = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(PREPROCESSOR, bgr_to_rgb=False, size=(32, 32)),
    backbone=dict(type='MixVisionTransformer', embed_dims=4, num_stages=2, num_layers=[1] * 2, num_heads=[1, 1],
                  patch_sizes=[7, 3], strides=[4, 2], sr_ratios=[2, 1], out_indices=(0, 1)),
    decode_head=dict(type='SegformerHead', in_channels=[4, 4], in_index=[0, 1], channels=8, num_classes=3,
                     norm_cfg=dict(type='BN'), align_corners=False),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
META = dict(classes=('floor', 'wall', 'red ball'), palette=[[150, 110, 70], [1, 2, 3], [200, 0, 9]])


def inferencer(model, **more):
    torch.manual_seed(0)
    cfg = Config(dict(model=model, default_scope='mmseg', test_dataloader=dict(dataset=dict(metainfo=META))) | more)
    built = Diff2in1Inferencer(cfg, device='cpu')
    generator = torch.Generator().manual_seed(1)
    for name, buffer in built.segmentor.named_buffers():  # statistics that a training would leave
        if name.endswith(('running_mean', 'running_var')):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return built


def images(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def outputs(path, batch):
    """What a user of the file alone computes of uint8 RGB images (B, H, W, 3)."""
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {'image': batch.transpose(0, 3, 1, 2).astype(np.float32)})
    return dict(zip(names, found, strict=True)), session


@pytest.fixture
def packages():
    for name in onnx_file.PACKAGES:
        pytest.importorskip(name)


@pytest.mark.slow
@pytest.mark.parametrize('model', [CNN, SEGFORMER], ids=['cnn', 'segformer'])
def test_the_file_computes_the_logits_of_the_inferencer_at_free_sizes(model, packages, tmp_path):
    """Through the inferencer's own way, BGR and the data preprocessor, which the graph has inside."""
    built = inferencer(model)
    written = built.save_onnx(tmp_path / 'a.onnx', free_size=True)
    assert [file.name for file in tmp_path.iterdir()] == ['a.onnx'] and written.files == (tmp_path / 'a.onnx',)
    side = model['data_preprocessor']['size'][0]
    assert [each.shape for each in written.checks] == [(1, 3, side, side), (3, 3, side, side), (2, 3, 2 * side, side)]
    for batch in (images(1, side, side), images(5, 2 * side, 3 * side)):
        expected = torch.cat(logits_of(built.segmentor, built._pipeline, list(batch))).numpy()
        found, session = outputs(tmp_path / 'a.onnx', batch)
        np.testing.assert_allclose(found['semantic_segmentation'], expected, rtol=1e-4, atol=1e-4)
        assert np.ptp(expected) > 0.1  # there is something to be equal in
    assert [each.shape for each in session.get_inputs()] == [['batch', 3, 'height', 'width']]
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta['classes']) == {'semantic_segmentation': list(META['classes'])}


@pytest.mark.slow
def test_a_frozen_unet_is_exported_in_float32_at_a_fixed_size_that_it_pads(packages, tiny_diffusion_config, tmp_path):
    """Fixed timestep, fixed class tokens, class maps, the posterior's mode; 28 is no multiple of 8."""
    feature = dict(preset='vpd', prompt='class_names', timestep=50)
    classes = ['floor', 'wall', 'ball']
    backbone = dict(
        type='DiffusionBackbone', diffusion=tiny_diffusion_config, classes=classes, feature=feature, bf16=True
    )
    neck = dict(type='FPN', in_channels=[8, 16 + 3, 16 + 3], out_channels=8, num_outs=3)
    head = dict(type='FPNHead', in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8,
                num_classes=3, norm_cfg=dict(type='BN'), align_corners=False)  # fmt: skip
    preprocessor = dict(PREPROCESSOR, mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
    head = dict(type='GenerativeDecodeHead', head=head)
    built = inferencer(dict(CNN, data_preprocessor=preprocessor, backbone=backbone, neck=neck, decode_head=head))
    built.save_onnx(tmp_path / 'a.onnx', size=(28, 32))
    assert built.segmentor.backbone.bf16 is True
    built.segmentor.backbone.bf16 = False
    batch = images(2, 28, 32)
    found, _ = outputs(tmp_path / 'a.onnx', batch)
    expected = torch.cat(logits_of(built.segmentor, built._pipeline, list(batch))).numpy()
    difference = np.abs(found['semantic_segmentation'] - expected).max()
    assert difference < 1e-4 * np.abs(expected).max() and expected.shape == (2, 3, 28, 32)


@pytest.mark.slow
def test_outputs_of_other_tasks_are_their_maps(packages, tmp_path):
    """Depth in metres up to the most, normals of unit length."""
    tasks = dict(depth=dict(type='Depth', max_depth=4.0), normal=dict(type='SurfaceNormal'))
    layers = dict(type='FCNHead', in_channels=4, channels=4, in_index=-1, num_convs=1)
    each = {name: dict(type='DenseTaskHead', head=layers, task=task) for name, task in tasks.items()}
    heads = dict(type='TaskHeads', tasks=tasks, heads=each)
    built = inferencer(CNN | dict(type='DenseEstimator', task=tasks, decode_head=heads))
    built.save_onnx(tmp_path / 'a.onnx')
    batch = images(2, 16, 16)
    found, _ = outputs(tmp_path / 'a.onnx', batch)
    seen = built(list(batch))
    for number, one in enumerate(seen):
        np.testing.assert_allclose(found['depth'][number, 0], one.maps['depth'].map, atol=1e-4)
        np.testing.assert_allclose(found['normal'][number].transpose(1, 2, 0), one.maps['normal'].map, atol=1e-4)
    assert 0 < found['depth'].max() <= 4
    np.testing.assert_allclose(np.linalg.norm(found['normal'], axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_an_operation_that_onnx_has_not_is_named_and_nothing_is_left(packages, tmp_path):
    @MODELS.register_module(force=True)
    class Bessel(torch.nn.Module):
        def forward(self, maps):
            return tuple(map(torch.special.bessel_j0, maps))

    built = inferencer(CNN | dict(neck=dict(type='Bessel')))
    with pytest.raises(ValueError, match='EncoderDecoder with UNet cannot .*ONNX has nothing for .*bessel_j0$'):
        built.save_onnx(tmp_path / 'a.onnx')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_other_maps_than_those_of_torch_are_an_error(packages, tmp_path):
    """The comparison of a file that computes something else: the model has changed since."""
    built = inferencer(CNN)
    model = onnx_file._Perceiving(built.segmentor, built.tasks)
    with torch.no_grad():
        onnx_file._export(model, tmp_path / 'a.onnx', (16, 16), False, {})
        assert onnx_file._checked(model, tmp_path / 'a.onnx', (1, 16, 16), (16, 16)).difference < 1e-4
        built.segmentor.decode_head.conv_seg.bias += 0.1
        with pytest.raises(ValueError, match=r'differ by 0\.1 .* images 1×3×16×16$'):
            onnx_file._checked(model, tmp_path / 'a.onnx', (1, 16, 16), (16, 16))


@pytest.mark.parametrize(
    ('changes', 'asked', 'message'),
    [
        ({}, dict(path=Path('a.pth')), 'found .pth, expected .onnx'),
        (dict(data_preprocessor=dict(PREPROCESSOR, size=None)), {}, 'names no size; give --size HEIGHT WIDTH'),
        (
            dict(data_preprocessor=dict(PREPROCESSOR, test_cfg=dict(size_divisor=32))),
            {},
            'pads 16×16 to 32×32, .* give --size 32 32',
        ),
        (
            dict(test_cfg=dict(mode='slide', crop_size=(16, 16), stride=(8, 8))),
            dict(size=(32, 16)),
            'sliding windows, and the graph holds one: give --size 16 16',
        ),
        (
            dict(test_cfg=dict(mode='slide', crop_size=(16, 16), stride=(8, 8))),
            dict(free_size=True),
            'without --free-size',
        ),
    ],
)
def test_what_cannot_be_exported_is_said_before_the_export(changes, asked, message, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, 'check_packages', lambda: None)
    given = dict(path=tmp_path / 'a.onnx') | asked
    with pytest.raises(ValueError, match=message):
        inferencer(CNN | changes).save_onnx(**given)


def test_a_backbone_that_draws_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, 'check_packages', lambda: None)
    built = inferencer(CNN)
    built.segmentor.backbone.feature = feature_config('released')
    with pytest.raises(ValueError, match=r"draws random numbers \(posterior='sample', noise=True of its feature\)"):
        built.save_onnx(tmp_path / 'a.onnx')


def test_a_missing_package_is_named_before_the_checkpoint_is_read(monkeypatch, tmp_path):
    found = onnx_file.importlib.util.find_spec
    gone, empty = ('onnxruntime', 'onnxscript'), tmp_path / 'empty.pth'
    empty.touch()
    monkeypatch.setattr(onnx_file.importlib.util, 'find_spec', lambda name: None if name in gone else found('json'))
    with pytest.raises(SystemExit, match=r'needs onnxruntime and onnxscript, which are not .*"mmdiff2in1\[onnx\]"'):
        main(['export', str(empty), '--config', 'unet_scenes', '--onnx', 'a.onnx'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--onnx', 'a.onnx'], '--onnx needs --config'),
        (['--out', 'a.pth', '--size', '8', '8'], '--size belongs to --onnx, not to --out'),
        (['--folder', 'a', '--config', 'b.py', '--free-size'], '--free-size belongs to --onnx, not to --folder'),
        (['--onnx', 'a.onnx', '--config', 'b.py', '--note', 'x'], '--note belongs to --folder, not to --onnx'),
    ],
)
def test_options_have_their_places(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(['export', 'a.pth', *arguments])
    assert message in capsys.readouterr().err
