"""MetaPrompts' checkpoints, made here from the module trees of its published code, into ours and back."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from metaprompts_reference import depth, in_metaprompts_names, segmentation_maps
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import MODELS
from tiny_metaprompts import depth_estimator, segmentor, trained
from tiny_stable_diffusion import stable_diffusion

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.metaprompts import MetaPromptsConverter
from mmdiff2in1.converters.to_diffusers import ToDiffusers
from mmdiff2in1.converters.vpd import VPD
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.models.checkpoints import load_weights

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'metaprompts.py'
CONFIGS = dict(segmentation=segmentor, depth=depth_estimator)
# Not stored in a file: the decoder and the text encoder; of depth the time embedding.
ADDED = {
    'segmentation': ('backbone.diffusion.text.', 'backbone.diffusion.vae.decoder.'),
    'depth': (
        'backbone.diffusion.text.',
        'backbone.diffusion.vae.decoder.',
        'backbone.diffusion.unet.time_embedding.',
    ),
}


def tool():
    spec = importlib.util.spec_from_file_location('metaprompts', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stable_diffusion')
    stable_diffusion(1).save_folder(folder)
    return folder


@pytest.fixture(scope='module', params=['segmentation', 'depth'])
def made(request, weights):
    """A trained segmentor of ours, and the same under MetaPrompts' names."""
    init_default_scope('mmseg')
    model = trained(CONFIGS[request.param](weights))
    with torch.no_grad():  # no training moves them; the others come from --diffusion
        model.backbone.diffusion.unet.time_embedding.load_state_dict(
            stable_diffusion(1).unet.time_embedding.state_dict()
        )
    yield SimpleNamespace(task=request.param, model=model, state=in_metaprompts_names(model, request.param))
    DefaultScope._instance_dict.clear()


def saved(state, path, task):
    """As the two trainings save."""
    torch.save(
        {'model' if task == 'depth' else 'state_dict': {k: v.clone() for k, v in state.items()}, 'meta': {}}, path
    )
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_there_and_back_tensor_for_tensor(made, weights, tmp_path, capsys):
    path = saved({f'module.{name}': value for name, value in made.state.items()}, tmp_path / 'their.pth', made.task)
    tool().main([str(path), '--diffusion', str(weights), '--out', str(tmp_path / 'ours.safetensors')])
    printed = capsys.readouterr().out
    assert f'MetaPrompts, {made.task}' in printed and 'num_prompts=6, passes=3' in printed
    assert ("rearrangement='joined'" in printed) == (made.task == 'depth')
    loaded = MODELS.build(CONFIGS[made.task](weights)).eval()
    load_weights(loaded, tmp_path / 'ours.safetensors')
    same(loaded.state_dict(), made.model.state_dict())

    converted = convert(MetaPromptsConverter(weights), path)
    (added,) = converted.added.values()
    assert all(name.startswith((*ADDED[made.task], 'backbone.diffusion.vae.post_quant_conv.')) for name in added)
    # Twice weight and bias of norm and convolution, for two passes.
    left = [name for names in converted.left_out.values() for name in names if 'cross_unet_conv' in name]
    assert len(left) == 8

    ours, back = tmp_path / 'ours.pth', tmp_path / 'back.pth'
    torch.save(dict(state_dict=made.model.state_dict(), meta={}), ours)
    tool().main([str(ours), '--diffusion', str(weights), '--out', str(back), '--to', 'theirs'])
    found = torch.load(back, weights_only=True)
    (key,) = {'model', 'state_dict'} & found.keys()
    assert key == ('model' if made.task == 'depth' else 'state_dict')
    unused = ('sd_model.', 'encoder_vq.post_quant_conv.', 'encoder.encoder_vq.post_quant_conv.')
    same(found[key], {name: value for name, value in made.state.items() if not name.startswith(unused)})


def test_the_converted_segmentor_computes_what_metaprompts_computes(made, weights, tmp_path):
    loaded = MODELS.build(CONFIGS[made.task](weights)).eval()
    path = saved(made.state, tmp_path / 'their.pth', made.task)
    loaded.load_state_dict(convert(MetaPromptsConverter(weights), path).state)
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        if made.task == 'depth':
            expected = depth(made.state, images, lambda width: 8, [1, 4], 8, 2)
            found = loaded.encode_decode(images, [dict(img_shape=(32, 48), ori_shape=(32, 48))])
        else:
            expected = segmentation_maps(made.state, images, lambda width: 8, [1, 4])[-1]
            found = loaded.backbone(images)[-1]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_the_trained_unet_goes_to_diffusers(made, weights, tmp_path):
    Config(dict(model=CONFIGS[made.task](weights), default_scope='mmseg')).dump(tmp_path / 'config.py')
    torch.save(dict(state_dict=made.model.state_dict(), meta={}), tmp_path / 'iter_1.pth')
    convert(ToDiffusers(tmp_path / 'config.py'), tmp_path / 'iter_1.pth', tmp_path / 'folder')
    found = LatentDiffusion.from_pretrained(tmp_path / 'folder').unet.state_dict()
    same(found, made.model.backbone.diffusion.unet.state_dict())


def test_faults_are_named(made, weights, tmp_path):
    start = 'encoder.' if made.task == 'depth' else ''
    state = dict(made.state)
    state[f'{start}cross_unet_conv3.2.bias'] = torch.ones(4)
    with pytest.raises(ValueError, match=r'cross_unet_conv3\.2\.bias: expected the tensors below .*out, which all'):
        convert(MetaPromptsConverter(weights), saved(state, tmp_path / 'other.pth', made.task))
    state = dict(made.state, stranger=torch.ones(1))
    del state[f'{start}t2']
    with pytest.raises(ValueError, match=f'without a place 1: stranger; missing 1: {start}t2'):
        convert(MetaPromptsConverter(weights), saved(state, tmp_path / 'strange.pth', made.task))
    path = saved(made.state, tmp_path / 'their.pth', made.task)
    with pytest.raises(ValueError, match='found a checkpoint of MetaPrompts, which mmdiff2in1 convert metaprompts'):
        convert(VPD(weights), path)
    torch.save({'unet.unet.diffusion_model.x': torch.ones(1), 'class_embeddings': torch.ones(1)}, path)
    with pytest.raises(ValueError, match='no checkpoint of MetaPrompts; found a checkpoint of VPD'):
        convert(MetaPromptsConverter(weights), path)
