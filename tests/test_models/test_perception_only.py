"""A backbone keeps neither VAE decoder nor text encoder: the same features, checkpoints fit."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_chain import chain_config, prepare

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.trained_weights import load_stored, stored_tensors
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.inference.generation import diffusion_for
from mmdiff2in1.models.checkpoints import load_weights, write_state

LET_GO = ('backbone.diffusion.text.', 'backbone.diffusion.vae.decoder.', 'backbone.diffusion.vae.post_quant_conv.')
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, tiny_diffusion_config):
    return prepare(tmp_path_factory.mktemp('only'), tiny_diffusion_config)


@pytest.fixture(autouse=True)
def mmseg_scope():
    from mmengine.registry import init_default_scope

    init_default_scope('mmseg')


def build(folder, regime='frozen', wrapped=False, **backbone):
    torch.manual_seed(0)
    model = chain_config(folder).model
    model.segmentor.backbone.update(**dict(regime=regime, creation=False) | backbone)
    return MODELS.build(model if wrapped else model.segmentor).eval()


@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_the_same_features_without_what_only_creates(folder, regime):
    whole, only = build(folder, regime, creation=True), build(folder, regime)
    names = set(whole.state_dict()) - set(only.state_dict())
    assert names == {name for name in whole.state_dict() if name.startswith(LET_GO)} and names
    for a, b in zip(whole.backbone(IMAGES), only.backbone(IMAGES), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(('regime', 'wrapped'), [('frozen', False), ('finetune', True)])
def test_checkpoints_of_both_kinds_fit_both(folder, tmp_path, regime, wrapped):
    whole, only = build(folder, regime, wrapped, creation=True), build(folder, regime, wrapped)
    for model in (whole, only):
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and '.text.' not in name and '.vae.' not in name:
                tensor.fill_(0.5)
    for model, kind in ((whole, 'whole'), (only, 'only')):
        write_state(tmp_path / f'{kind}.pth', {name: t.clone() for name, t in model.state_dict().items()})
    expected = whole.state_dict()
    for kind in ('whole', 'only'):
        for creation in (True, False):
            model = build(folder, regime, wrapped, creation=creation)
            load_weights(model, tmp_path / f'{kind}.pth')
            own = model.state_dict()
            assert all(torch.equal(own[name], expected[name]) for name in own)
            assert len(own) == len((whole if creation else only).state_dict())


def test_who_creates_gets_it_back(folder):
    cfg = Config(dict(model=dict(type='EncoderDecoder')))
    whole, only = build(folder, creation=True).backbone.diffusion, build(folder)
    for job in (
        lambda: only.backbone.diffusion.create(IMAGES, captions=['a ball'] * 2, seeds=[0, 1], T=100, num_calls=1),
        lambda: only.backbone.diffusion.decode(torch.zeros(1, 4, 16, 16)),
        lambda: only.backbone.diffusion.encode_text(['a ball']),
        lambda: only.backbone.diffusion.save_folder(folder / 'nothing'),
    ):
        with pytest.raises(ValueError, match='this model only perceives: its backbone keeps neither'):
            job()
    diffusion = diffusion_for(only, cfg, None)
    assert diffusion is only.backbone.diffusion
    assert diffusion.weights_hash() == whole.weights_hash()
    asked = dict(captions=['a ball'] * 2, seeds=[0, 1], T=100, num_calls=1)
    assert torch.equal(diffusion.create(IMAGES, **asked).images, whole.create(IMAGES, **asked).images)


def test_a_trained_unet_moves_into_a_whole_model(folder, tmp_path):
    only = build(folder, 'finetune')
    with torch.no_grad():
        only.backbone.diffusion.unet.conv_in.bias.fill_(3.0)
    write_state(tmp_path / 'only.safetensors', {n: t.clone() for n, t in only.state_dict().items()})
    (tmp_path / 'any.txt').touch()
    assert (tmp_path / 'only.safetensors').stat().st_mode == (tmp_path / 'any.txt').stat().st_mode
    whole = LatentDiffusion.from_pretrained(folder / 'weights')
    before = copy.deepcopy(whole.state_dict())
    load_stored(whole, stored_tensors(WeightFile(tmp_path / 'only.safetensors')), 'x')
    changed = [name for name, tensor in whole.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ['unet.conv_in.bias']


def test_what_it_saves_of_stable_diffusion():
    """`vpd_ade20k`: 123 million of the text encoder, 49 million of the decoder, of 1,066 million."""
    with torch.device('meta'):
        whole = LatentDiffusion.from_config(dict(architecture='stable-diffusion-1.5'))

    def numbers(module):
        return sum(p.numel() for p in module.parameters())

    before, text, decoder = numbers(whole), numbers(whole.text), numbers(whole.vae.decoder)
    bridge = numbers(whole.vae.post_quant_conv)
    whole.keep_perception()
    assert (before, text, decoder, bridge) == (1_066_235_307, 123_060_480, 49_490_179, 20)
    assert numbers(whole) == before - text - decoder - bridge
