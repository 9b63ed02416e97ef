"""DenoisingPretraining: its loss by hand, what a perfect predictor gives, heads of coarse outputs, what is kept."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch.nn.functional import mse_loss

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models.segmentors import DenoisingPretraining

MEAN, STD = (120.0, 100.0, 80.0), (60.0, 50.0, 40.0)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def segmentor(**changes) -> dict:
    """A U-Net of full resolution, 4 channels wide."""
    levels = dict(strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,), downsamples=(True,))
    dilations = dict(enc_dilations=(1, 1), dec_dilations=(1,))
    backbone = dict(type='UNet', base_channels=4, num_stages=2, norm_cfg=dict(type='BN'), **levels, **dilations)
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, size=(16, 16)),
        backbone=backbone,
        decode_head=head(in_index=1),
        test_cfg=dict(mode='whole'),
    ) | dict(changes)  # fmt: skip


def head(**changes) -> dict:
    return (
        dict(
            type='FCNHead', in_channels=4, channels=4, num_convs=0, concat_input=False, num_classes=5, dropout_ratio=0.5
        )
        | changes
    )


def normalised(count: int = 3) -> torch.Tensor:
    """Images as the preprocessor gives them, of grey levels 0 … 255."""
    levels = torch.randint(256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(1)).float()
    return (levels - column(MEAN)) / column(STD)


def column(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1)


def drawn(seed: int, clean: torch.Tensor, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    """σ and ε as the model draws them."""
    torch.manual_seed(seed)
    share = torch.rand(len(clean), 1, 1, 1)
    angle = math.asin(low) + (math.asin(high) - math.asin(low)) * share
    return angle.sin(), torch.randn_like(clean)


@pytest.mark.parametrize(('noise', 'low', 'high'), [(0.3, 0.3, 0.3), ((0.1, 1.0), 0.1, 1.0)])
def test_the_loss_by_hand(noise, low, high):
    model = DenoisingPretraining(segmentor(), noise).train()
    inputs = normalised()
    torch.manual_seed(7)
    loss = model(inputs)['loss_denoising']

    clean = (inputs * column(STD) + column(MEAN)) / 127.5 - 1
    sigma, noise = drawn(7, clean, low, high)
    kept = (1 - sigma**2).sqrt()
    noisy = (kept * clean + sigma * noise).clamp(-1, 1)
    seen = ((noisy + 1) * 127.5 - column(MEAN)) / column(STD)
    features = model.segmentor.backbone(seen)[1]
    predicted = model.segmentor.decode_head.conv_seg(features)  # nothing is dropped
    torch.testing.assert_close(loss, mse_loss(predicted, kept * noise - sigma * clean))
    assert sigma.min() >= low - 1e-6 and sigma.max() <= high + 1e-6


def test_who_knows_the_noise_sees_the_image(monkeypatch):
    """Pixels that the cut at black and white leaves alone come back as they were; the loss is 0."""
    model = DenoisingPretraining(segmentor(), 0.3).eval()
    inputs = normalised() / 4  # far from black and white
    clean, _ = model._in_range(inputs)
    sigma, noise = drawn(5, clean, 0.3, 0.3)
    kept = (1 - sigma**2).sqrt()
    monkeypatch.setattr(model, '_predicted', lambda images: kept * noise - sigma * clean)
    torch.manual_seed(5)
    assert model(inputs)['loss_denoising'] == 0
    torch.manual_seed(5)
    image, noisy, denoised = model(inputs, mode='tensor')
    free = noisy.abs() < 1
    assert free.float().mean() > 0.9
    torch.testing.assert_close(denoised[free], image[free], atol=1e-5, rtol=0)


def test_a_coarse_head_predicts_patches():
    """Outputs at a quarter of the size stand for 4 × 4 pixels each."""
    stride = dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0,))
    cfg = segmentor(backbone=stride, decode_head=head(in_index=0))
    model = DenoisingPretraining(cfg, 0.3)
    assert model.patch == 4 and model.head.conv_seg.out_channels == 48
    with torch.no_grad():
        coarse = model.segmentor.decode_head.forward(model.segmentor.extract_feat(normalised()))
        fine = model.eval()._predicted(normalised())
    assert coarse.shape == (3, 48, 4, 4) and fine.shape == (3, 3, 16, 16)
    with torch.no_grad():
        coarse = model.segmentor.decode_head.forward(model.segmentor.extract_feat(normalised()))
    assert torch.equal(fine[0, 1, 4:8, 8:12].flatten(), coarse[0, 16:32, 1, 2])


def test_it_learns_to_remove_noise():
    torch.manual_seed(0)
    model = DenoisingPretraining(segmentor(), 0.5).train()
    flat = (torch.full((4, 3, 16, 16), 200.0) - column(MEAN)) / column(STD)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.02), []
    for _ in range(60):
        loss = model(flat)['loss_denoising']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_what_learns_nothing_is_named():
    cfg = segmentor(auxiliary_head=head(in_index=0, in_channels=8, channels=8))
    model = DenoisingPretraining(cfg)
    assert model.may_differ == ('decode_head.conv_seg', 'auxiliary_head')
    assert not any(p.requires_grad for p in model.segmentor.auxiliary_head.parameters())
    inside = dict(type='GenerativeDecodeHead', head=head(in_index=1))
    assert DenoisingPretraining(segmentor(decode_head=inside)).may_differ == ('decode_head.head.conv_seg',)


def test_images_that_nothing_normalises():
    """Of a preprocessor without mean and std: grey levels are halved to [-1, 1] all the same."""
    plain = DenoisingPretraining(segmentor(data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 16))))
    clean, back = plain._in_range(torch.tensor([0.0, 127.5, 255.0]))
    assert clean.tolist() == [-1, 0, 1] and back(clean).tolist() == [0, 127.5, 255]


@pytest.mark.parametrize('noise', [0, 1.2, (0.5, 0.2)])
def test_noise_that_is_none(noise):
    with pytest.raises(ValueError, match='expected a standard deviation'):
        DenoisingPretraining(segmentor(), noise)


def test_a_head_without_a_last_layer():
    layers = dict(in_channels=[16] * 4, embed_dim=4, feature_dim=32, num_deconv_filters=(8, 8, 8))
    depth = dict(type='VPDDepthHead', **layers)
    with pytest.raises(ValueError, match=r'VPDDepthHead: expected an EncoderDecoder whose .*conv_seg'):
        DenoisingPretraining(segmentor(decode_head=depth))


def test_a_head_of_several_outputs():
    """Of a cascade none can be trained alone, and of a head of several tasks there is no one output."""
    cascade = segmentor(type='CascadeEncoderDecoder', num_stages=2, decode_head=[head(in_index=1), head(in_index=1)])
    with pytest.raises(ValueError, match='a CascadeEncoderDecoder with decode_head ModuleList: expected an Encoder'):
        DenoisingPretraining(cascade)
    model = DenoisingPretraining(segmentor())
    model.segmentor.decode_head.forward = lambda features: dict(semantic=features[1])
    with pytest.raises(ValueError, match='decode_head FCNHead gives a dict; expected a head of one task'):
        model(normalised())


def test_each_parameter_has_one_name():
    """Optimizers with rates of their own for some names, as SegFormer's, go through all of the model's."""
    model = DenoisingPretraining(segmentor())
    assert not [name for name in model.state_dict() if not name.startswith('segmentor.')]
    optimizer = dict(optimizer=dict(type='AdamW', lr=0.01), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10))))
    groups = build_optim_wrapper(model, ConfigDict(optimizer)).param_groups
    rates = {id(parameter): group['lr'] for group in groups for parameter in group['params']}
    assert {id(parameter) for parameter in model.parameters()} <= rates.keys()
    assert rates[id(model.head.conv_seg.weight)] == pytest.approx(0.1)


def test_it_predicts_no_labels():
    with pytest.raises(ValueError, match='a denoiser predicts no labels'):
        DenoisingPretraining(segmentor())(normalised(), mode='predict')
