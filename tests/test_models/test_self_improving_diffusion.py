"""θ_C and θ_E on a diffusion backbone: what is frozen runs once and is held once, what is trained gets a gradient."""

from collections import Counter

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models.self_improving.label_rules import GivenLabel, TeacherLabel
from mmdiff2in1.models.self_improving.parameter_pairs import named_tensors


def _built(diffusion, feature, channels, regime='frozen', text_adapter=False, **settings):
    """Self-improving segmentation of 3 classes; `channels` of the backbone's levels."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    head = dict(
        type='FPNHead', in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8, num_classes=3,
        dropout_ratio=0, norm_cfg=dict(type='BN'), align_corners=False,
    )  # fmt: skip
    segmentor = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 16)),
        backbone=dict(
            type='DiffusionBackbone', diffusion=diffusion, classes=['ball', 'floor', 'wall'],
            feature=feature, regime=regime, text_adapter=text_adapter,
        ),
        neck=dict(type='FPN', in_channels=channels, out_channels=8, num_outs=3),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    return MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=segmentor, **settings)).train()


@pytest.fixture(params=[('frozen', False), ('finetune', False), ('frozen', True), ('finetune', True)])
def model(request, tiny_diffusion_config):
    """A self-improving model; the parameter is (regime, text adapter)."""
    built = _built(tiny_diffusion_config, dict(latent_scale=True), [8, 19, 19], *request.param)
    built.regime, built.text_adapter = request.param
    return built


def _batch(kinds: list[bool]) -> tuple[torch.Tensor, list[SegDataSample]]:
    """Images in [-1, 1] and samples, synthetic where ``kinds`` says so."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for synthetic in kinds:
        shape = dict(img_shape=(16, 16), ori_shape=(16, 16), pad_shape=(16, 16))
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, **shape))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 16, 16), generator=generator))
        samples.append(sample)
    return torch.rand(len(kinds), 3, 16, 16, generator=generator) * 2 - 1, samples


def _total(losses: dict) -> torch.Tensor:
    return sum(value for name, value in losses.items() if 'loss' in name)


def test_the_frozen_part_runs_once_per_batch(model):
    calls = Counter()
    diffusion = model.exploiter.backbone.diffusion
    diffusion.vae.encoder.register_forward_hook(lambda *_: calls.update(vae=1))
    for each in {id(m): m for m in (diffusion.unet, model.creator.backbone.diffusion.unet)}.values():
        each.conv_in.register_forward_hook(lambda *_: calls.update(unet=1))
    _total(model.loss(*_batch([False, False, True]))).backward()
    shared = model.regime == 'frozen' and not model.text_adapter
    assert calls == {'vae': 1, 'unet': 1 if shared else 2}


def test_frozen_parameters_are_held_once(model):
    exploiter, creator = (dict(named_tensors(m)) for m in (model.exploiter, model.creator))
    trained = {name for name, p in model.exploiter.named_parameters() if p.requires_grad}
    assert trained and not any(name.startswith('backbone.diffusion.vae') for name in trained)
    for name, tensor in model.exploiter.named_parameters():
        is_frozen = model.regime == 'frozen' or not name.startswith('backbone.diffusion.unet')
        in_diffusion = name.startswith('backbone.diffusion')
        assert (creator[name] is exploiter[name]) == (in_diffusion and is_frozen), name
        assert tensor is exploiter[name]
    unique = sum(p.numel() for p in model.parameters())
    own = sum(p.numel() for name, p in model.exploiter.named_parameters() if creator[name] is not p)
    assert unique == sum(p.numel() for p in model.exploiter.parameters()) + own


def test_every_trained_parameter_of_the_exploiter_gets_a_gradient_and_the_creator_none(model):
    _total(model.loss(*_batch([False, True]))).backward()
    without = [n for n, p in model.exploiter.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert not [n for n, p in model.exploiter.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not [n for n, p in model.creator.named_parameters() if p.grad is not None or p.requires_grad]


def test_a_batch_of_real_samples_is_the_plain_segmentors(model):
    images, samples = _batch([False, False])
    losses, plain = model.loss(images, samples), model.exploiter.loss(images, samples)
    assert losses.keys() == plain.keys()
    assert torch.equal(losses['decode.loss_ce'], plain['decode.loss_ce'])


def test_pseudo_labels_are_what_the_creator_sees_in_the_image(model):
    """Another θ_E changes the loss but not the target; the target is θ_C's argmax."""
    images, samples = _batch([True, True])
    expected = model.creator.encode_decode(images, [s.metainfo for s in samples]).argmax(1)
    for sample, label in zip(samples, expected, strict=True):
        sample.gt_sem_seg.data = label[None]
    pseudo = model.loss(images, samples)['synthetic/decode.loss_ce']
    for sample in samples:
        sample.set_metainfo(dict(synthetic=False))
    assert torch.allclose(pseudo, model.exploiter.loss(images, samples)['decode.loss_ce'], rtol=1e-6)


def test_features_in_the_place_of_images(model):
    """What was computed before, for several models at once, gives the losses of the images themselves."""
    images, samples = _batch([False, True, True])
    backbone = model.exploiter.backbone
    for chosen in (slice(None), slice(0, 1)):  # mixed, and real alone
        frozen = backbone.frozen_features(images[chosen])
        assert backbone.frozen_features(frozen) is frozen and frozen.device == images.device
        expected, found = (model.loss(seen, samples[chosen]) for seen in (images[chosen], frozen))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize('share_draws', [True, False])
def test_the_creator_sees_the_draws_of_the_exploiter_or_its_own(tiny_diffusion_config, share_draws):
    """With noise and a sampled posterior one image has many features."""
    feature = dict(preset='released', taps='vpd')
    model = _built(tiny_diffusion_config, feature, [8, 16, 16], share_draws=share_draws)
    seen, inner = {}, model.creator.encode_decode
    model.creator.encode_decode = lambda inputs, metas: seen.update(creator=inputs) or inner(inputs, metas)
    extract = model.exploiter.extract_feat
    model.exploiter.extract_feat = lambda inputs: seen.update(exploiter=inputs) or extract(inputs)
    _total(model.loss(*_batch([False, True]))).backward()
    pairs = zip(seen['creator'].pyramid, seen['exploiter'].pyramid, strict=True)
    assert [torch.equal(own, shared[1:]) for own, shared in pairs] == [share_draws] * 3


def test_a_rule_may_look_in_its_own_way(model):
    class Darker(TeacherLabel):
        def look(self, creator, inputs, metas, tasks):
            outputs = super().look(creator, inputs, metas, tasks)
            assert outputs.shape == (1, 3, 16, 16) and tasks['semantic_segmentation'].channels == 3
            outputs[:, 2] = 1e3  # all is class 2
            return outputs

    model.label_rule = Darker()
    images, samples = _batch([False, True])
    found = model.loss(images, samples)['synthetic/decode.loss_ce']
    samples[1].gt_sem_seg.data.fill_(2)
    model.label_rule = GivenLabel()
    assert torch.equal(found, model.loss(images, samples)['synthetic/decode.loss_ce'])
