"""The denoising loss beside the perception loss: its value, who has it, and that nothing else changes."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers


def config(diffusion: dict, regime: str = 'finetune', latent_scale: bool = False, **segmentor) -> dict:
    head = dict(
        type='FPNHead', in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8, num_classes=3,
        dropout_ratio=0, norm_cfg=dict(type='BN'), align_corners=False,
    )  # fmt: skip
    return dict(
        data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 16)),
        backbone=dict(
            type='DiffusionBackbone', diffusion=diffusion, classes=['ball', 'floor', 'wall'],
            feature=dict(latent_scale=latent_scale), regime=regime, creation=True,
        ),
        neck=dict(type='FPN', in_channels=[8, 19, 19], out_channels=8, num_outs=3),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    ) | dict(type='DenoisingEncoderDecoder') | segmentor  # fmt: skip


def built(cfg: dict):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(cfg).train()


def batch(kinds: list[bool], shapes: list[tuple[int, int]] | None = None):
    generator = torch.Generator().manual_seed(1)
    samples = []
    for synthetic, shape in zip(kinds, shapes or [(16, 16)] * len(kinds), strict=True):
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, img_shape=shape, caption='a red ball'))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 16, 16), generator=generator))
        samples.append(sample)
    return torch.rand(len(kinds), 3, 16, 16, generator=generator) * 2 - 1, samples


@pytest.mark.parametrize('latent_scale', [False, True])
def test_the_loss_is_that_of_pretraining(tiny_diffusion_config, latent_scale):
    model = built(config(tiny_diffusion_config, latent_scale=latent_scale, denoising_weight=0.3, drop_caption=0))
    images, samples = batch([False, False])
    torch.manual_seed(7)
    found = model.denoising_loss(images, samples)['loss_denoising']
    diffusion = model.backbone.diffusion
    z = diffusion.encode(images)  # scaled, as the U-Net was pretrained, whatever it perceives
    torch.manual_seed(7)
    torch.rand(2)  # the draw of dropped captions
    t, noise = torch.randint(1000, (2,)), torch.randn_like(z)
    alpha_bar = diffusion.schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise
    output = diffusion.unet(noisy, t, diffusion.encode_text(['a red ball'] * 2)).sample
    torch.testing.assert_close(found, 0.3 * (output - noise).square().mean())


def test_the_perception_losses_stay_what_they_were(tiny_diffusion_config):
    model = built(config(tiny_diffusion_config))
    plain_config = config(tiny_diffusion_config) | dict(type='EncoderDecoder')
    plain = built(plain_config)
    plain.load_state_dict(model.state_dict())
    images, samples = batch([False, False])
    losses, expected = model.loss(images, samples), plain.loss(images, samples)
    assert set(losses) - set(expected) == {'loss_denoising'}
    assert torch.equal(losses['decode.loss_ce'], expected['decode.loss_ce'])


@pytest.mark.parametrize(('left', 'cells'), [(0, slice(0, 4)), (3, slice(2, 6)), (6, slice(3, 7))])
def test_padding_does_not_count(tiny_diffusion_config, left, cells):
    """The image fills 16 × 9 of 16 × 16 pixels: four of eight columns of latent cells, wherever it lies."""
    model = built(config(tiny_diffusion_config, drop_caption=0))
    images, samples = batch([False], [(16, 9)])
    samples[0].set_metainfo(dict(padding_size=(left, 7 - left, 0, 0)))
    errors = {}
    inner = model.backbone.denoising_errors
    model.backbone.denoising_errors = lambda *args: errors.setdefault('all', inner(*args))
    found = model.denoising_loss(images, samples)['loss_denoising']
    torch.testing.assert_close(found, errors['all'][..., cells].mean())


def test_synthetic_samples_have_none(tiny_diffusion_config):
    wrapped = built(dict(type='SelfImprovingSegmentor', segmentor=config(tiny_diffusion_config)))
    calls = []
    inner = wrapped.exploiter.backbone.denoising_errors
    wrapped.exploiter.backbone.denoising_errors = lambda frozen, captions: (
        calls.append(frozen.latents) or inner(frozen, captions)
    )
    images, samples = batch([False, True, False])
    losses = wrapped.loss(images, samples)
    assert [name for name in losses if 'denoising' in name] == ['real/loss_denoising']
    assert len(calls) == 1 and torch.equal(calls[0], wrapped.exploiter.backbone.frozen_features(images).latents[[0, 2]])
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert not [n for n, p in wrapped.exploiter.named_parameters() if p.requires_grad and p.grad is None]
    assert not any('denoising' in name for name in wrapped.loss(*batch([True, True])))


def test_in_a_pool_real_samples_alone_are_denoised(tiny_diffusion_config):
    wrapped = built(dict(type='SelfImprovingSegmentor', segmentor=config(tiny_diffusion_config), normalize_by='pooled'))
    images, samples = batch([False, True, False])
    calls, inner = [], wrapped.exploiter.denoising_loss
    wrapped.exploiter.denoising_loss = lambda frozen, real: calls.append((frozen.latents, real)) or inner(frozen, real)
    losses = wrapped.loss(images, samples)
    assert {name for name in losses if 'loss' in name} == {'decode.loss_ce', 'loss_denoising'}
    ((latents, real),) = calls
    assert torch.equal(latents, wrapped.exploiter.backbone.frozen_features(images).latents[[0, 2]]) and len(real) == 2
    assert not any('denoising' in name for name in wrapped.loss(*batch([True, True])))


def test_the_drawn_captions(tiny_diffusion_config):
    model = built(config(tiny_diffusion_config, drop_caption=1.0))
    _, samples = batch([False])
    assert model._captions(samples, 1) == ['']
    model.drop_caption = 0.0
    assert model._captions(samples, 1) == ['a red ball']
    del samples[0].caption
    samples[0].set_metainfo(dict(img_path='a/7.png'))
    with pytest.raises(ValueError, match='a/7.png has no caption'):
        model._captions(samples, 1)
    model.prompt = 'empty'
    assert model._captions(samples, 1) == ['']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(prompt='none'), "unknown prompt 'none'"),
        (dict(denoising_weight=-1), 'expected at least 0'),
        (dict(drop_caption=1.5), '0 … 1'),
        (dict(regime='frozen'), "regime='finetune'"),
    ],
)
def test_impossible_settings(tiny_diffusion_config, changes, message):
    with pytest.raises(ValueError, match=message):
        built(config(tiny_diffusion_config, **changes))
