"""tools/model_converters on narrow models of Stable Diffusion's kinds of layers.

VPD's files are made here, from the module trees of its published code: K classes, D width of a token.
"""

import importlib.util
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from ldm_names import ldm_names, unet_names, vae_names
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from safetensors.torch import load_file, save_file
from tiny_stable_diffusion import SCHEDULE, stable_diffusion
from transformers import CLIPTextConfig, CLIPTextModel
from vpd_reference import vpd_features

import mmdiff2in1.components  # noqa: F401
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.ldm_rules import UNET, VAE
from mmdiff2in1.converters.rules import Layout
from mmdiff2in1.converters.to_diffusers import ToDiffusers
from mmdiff2in1.converters.vpd import VPD
from mmdiff2in1.generators import LatentDiffusion, NoiseSchedule
from mmdiff2in1.generators.text import CaptionEncoder
from mmdiff2in1.generators.tokenizer import clip_tokenizer
from mmdiff2in1.models.backbones.text_adapter import TextAdapter
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.models.decode_heads import vpd_depth_head  # noqa: F401
from mmdiff2in1.models.losses import scale_invariant_log  # noqa: F401
from mmdiff2in1.models.segmentors import scene_conditioned  # noqa: F401

ROOT = Path(__file__).parents[2]
K, WIDTHS, CHANNELS = 5, (32, 64, 128), 16
SCHEDULE_BUFFERS = ('betas', 'alphas_cumprod', 'sqrt_alphas_cumprod', 'posterior_mean_coef1')


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / 'model_converters' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The Stable Diffusion that VPD is trained from."""
    folder = tmp_path_factory.mktemp('stable_diffusion')
    stable_diffusion(1).save_folder(folder)
    return folder


@pytest.fixture(scope='module')
def deep_weights(tmp_path_factory):
    """With four levels, as VPD's depth head needs."""
    made = stable_diffusion(1)
    torch.manual_seed(4)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64, 64), layers_per_block=2, cross_attention_dim=64, attention_head_dim=8
    )  # fmt: skip
    folder = tmp_path_factory.mktemp('deep')
    LatentDiffusion(made.vae, unet, made.text, made.schedule).save_folder(folder)
    return folder


def backbone(weights, classes=K, **feature):
    return dict(
        type='DiffusionBackbone',
        diffusion=str(weights),
        classes=[f'thing {i}' for i in range(classes)],
        feature=dict(preset='vpd', **feature),
        regime='finetune',
        text_adapter=True,
    )


def segmentor(weights, classes=K):
    head = dict(
        type='FPNHead', in_channels=[CHANNELS] * 3, in_index=[0, 1, 2], feature_strides=[4, 8, 16], channels=CHANNELS,
        num_classes=classes, dropout_ratio=0.1, norm_cfg=dict(type='SyncBN'), align_corners=False,
    )  # fmt: skip
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
        backbone=backbone(weights, classes, map_levels=(1,)),
        neck=dict(
            type='FPN', in_channels=[32, 64 + classes, 128], out_channels=CHANNELS, num_outs=3
        ),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


def depth_estimator(weights, classes=1):
    head = dict(
        type='VPDDepthHead', in_channels=[32, 64, 64, 64], embed_dim=16, feature_dim=128, num_deconv_filters=(8, 8, 8)
    )
    return dict(
        type='DepthEstimator',
        backbone=backbone(weights, classes, map_levels=()),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    )


def trained(config):
    """A segmentor that has moved away from where it began: the U-Net, the adapter, the head's running averages."""
    model = MODELS.build(config).eval()
    torch.manual_seed(7)
    for name, tensor in model.state_dict().items():
        if 'vae' not in name and 'diffusion.text' not in name and tensor.is_floating_point():
            noise = torch.rand_like(tensor)
            tensor.copy_(noise + 0.5 if 'running_var' in name else tensor + 0.1 * (noise - 0.5))
    return model


def in_vpd_names(model, task):
    """The inverse of the converter: what VPD's training would have saved."""
    start = 'encoder.' if task == 'depth' else ''
    diffusion, adapter = model.backbone.diffusion, model.backbone.text_adapter
    unet = {name.removeprefix('model.'): value for name, value in unet_names(diffusion.unet).items()}
    if task == 'depth':
        unet = {name: value for name, value in unet.items() if not name.startswith('diffusion_model.out.')}
    vae = {name.removeprefix('first_stage_model.'): value for name, value in vae_names(diffusion.vae).items()}
    state = {f'{start}unet.unet.{name}': value for name, value in unet.items()}
    state |= {f'{start}encoder_vq.{name}': value for name, value in vae.items() if not name.startswith('decoder.')}
    state |= {f'{start}class_embeddings': model.backbone.tokens, f'{start}gamma': adapter.gamma.data}
    state |= {f'{start}text_adapter.fc.{name}': value for name, value in adapter.mlp.state_dict().items()}
    head = model.decode_head.head.state_dict()
    if task == 'segmentation':
        state |= {f'sd_model.{name}': torch.rand(1000) for name in SCHEDULE_BUFFERS}
        state |= {f'neck.{name}': value for name, value in model.neck.state_dict().items()}
        return state | {f'decode_head.{name}': value for name, value in head.items()}
    old = {
        'conv1.': 'encoder.layer1.', 'conv2.': 'encoder.layer2.0.', 'conv_aggregation.': 'encoder.out_layer.',
        'decoder.': 'decoder.', 'depth_pred_layer.': 'last_layer_depth.',
    }  # fmt: skip
    for name, value in head.items():
        (new,) = (there + name.removeprefix(here) for here, there in old.items() if name.startswith(here))
        state[new] = value
    return state


def saved(state, path, task='segmentation'):
    """As the two trainings save: with the state of the optimizer and, for depth, the parsed arguments beside it."""
    state = {name: value.clone() for name, value in state.items()}
    if path.suffix == '.safetensors':
        save_file(state, path)
    elif task == 'depth':
        torch.save(dict(model=state, optimizer={}, epoch=25, args=Namespace(batch_size=3)), path)
    else:
        torch.save(dict(state_dict=state, meta=dict(CLASSES=('wall', 'sky'), mmcv_version='1.7.1'), optimizer={}), path)
    return path


@pytest.fixture(scope='module')
def vpd(weights):
    """A trained segmentor of ours, and the same under VPD's names."""
    init_default_scope('mmseg')
    model = trained(segmentor(weights))
    DefaultScope._instance_dict.clear()
    return SimpleNamespace(model=model, state=in_vpd_names(model, 'segmentation'))


@pytest.fixture(scope='module')
def vpd_depth(deep_weights):
    init_default_scope('mmseg')
    model = trained(depth_estimator(deep_weights))
    DefaultScope._instance_dict.clear()
    return SimpleNamespace(model=model, state=in_vpd_names(model, 'depth'))


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


# Segmentation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('written', 'prefix'), [('out.safetensors', ''), ('out.pth', 'module.')])
def test_a_segmentation_checkpoint_comes_back_tensor_for_tensor(tmp_path, capsys, weights, vpd, written, prefix):
    path = saved({prefix + name: value for name, value in vpd.state.items()}, tmp_path / 'vpd.pth')
    tool('vpd').main([str(path), '--diffusion', str(weights), '--out', str(tmp_path / 'made' / written)])
    printed = capsys.readouterr().out
    unet = sum(p.numel() for p in vpd.model.backbone.diffusion.unet.parameters())
    assert 'VPD, segmentation' in printed and f'{unet:,}  CHECKPOINT' in printed
    assert 'left out, not needed here: 4 tensors ' in printed  # four buffers; weight and bias of post_quant_conv
    assert 'map_levels=(1,)' in printed and 'in_channels=[32, 69, 128]' in printed and 'num_classes=5' in printed
    loaded = MODELS.build(segmentor(weights)).eval()
    load_weights(loaded, tmp_path / 'made' / written)
    assert_same_state(loaded.state_dict(), vpd.model.state_dict())
    assert [p.name for p in (tmp_path / 'made').iterdir()] == [written]
    images = torch.rand(2, 3, 48, 32) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded(images), vpd.model(images))


def test_what_vpd_did_not_store_comes_from_the_diffusion_model(tmp_path, vpd):
    path, weights = saved(vpd.state, tmp_path / 'vpd.safetensors'), tmp_path / 'sd'
    whole = stable_diffusion(1, whole=True)
    whole.save_folder(weights)
    converted = convert(VPD(weights), path)
    assert converted.settings['task'] == 'segmentation' and converted.settings['vae_difference'] == 0
    of_diffusion = LatentDiffusion.from_pretrained(weights).state_dict(prefix='backbone.diffusion.')
    starts = ('backbone.diffusion.text.', 'backbone.diffusion.vae.decoder.', 'backbone.diffusion.vae.post_quant_conv.')
    (taken,) = converted.added.values()
    assert set(taken) == {name for name in of_diffusion if name.startswith(starts)}
    assert_same_state({name: converted.state[name] for name in taken}, {name: of_diffusion[name] for name in taken})
    # The file of the same model in the original layout serves as well.
    save_file({name: value.contiguous() for name, value in ldm_names(whole).items()}, tmp_path / 'sd.safetensors')
    assert_same_state(convert(VPD(tmp_path / 'sd.safetensors'), path).state, converted.state)


def reference_logits(state, images):
    """VPD, written out on its own names: features, FPN (Lin et al., 2017), Semantic FPN (Kirillov et al., 2019)."""
    tokens = adapted_tokens(state, '')
    features = vpd_features(original_names(state, ''), images, tokens, lambda width: 8, [1, 4], [images.shape[-1] // 4])
    laterals = [convolved(state, f'neck.lateral_convs.{i}.conv', x) for i, x in enumerate(features)]
    for i in (1, 0):
        laterals[i] = laterals[i] + F.interpolate(laterals[i + 1], size=laterals[i].shape[-2:], mode='nearest')
    total = 0
    for i, lateral in enumerate(laterals):
        x = convolved(state, f'neck.fpn_convs.{i}.conv', lateral)
        for j in range(max(1, i)):  # a convolution for every doubling; every second layer is the doubling
            own = f'decode_head.scale_heads.{i}.{2 * j}'
            x = F.conv2d(x, state[f'{own}.conv.weight'], padding=1)
            x = F.relu(normalised(state, f'{own}.bn', x))
            if i:
                x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        total = total + x
    return convolved(state, 'decode_head.conv_seg', total)


def adapted_tokens(state, start):
    hidden = F.gelu(F.linear(state[f'{start}class_embeddings'], *weight_and_bias(state, f'{start}text_adapter.fc.0')))
    moved = F.linear(hidden, *weight_and_bias(state, f'{start}text_adapter.fc.2'))
    return state[f'{start}class_embeddings'] + state[f'{start}gamma'] * moved


def original_names(state, start):
    return {
        name.replace(f'{start}unet.unet.', 'model.', 1).replace(f'{start}encoder_vq.', 'first_stage_model.', 1): value
        for name, value in state.items()
    }


def weight_and_bias(state, name):
    return state[f'{name}.weight'], state[f'{name}.bias']


def convolved(state, name, x, **options):
    weight, bias = weight_and_bias(state, name)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, **options)


def normalised(state, name, x):
    return F.batch_norm(x, state[f'{name}.running_mean'], state[f'{name}.running_var'], *weight_and_bias(state, name))


def test_the_converted_segmentor_computes_what_vpd_computes(tmp_path, weights, vpd):
    loaded = MODELS.build(segmentor(weights)).eval()
    loaded.load_state_dict(convert(VPD(weights), saved(vpd.state, tmp_path / 'vpd.pth')).state)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        expected = reference_logits(vpd.state, images)
        assert expected.std() > 0.1  # worth comparing
        torch.testing.assert_close(loaded(images), expected, atol=1e-4, rtol=1e-4)
    # Another segmentor is something else.
    other = MODELS.build(segmentor(weights)).eval()
    with torch.no_grad():
        assert (other(images) - expected).abs().max() > 0.1


def test_the_names_of_the_full_size_go_there_and_back():
    with torch.device('meta'):
        unet, vae = UNet2DConditionModel(cross_attention_dim=768), AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=('DownEncoderBlock2D',) * 4,
            up_block_types=('UpDecoderBlock2D',) * 4,
            layers_per_block=2,
            latent_channels=4,
        )  # fmt: skip
    tables = dict(unet=Layout(UNET), vae=Layout(VAE))
    for part, model, original, count in (('unet', unet, unet_names, 686), ('vae', vae, vae_names, 248)):
        start = {'unet': 'model.diffusion_model.', 'vae': 'first_stage_model.'}[part]
        theirs = {name.removeprefix(start): value for name, value in original(model).items()}
        state = model.state_dict()
        pairs = dict(zip(state, theirs, strict=True))
        assert len(pairs) == count
        decoder = {name for name in theirs if name.startswith('decoder.')}  # VPD's files have none
        assert {tables[part].place(name) for name in decoder} <= {None}
        for ours, name in pairs.items():
            place = None if name in decoder else tables[part].place(name)
            assert (place and place.names) == (None if name in decoder else (ours,))
            assert tables[part].theirs(ours) == (None if name in decoder else name)
            if place:
                (piece,) = place.rule.apart(theirs[name])
                assert piece.shape == state[ours].shape
                assert place.rule.together([piece]).shape == theirs[name].shape
        assert len(theirs) - len(decoder) == {'unet': 686, 'vae': 110}[part]
        assert tables[part].place('stranger.weight') is tables[part].theirs('stranger.weight') is None


def full_size(task, classes, **head):
    """Our parts of the published size as a model of them, without numbers."""
    with torch.device('meta'):
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072))
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=('DownEncoderBlock2D',) * 4,
            up_block_types=('UpDecoderBlock2D',) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        adapter = TextAdapter(768)
        tokens = torch.empty(classes, 768)
        neck = None
        if task == 'segmentation':
            neck = MODELS.build(dict(type='FPN', in_channels=[320, 790, 1430, 1280], out_channels=256, num_outs=4))
        built = MODELS.build(head)
    tokenizer = clip_tokenizer('<|endoftext|>', 77)
    diffusion = LatentDiffusion(vae, unet, CaptionEncoder(text, tokenizer), NoiseSchedule(SCHEDULE))
    backbone = SimpleNamespace(diffusion=diffusion, text_adapter=adapter, tokens=tokens)
    return SimpleNamespace(backbone=backbone, neck=neck, decode_head=SimpleNamespace(head=built))


SEGMENTATION = dict(
    type='FPNHead', in_channels=[256] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=256,
    num_classes=150, norm_cfg=dict(type='BN'),
)  # fmt: skip
DEPTH = dict(type='VPDDepthHead', in_channels=[320, 640, 1280, 1280], embed_dim=192, feature_dim=1536)


@pytest.mark.parametrize(
    ('task', 'classes', 'head', 'gone'),
    [
        ('segmentation', 150, SEGMENTATION, r'(sd_model|encoder_vq\.post_quant_conv)\..+'),
        ('depth', 27, DEPTH, r'encoder\.encoder_vq\.post_quant_conv\..+'),
    ],
)
def test_the_published_size_goes_there_and_back(monkeypatch, task, classes, head, gone):
    monkeypatch.setattr('mmdiff2in1.converters.vpd.vae_difference', lambda *_: 0.0)  # there are no numbers
    model = full_size(task, classes, **head)
    state = in_vpd_names(model, task)
    converter = VPD(model.backbone.diffusion)
    ours = converter.to_ours(state)
    assert ours.settings['task'] == task and ours.settings['classes'] == classes
    parts = model.backbone.diffusion.state_dict(prefix='backbone.diffusion.')
    parts |= {f'backbone.text_adapter.{name}': v for name, v in model.backbone.text_adapter.state_dict().items()}
    parts |= {f'decode_head.head.{name}': value for name, value in model.decode_head.head.state_dict().items()}
    if model.neck:
        parts |= {f'neck.{name}': value for name, value in model.neck.state_dict().items()}
        assert ours.settings['widths'] == [320, 790, 1430, 1280] and ours.settings['map_levels'] == (1, 2)
    assert shapes_of(ours.state) == shapes_of(parts | {'backbone.tokens': model.backbone.tokens})
    back = converter.to_theirs(ours.state)
    assert shapes_of(back.state) == shapes_of({n: v for n, v in state.items() if not re.fullmatch(gone, n)})
    assert back.places == {place: (name,) for name, (place,) in ours.places.items()}
    assert {*ours.state} == {*back.places}.union(*back.left_out.values()), 'what is left out is what was added'


def shapes_of(state):
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize('task', ['segmentation', 'depth'])
def test_the_way_back_writes_their_file(tmp_path, capsys, weights, deep_weights, vpd, vpd_depth, task):
    state, diffusion = (vpd.state, weights) if task == 'segmentation' else (vpd_depth.state, deep_weights)
    path = saved(state, tmp_path / 'vpd.pth', task)
    arguments = ['--diffusion', str(diffusion), '--out']
    tool('vpd').main([str(path), *arguments, str(tmp_path / 'ours.safetensors')])
    capsys.readouterr()
    tool('vpd').main([str(tmp_path / 'ours.safetensors'), *arguments, str(tmp_path / 'back.pth'), '--to', 'theirs'])
    printed = capsys.readouterr().out
    assert "2 tensors of the VAE's way back to pixels" in printed and 'of Stable Diffusion itself' in printed
    written = torch.load(tmp_path / 'back.pth', weights_only=True)
    assert list(written) == (['state_dict', 'meta'] if task == 'segmentation' else ['model'])
    kept = {n: v for n, v in state.items() if 'post_quant_conv' not in n and not n.startswith('sd_model.')}
    assert_same_state(next(iter(written.values())), kept)


# Faults -----------------------------------------------------------------------------------------------------------


def with_fault(vpd, fault):
    state = dict(vpd.state)
    if fault == 'unknown in the U-Net':
        state['unet.unet.diffusion_model.input_blocks.1.0.extra.weight'] = torch.ones(2)
    elif fault == 'unknown beside it':
        state['auxiliary_head.conv_seg.weight'] = torch.ones(2, 2, 1, 1)
    elif fault == 'unknown in the head':
        state['decode_head.scale_heads.1.3.conv.weight'] = torch.ones(2, 2, 1, 1)
    elif fault == 'missing in the U-Net':
        del state['unet.unet.diffusion_model.middle_block.1.proj_in.bias']
        del state['unet.unet.diffusion_model.out.2.bias']
    elif fault == 'missing down':
        del state['unet.unet.diffusion_model.input_blocks.3.0.op.bias']
    elif fault == 'missing in the VAE':
        del state['encoder_vq.quant_conv.bias']
    elif fault == 'missing in the head':
        del state['decode_head.scale_heads.2.2.bn.running_mean']
    elif fault == 'missing head':
        state = {name: value for name, value in state.items() if not name.startswith('decode_head.scale_heads.2.')}
    elif fault == 'missing in the adapter':
        del state['text_adapter.fc.2.bias']
    elif fault == 'missing gamma and classes':
        del state['class_embeddings'], state['gamma']
    elif fault == 'missing neck':
        state = {name: value for name, value in state.items() if not name.startswith('neck.')}
    elif fault == 'classes of the head':
        state['decode_head.conv_seg.weight'] = torch.ones(K + 1, CHANNELS, 1, 1)
        state['decode_head.conv_seg.bias'] = torch.ones(K + 1)
    elif fault == 'classes of the maps':
        state['neck.lateral_convs.1.conv.weight'] = torch.ones(CHANNELS, 64 + K + 1, 1, 1)
    return state


@pytest.mark.parametrize(
    ('fault', 'expected'),
    [
        ('unknown in the U-Net', r'without a place 1: unet\.unet\.diffusion_model\.input_blocks\.1\.0\.extra\.weight'),
        ('unknown beside it', r'without a place 1: auxiliary_head\.conv_seg\.weight'),
        ('unknown in the head', r'without a place 1: decode_head\.scale_heads\.1\.3\.conv\.weight'),
        ('missing in the U-Net', r'missing 2: .*\.middle_block\.1\.proj_in\.bias, unet\..*\.out\.2\.bias'),
        ('missing down', r'missing 1: unet\.unet\.diffusion_model\.input_blocks\.3\.0\.op\.bias'),
        ('missing in the VAE', r'missing 1: encoder_vq\.quant_conv\.bias'),
        ('missing in the head', r'missing 1: decode_head\.scale_heads\.2\.2\.bn\.running_mean'),
        ('missing head', r'is missing: decode_head\.scale_heads\.2\.0\.conv\.weight'),
        ('missing in the adapter', r'missing 1: text_adapter\.fc\.2\.bias'),
        ('missing gamma and classes', r'is missing: class_embeddings'),
        ('missing neck', r'is missing: neck\.lateral_convs\.0\.conv\.weight'),
        ('classes of the head', 'there are embeddings of 5 classes, and the head predicts 6'),
        ('classes of the maps', r'the neck takes \[32, 70, 128\] channels; .* gives \[32, 64, 128\], .* of 5 classes'),
    ],
)
def test_a_tensor_too_many_or_too_few_is_named(tmp_path, weights, vpd, fault, expected):
    path = saved(with_fault(vpd, fault), tmp_path / 'vpd.pth')
    with pytest.raises(ValueError, match=expected):
        convert(VPD(weights), path)


def test_other_files_are_recognised(tmp_path, weights, vpd):
    path = saved(vpd.state, tmp_path / 'vpd.pth')
    with pytest.raises(ValueError, match='a segmentation checkpoint of VPD, and depth was asked for'):
        convert(VPD(weights, 'depth'), path)
    for name, kind in (
        ('model.diffusion_model.out.2.bias', 'Stable Diffusion itself'),
        ('backbone.diffusion.unet.conv_in.bias', 'a checkpoint of mmdiff2in1'),
        ('backbone.layer1.0.bias', 'another layout'),
    ):
        save_file({name: torch.zeros(1)}, tmp_path / 'other.safetensors')
        with pytest.raises(ValueError, match=f'is no checkpoint of VPD; found {kind}'):
            convert(VPD(weights), tmp_path / 'other.safetensors')
    with pytest.raises(FileNotFoundError):
        convert(VPD(weights), tmp_path / 'nothing.pth')
    damaged = tmp_path / 'damaged.pth'
    damaged.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r'damaged\.pth cannot be read'):
        convert(VPD(weights), damaged)


def test_another_diffusion_model_is_refused_and_another_vae_is_reported(tmp_path, weights, deep_weights, vpd, capsys):
    path = saved(vpd.state, tmp_path / 'vpd.pth')
    stable_diffusion(2).save_folder(tmp_path / 'sd2')
    for other in (tmp_path / 'sd2', deep_weights):
        with pytest.raises(ValueError, match='Is it the Stable Diffusion that VPD was trained from'):
            convert(VPD(other), path)
    made = LatentDiffusion.from_pretrained(weights)
    made.vae.encoder.conv_in.bias.data[3] += 0.1 * made.vae.encoder.conv_in.bias.abs().max()
    made.save_folder(tmp_path / 'other_vae')
    tool('vpd').main([str(path), '--diffusion', str(tmp_path / 'other_vae'), '--out', str(tmp_path / 'out.pth')])
    assert 'WARNING: that is another VAE, and VPD never trains it' in capsys.readouterr().out
    converted = convert(VPD(tmp_path / 'other_vae'), path)
    assert 0.05 < converted.settings['vae_difference'] < 0.2
    name = 'backbone.diffusion.vae.encoder.conv_in.bias'
    assert torch.equal(converted.state[name], vpd.state['encoder_vq.encoder.conv_in.bias'])
    # Stored in half precision it is still the same VAE.
    LatentDiffusion.from_pretrained(weights).save_folder(tmp_path / 'half', torch.float16)
    again = [str(path), '--diffusion', str(tmp_path / 'half'), '--out', str(tmp_path / 'out.pth')]
    with pytest.raises(SystemExit, match='out.pth is there already; name another place, or add --overwrite'):
        tool('vpd').main(again)
    tool('vpd').main([*again, '--overwrite'])
    assert 'WARNING' not in capsys.readouterr().out
    assert 1e-5 < convert(VPD(tmp_path / 'half'), path).settings['vae_difference'] < 2e-3


def test_the_command_line_refuses_before_it_reads(tmp_path, weights, capsys):
    main = tool('vpd').main
    for arguments, expected in (
        (['vpd.pth', '--diffusion', str(weights), '--out', 'out.bin'], 'expected a .safetensors or .pth file'),
        (['vpd.pth', '--diffusion', str(weights), '--out', './vpd.pth'], 'is the checkpoint itself'),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit, match='no such file of weights'):
        main([str(tmp_path / 'vpd.pth'), '--diffusion', str(weights), '--out', str(tmp_path / 'out.pth')])


# Depth ------------------------------------------------------------------------------------------------------------


def reference_depth(state, images, max_depth=10.0, border=0):
    """VPD's depth model on its own names: encoder, cells cut off, deconvolutions, two doublings, sigmoid."""
    tokens = adapted_tokens(state, 'encoder.')
    features = vpd_features(original_names(state, 'encoder.'), images, tokens, lambda width: 8, [1, 4, 7], [])

    def strided(name, x):
        return F.conv2d(x, *weight_and_bias(state, name), stride=2, padding=1)

    def grouped(name, x):
        return F.relu(F.group_norm(x, 16, *weight_and_bias(state, name)))

    first = strided('encoder.layer1.3', grouped('encoder.layer1.1', strided('encoder.layer1.0', features[0])))
    second = strided('encoder.layer2.0', features[1])
    coarsest = F.interpolate(features[3], scale_factor=2)
    x = torch.cat([first, second, features[2], coarsest], 1)
    x = grouped('encoder.out_layer.1', convolved(state, 'encoder.out_layer.0', x))
    x = x[..., : x.shape[-2] - border, : x.shape[-1] - border]
    for i in (0, 3, 6):
        x = F.conv_transpose2d(x, state[f'decoder.deconv_layers.{i}.weight'], stride=2)
        x = F.relu(normalised(state, f'decoder.deconv_layers.{i + 1}', x))
    x = F.relu(normalised(state, 'decoder.conv_layers.1', convolved(state, 'decoder.conv_layers.0', x)))
    for _ in range(2):
        x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    x = convolved(state, 'last_layer_depth.2', F.relu(convolved(state, 'last_layer_depth.0', x)))
    return torch.sigmoid(x) * max_depth


def test_a_depth_checkpoint_gives_the_depth_of_vpd(tmp_path, capsys, deep_weights, vpd_depth):
    """With one scene class there is one token, as VPD shows it."""
    path = saved(vpd_depth.state, tmp_path / 'vpd.pth', 'depth')
    out = tmp_path / 'out.safetensors'
    tool('vpd').main([str(path), '--diffusion', str(deep_weights), '--out', str(out), '--task', 'depth'])
    printed = capsys.readouterr().out
    assert 'VPD, depth' in printed and 'VPDDepthDecodeHead, in_channels=[32, 64, 64, 64]' in printed
    assert "feature=dict(preset='vpd_depth')" in printed and 'SceneConditionedEstimator; category_id 0 … 0' in printed
    loaded = MODELS.build(depth_estimator(deep_weights)).eval()
    load_weights(loaded, out)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        found, expected = loaded(images), reference_depth(vpd_depth.state, images)
    assert expected.std() > 5e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # VPD has deleted the last layers of its U-Net: they are those of the diffusion model, the rest is the trained one.
    of_model, of_file = vpd_depth.model.state_dict(), load_file(out)
    pretrained = LatentDiffusion.from_pretrained(deep_weights).unet.state_dict()
    last = [f'{layer}.{kind}' for layer in ('conv_norm_out', 'conv_out') for kind in ('weight', 'bias')]
    for name in last:
        assert torch.equal(of_file.pop(f'backbone.diffusion.unet.{name}'), pretrained[name])
        of_model.pop(f'backbone.diffusion.unet.{name}')
    assert_same_state(of_file, of_model)


def test_a_depth_checkpoint_with_scenes_gives_the_depth_of_vpd(tmp_path, deep_weights):
    """Each image with the token of its scene, zero padding that takes part, and a cell cut off again."""
    trained_model = trained(depth_estimator(deep_weights, classes=3))
    state = in_vpd_names(trained_model, 'depth')
    converted = convert(VPD(deep_weights), saved(state, tmp_path / 'vpd.pth', 'depth'))
    task = dict(type='Depth', max_depth=10.0)
    config = depth_estimator(deep_weights, classes=3)
    config['decode_head']['head'] |= dict(type='VPDDepthDecodeHead', task=task, stride=2, fmap_border=1)
    config |= dict(type='SceneConditionedEstimator', task=task)
    config['backbone']['feature'] = dict(preset='vpd_depth')
    model = MODELS.build(config).eval()
    model.load_state_dict(converted.state)
    images = torch.rand(3, 3, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1  # padded to 32 × 48
    scenes = [2, 0, 1]
    samples = [SegDataSample(metainfo=dict(category_id=scene, img_shape=(24, 40))) for scene in scenes]
    with torch.no_grad():
        found = model(images, samples).sigmoid() * 10
        for index, scene in enumerate(scenes):
            name = 'encoder.class_embeddings'
            alone = state | {name: state[name][scene : scene + 1]}
            expected = reference_depth(alone, F.pad(images[index : index + 1], (0, 8, 0, 8)), border=1)
            assert expected.shape == (1, 1, 96, 160) and expected.std() > 2e-3
            torch.testing.assert_close(found[index : index + 1], expected, atol=1e-5, rtol=0)
        alone['encoder.class_embeddings'] = state['encoder.class_embeddings'][:1]
        another = reference_depth(alone, F.pad(images[2:], (0, 8, 0, 8)), border=1)
        assert (another - expected).abs().max() > 1e-3, 'the scene matters'


def test_faults_of_depth_checkpoints_are_named(tmp_path, weights, deep_weights, vpd_depth):
    state = dict(vpd_depth.state)
    state['decoder.deconv_layers.3.weight'] = torch.ones(8, 8, 4, 4)
    path = saved(state, tmp_path / 'kernel.pth', 'depth')
    with pytest.raises(
        ValueError, match=r'shape 1: decoder\.deconv_layers\.3\.weight \[8, 8, 4, 4\], expected \[8, 8, 2'
    ):
        convert(VPD(deep_weights), path)
    del state['encoder.layer1.1.bias'], state['decoder.deconv_layers.3.weight']
    with pytest.raises(ValueError, match='missing'):
        convert(VPD(deep_weights), saved(state, tmp_path / 'missing.pth', 'depth'))
    with pytest.raises(ValueError, match='reads four levels of the U-Net; this one has 3'):
        convert(VPD(weights), saved(vpd_depth.state, tmp_path / 'vpd.pth', 'depth'))


# To diffusers -----------------------------------------------------------------------------------------------------


def config_file(path, model):
    Config(dict(model=model, default_scope='mmseg')).dump(path)
    return str(path)


def test_a_trained_unet_is_the_one_of_the_pipeline(tmp_path, capsys, weights, vpd):
    config = config_file(tmp_path / 'config.py', segmentor(weights))
    torch.save(dict(state_dict=vpd.model.state_dict(), meta={}), tmp_path / 'iter_1.pth')
    out = tmp_path / 'folder'
    tool('to_diffusers').main([config, str(tmp_path / 'iter_1.pth'), '--out', str(out)])
    printed = capsys.readouterr().out
    unet = vpd.model.backbone.diffusion.unet
    count = len(unet.state_dict())
    assert f'U-Net         {count} of {count} tensors differ' in printed and 'VAE           0 of' in printed
    pipeline = StableDiffusionPipeline.from_pretrained(out)
    assert_same_state(pipeline.unet.state_dict(), unet.state_dict())
    z, t, tokens = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 64)
    with torch.no_grad():
        ours = vpd.model.backbone.diffusion.features(z, t, tokens, need_output=True).output
        theirs = pipeline.unet(z, t, tokens).sample
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
        before = UNet2DConditionModel.from_pretrained(weights / 'unet')(z, t, tokens).sample
        assert (theirs - before).abs().max() > 0.1
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline('a ball', num_inference_steps=2, height=32, width=32, output_type='pt').images[0]
    assert image.shape == (3, 32, 32) and image.isfinite().all()


def test_the_largest_change_is_the_one_that_was_made(tmp_path, weights):
    model = MODELS.build(segmentor(weights))
    bias = model.backbone.diffusion.unet.conv_in.bias
    model.backbone.diffusion.unet.conv_out.bias.data *= 1.01
    bias.data[bias.abs().argmax()] *= 0.75
    torch.save(model.state_dict(), tmp_path / 'iter_1.pth')
    converter = ToDiffusers(config_file(tmp_path / 'config.py', segmentor(weights)))
    changes = convert(converter, tmp_path / 'iter_1.pth', tmp_path / 'out').changes
    assert changes['unet'].changed == 2 and changes['unet'].where == 'conv_in.bias'
    assert changes['unet'].largest == pytest.approx(0.25, rel=1e-3)
    assert changes['vae'].changed == changes['text'].changed == 0


def test_each_of_two_models_and_the_half_precision(tmp_path, weights):
    config = dict(type='SelfImprovingSegmentor', segmentor=segmentor(weights))
    whole = MODELS.build(config)
    whole.exploiter.backbone.diffusion.unet.conv_in.bias.data += 1
    torch.save(dict(state_dict=whole.state_dict(), meta={}), tmp_path / 'iter_1.pth')
    path = config_file(tmp_path / 'config.py', config)
    main = tool('to_diffusers').main
    for model, arguments in (('creator', []), ('exploiter', ['--model', 'exploiter', '--dtype', 'float16'])):
        main([path, str(tmp_path / 'iter_1.pth'), '--out', str(tmp_path / model), *arguments])
    creator, exploiter = (
        load_file(tmp_path / name / 'unet' / 'diffusion_pytorch_model.safetensors') for name in ('creator', 'exploiter')
    )
    assert_same_state(creator, whole.creator.backbone.diffusion.unet.state_dict())
    assert_same_state(exploiter, {k: v.half() for k, v in whole.exploiter.backbone.diffusion.unet.state_dict().items()})
    assert (exploiter['conv_in.bias'].float() - creator['conv_in.bias'] - 1).abs().max() < 1e-2
    # A plain config takes θ_C or θ_E out of the same checkpoint.
    plain = config_file(tmp_path / 'plain.py', segmentor(weights))
    main([plain, str(tmp_path / 'iter_1.pth'), '--out', str(tmp_path / 'plain'), '--model', 'exploiter'])
    found = load_file(tmp_path / 'plain' / 'unet' / 'diffusion_pytorch_model.safetensors')
    assert_same_state(found, whole.exploiter.backbone.diffusion.unet.state_dict())


def test_a_frozen_checkpoint_gets_a_notice_and_mistakes_are_refused(tmp_path, weights, capsys):
    config = segmentor(weights)
    config['backbone']['regime'] = 'frozen'
    checkpoint = tmp_path / 'iter_1.pth'
    torch.save(MODELS.build(config).state_dict(), checkpoint)
    path, main = config_file(tmp_path / 'config.py', config), tool('to_diffusers').main
    main([path, str(checkpoint), '--out', str(tmp_path / 'folder')])
    assert 'NOTICE: the U-Net was frozen' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='is there already'):
        main([path, str(checkpoint), '--out', str(tmp_path / 'folder')])
    with pytest.raises(SystemExit, match='holds one model, not θ_C and θ_E'):
        main([path, str(checkpoint), '--out', str(tmp_path / 'x'), '--model', 'exploiter'])
    with pytest.raises(SystemExit, match='the backbone of the config is a ResNet; expected a DiffusionBackbone'):
        other = config_file(tmp_path / 'other.py', dict(config, backbone=dict(type='ResNet', depth=18)))
        main([other, str(checkpoint), '--out', str(tmp_path / 'x')])
    state = torch.load(checkpoint)
    for fault, expected in (
        ({n: v for n, v in state.items() if 'unet.conv_in.bias' not in n}, r'missing 1: unet\.conv_in\.bias'),
        (state | {'backbone.diffusion.vae.extra': torch.ones(1)}, r'unexpected 1: vae\.extra'),
        (state | {'backbone.diffusion.unet.conv_in.bias': torch.ones(3)}, r'another shape 1: unet\.conv_in\.bias'),
        ({n: v for n, v in state.items() if 'backbone' not in n}, 'holds no DiffusionBackbone'),
    ):
        torch.save(fault, checkpoint)
        with pytest.raises(SystemExit, match=expected):
            main([path, str(checkpoint), '--out', str(tmp_path / 'x')])
    assert [file.name for file in tmp_path.glob('*x*')] == []
    # Frozen parts may be left out of a checkpoint.
    torch.save({n: v for n, v in state.items() if 'diffusion.vae' not in n}, checkpoint)
    main([path, str(checkpoint), '--out', str(tmp_path / 'x')])
    assert_same_state(
        load_file(tmp_path / 'x' / 'vae' / 'diffusion_pytorch_model.safetensors'),
        load_file(weights / 'vae' / 'diffusion_pytorch_model.safetensors'),
    )
