"""Losses of the self-improving segmentor, on real mmseg parts: identities, the two formulas, pseudo labels.

Four images of 32 x 32, K = 5 classes; sample 1 and 3 are synthetic in a mixed batch.
"""

import copy
from types import SimpleNamespace

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead, OCRHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor, TeacherLabel
from mmdiff2in1.models.self_improving.labelling import labelled
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet

K, SIZE = 5, 32
BN = dict(type='BN', requires_grad=True)
RESNET = dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3), norm_cfg=BN)
WIDTHS = [4, 8, 16, 32]
MIXED = [False, True, False, True]
KEPT = 'kept_share/semantic_segmentation'


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@MODELS.register_module()
class HeadWithItsOwnLoss(FCNHead):
    """Stands for heads as Mask2Former's, whose loss cannot be split after the forward pass."""

    def loss(self, inputs, batch_data_samples, train_cfg):
        return {f'own_{name}': value for name, value in super().loss(inputs, batch_data_samples, train_cfg).items()}


@MODELS.register_module()
class CascadedHeadWithItsOwnLoss(OCRHead):
    """Stands for PointRend's head, which needs compiled mmcv."""

    def loss(self, inputs, prev_output, batch_data_samples, train_cfg):
        losses = super().loss(inputs, prev_output, batch_data_samples, train_cfg)
        return {f'own_{name}': value for name, value in losses.items()}


def fcn(kind='FCNHead', index=3, **settings):
    head = dict(
        type=kind, in_channels=WIDTHS[index], in_index=index, channels=4, num_convs=1, concat_input=False,
        dropout_ratio=0, num_classes=K, norm_cfg=BN,
    )  # fmt: skip
    return head | settings


def encoder_decoder(head, **settings):
    parts = dict(type='EncoderDecoder', backbone=RESNET, decode_head=head, test_cfg=dict(mode='whole'))
    return ConfigDict(copy.deepcopy(parts | settings))


def test_one_class_of_mmseg_is_foreground_and_background():
    """num_classes=1 predicts by sigmoid > threshold: pseudo labels, confidence and loss are those of two classes."""
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    found = []
    for classes in (dict(num_classes=1), dict(num_classes=2, out_channels=1)):
        head = fcn(**classes, threshold=0.3, loss_decode=loss)
        torch.manual_seed(0)
        model = SelfImprovingSegmentor(encoder_decoder(head), min_confidence=0.6).train()
        model.creator.decode_head.conv_seg.bias.data += 2
        images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        samples = [SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), synthetic=True)) for _ in range(2)]
        assert model.tasks.only.num_classes == 2
        found.append(model.loss(images, samples))
        predicted = model.creator.predict(images)
        labels = torch.stack([sample.pred_sem_seg.data for sample in predicted])
        assert labels.float().mean() > 0.9  # foreground, and so are the labels: the loss is small where they agree
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name])
    with pytest.raises(ValueError, match='The task has 3 classes, the decode head 2'):
        SelfImprovingSegmentor(
            encoder_decoder(fcn(num_classes=1)), task=dict(type='SemanticSegmentation', num_classes=3)
        )


def test_what_is_no_number_is_no_label():
    """θ_C overflows in half precision: its pixels are ignored, with a filter and without."""
    logits = torch.zeros(1, K, 2, 2)
    logits[:, 3] = 9.0
    logits[..., 0, 1] = torch.nan
    task = SemanticSegmentation(K)
    target, confidence = task.pseudo_label(logits)
    assert target.tolist() == [[[[3, 255], [3, 3]]]] and confidence.isnan().sum() == 1
    creator = SimpleNamespace(encode_decode=lambda inputs, metas: logits, decode_head=None)
    samples = [SegDataSample(metainfo=dict(img_shape=(2, 2)))]
    for min_confidence in (None, 0.9):
        rule = TeacherLabel(min_confidence)
        (created,), kept = labelled(rule, creator, None, samples, TaskSet(task), (2, 2))
        assert created.gt_sem_seg.data.tolist() == [[[3, 255], [3, 3]]]
        assert kept == {'semantic_segmentation': 0.75}


def fpn(dropout=0.1):
    neck = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=4)
    head = dict(
        type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=8,
        dropout_ratio=dropout, num_classes=K, norm_cfg=BN,
    )  # fmt: skip
    return encoder_decoder(head, neck=neck)


def uper():
    head = dict(
        type='UPerHead', in_channels=WIDTHS, in_index=[0, 1, 2, 3], channels=8, pool_scales=(1, 2), num_classes=K,
        norm_cfg=BN,
    )  # fmt: skip
    return encoder_decoder(
        head, auxiliary_head=fcn(index=2, loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4))
    )


def segformer():
    backbone = dict(
        type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 4], drop_path_rate=0.1
    )
    head = dict(
        type='SegformerHead', in_channels=[8, 8, 16, 32], in_index=[0, 1, 2, 3], channels=8, num_classes=K, norm_cfg=BN
    )
    return encoder_decoder(head, backbone=backbone)


def cascade():
    ocr = dict(
        type='OCRHead', in_channels=32, in_index=3, channels=8, ocr_channels=4, dropout_ratio=0, num_classes=K,
        norm_cfg=BN,
    )  # fmt: skip
    return encoder_decoder([fcn(), ocr], type='CascadeEncoderDecoder', num_stages=2)


def wrap(segmentor, perturb=True, **settings):
    """The wrapped segmentor in training mode, θ_C moved away from θ_E so that their predictions differ."""
    torch.manual_seed(1)
    model = SelfImprovingSegmentor(segmentor, **settings)
    model.init_weights()
    if perturb:
        for parameter in model.creator.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.train()


def images(count=4):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def samples(synthetic=MIXED, seed=3, img_shape=(SIZE, SIZE)):
    labels = torch.randint(0, K, (len(synthetic), 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
    made = []
    for flag, label in zip(synthetic, labels, strict=True):
        label[0, :3] = 255
        sample = SegDataSample(metainfo=dict(synthetic=flag, img_shape=torch.Size(img_shape), ori_shape=(SIZE, SIZE)))
        sample.gt_sem_seg = PixelData(data=label)
        made.append(sample)
    return made


def labels_of(batch, flag):
    return torch.stack([s.gt_sem_seg.data[0] for s in batch if s.metainfo['synthetic'] is flag])


def creators_labels(model, chosen):
    with torch.no_grad():
        logits = model.creator.encode_decode(chosen, [dict(img_shape=(SIZE, SIZE))] * len(chosen))
    return logits.softmax(1).max(1)


def cross_entropy(logits, labels):
    """mmseg's default: the mean over all pixels, ignored ones included."""
    return F.cross_entropy(logits, labels, ignore_index=255, reduction='none').mean()


def raw_batch():
    """What a loader gives: images of two sizes, padded by the preprocessor."""
    generator = torch.Generator().manual_seed(4)
    inputs, batch = [], []
    for height in (32, 24, 32, 24):
        inputs.append(torch.randint(0, 256, (3, height, SIZE), generator=generator, dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(img_shape=(height, SIZE), ori_shape=(height, SIZE)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, K, (1, height, SIZE), generator=generator))
        batch.append(sample)
    return dict(inputs=inputs, data_samples=batch)


@pytest.mark.parametrize('config', [fpn, uper, segformer, cascade])
def test_real_batches_train_bit_for_bit_as_without_the_wrapper(config):
    preprocessor = dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=(SIZE, SIZE))
    segmentor = config() | dict(data_preprocessor=preprocessor)
    logs, weights = [], []
    for cfg in (segmentor, dict(type='SelfImprovingSegmentor', segmentor=segmentor, synthetic_weight=0.3)):
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(cfg))
        model.init_weights()
        model.train()
        trained = getattr(model, 'exploiter', model)
        optimizer = OptimWrapper(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01))
        logs.append([model.train_step(raw_batch(), optimizer) for _ in range(3)])
        weights.append(trained.state_dict())
    for plain, wrapped in zip(*logs, strict=True):
        assert list(plain) == list(wrapped)
        assert all(torch.equal(plain[key], wrapped[key]) for key in plain)
    assert logs[0][0]['loss'] != logs[0][2]['loss']
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize(
    ('normalize_by', 'synthetic', 'real_factor', 'synthetic_factor'),
    [
        ('batch', MIXED, 2 / 4, 0.3 * 2 / 4),
        ('real', MIXED, 1.0, 0.3 * 2 / 2),
        ('batch', [True, True, True, False], 1 / 4, 0.3 * 3 / 4),
        ('real', [True, True, True, False], 1.0, 0.3 * 3 / 1),
    ],
)
def test_mixed_batch_follows_the_formula(normalize_by, synthetic, real_factor, synthetic_factor):
    model = wrap(fpn(dropout=0), normalize_by=normalize_by, synthetic_weight=0.3)
    batch, flags = samples(synthetic), torch.tensor(synthetic)
    losses = model.loss(images(), batch)

    logits = resize(model.exploiter._forward(images()), size=(SIZE, SIZE), mode='bilinear', align_corners=False)
    real = cross_entropy(logits[~flags], labels_of(batch, False))
    pseudo = cross_entropy(logits[flags], creators_labels(model, images()[flags])[1])
    torch.testing.assert_close(losses['real/decode.loss_ce'], real_factor * real)
    torch.testing.assert_close(losses['synthetic/decode.loss_ce'], synthetic_factor * pseudo)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, real_factor * real + synthetic_factor * pseudo)
    assert set(logged) == {
        'loss', KEPT, 'real/decode.loss_ce', 'real/decode.acc_seg', 'synthetic/decode.loss_ce',
        'synthetic/decode.acc_seg',
    }  # fmt: skip


def test_equal_labels_and_weight_one_give_the_loss_of_the_whole_batch():
    model = wrap(fpn(dropout=0), use_stored_labels=True)
    plain = sum(v for k, v in model.exploiter.loss(images(), samples()).items() if 'loss' in k)
    torch.testing.assert_close(model.parse_losses(model.loss(images(), samples()))[0], plain)


def test_a_synthetic_batch():
    flags = [True] * 4
    model = wrap(fpn(dropout=0), synthetic_weight=0.3)
    losses = model.loss(images(), samples(flags))
    assert set(losses) == {'synthetic/decode.loss_ce', 'synthetic/decode.acc_seg', KEPT}
    logits = resize(model.exploiter._forward(images()), size=(SIZE, SIZE), mode='bilinear', align_corners=False)
    expected = 0.3 * cross_entropy(logits, creators_labels(model, images())[1])
    torch.testing.assert_close(losses['synthetic/decode.loss_ce'], expected)
    model.normalize_by = 'real'
    with pytest.raises(ValueError, match='all 4 samples of this batch are synthetic.*MixedBatchSampler'):
        model.loss(images(), samples(flags))


def test_stored_labels_are_no_targets_unless_asked():
    def loss(seed, stored):
        model = wrap(fpn(dropout=0), use_stored_labels=stored)
        batch = samples(seed=3)
        for sample, other in zip(batch, samples(seed=seed), strict=True):
            if sample.metainfo['synthetic']:
                sample.gt_sem_seg = other.gt_sem_seg
        return model.loss(images(), batch)['synthetic/decode.loss_ce']

    assert torch.equal(loss(3, stored=False), loss(8, stored=False))
    assert not torch.equal(loss(3, stored=True), loss(8, stored=True))


def test_the_callers_samples_stay_as_they_are():
    batch = samples()
    before = [(dict(sample.metainfo), sample.gt_sem_seg.data.clone(), sample.keys()) for sample in batch]
    wrap(fpn()).loss(images(), batch)
    for sample, (metainfo, label, keys) in zip(batch, before, strict=True):
        assert sample.metainfo == metainfo and sample.keys() == keys
        assert torch.equal(sample.gt_sem_seg.data, label)


def synthetic_targets(model, batch):
    """Labels that reach the loss function of the decode head."""
    seen, head = {}, model.exploiter.decode_head
    original = head.loss_by_feat

    def spy(logits, given):
        seen[given[0].metainfo['synthetic']] = torch.stack([sample.gt_sem_seg.data[0] for sample in given])
        return original(logits, given)

    head.loss_by_feat = spy
    losses = model.loss(images(len(batch)), batch)
    return seen[True], losses[KEPT]


def test_pseudo_labels_are_the_creators():
    model = wrap(fpn(), min_confidence=None)
    with_gradient = []
    model.creator.decode_head.conv_seg.register_forward_hook(lambda *_: with_gradient.append(torch.is_grad_enabled()))
    targets, kept_share = synthetic_targets(model, samples())
    assert with_gradient == [False]
    chosen = images()[torch.tensor(MIXED)]
    assert torch.equal(targets, creators_labels(model, chosen)[1])
    assert kept_share == 1
    model.exploiter.eval()
    by_exploiter = model.exploiter.encode_decode(chosen, [dict(img_shape=(SIZE, SIZE))] * 2).argmax(1)
    assert not torch.equal(targets, by_exploiter)


def test_unsure_pixels_and_padding_are_ignored():
    model = wrap(fpn())
    confidence, label = creators_labels(model, images()[torch.tensor(MIXED)])
    model.label_rule = TeacherLabel(float(confidence.median()))
    targets, kept_share = synthetic_targets(model, samples(img_shape=(24, 20)))
    inside = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    inside[:, :24, :20] = True
    kept = inside & (confidence >= model.label_rule.min_confidence)
    assert torch.equal(targets, torch.where(kept, label, torch.tensor(255)))
    assert isinstance(kept_share, torch.Tensor) and kept_share.shape == ()
    assert kept_share == kept.sum() / (2 * 24 * 20)
    assert 0.2 < kept_share < 0.8


def test_share_of_stored_labels():
    model = wrap(fpn(), use_stored_labels=True)
    assert model.loss(images(), samples())[KEPT] == 29 / 32  # three rows of each label are ignored
    assert model.loss(images(), samples(img_shape=(16, 16)))[KEPT] == 13 / 16


def test_nothing_kept_gives_zero_loss_and_zero_gradients():
    model = wrap(fpn(), min_confidence=1.0)
    losses = model.loss(images(), samples([True] * 4))
    assert losses[KEPT] == 0 and losses['synthetic/decode.loss_ce'] == 0
    losses['synthetic/decode.loss_ce'].backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.exploiter.parameters())


@pytest.mark.parametrize('config', [fpn, uper, segformer, cascade])
def test_every_parameter_of_the_exploiter_and_none_of_the_creator_gets_a_gradient(config):
    model = wrap(config())
    model.parse_losses(model.loss(images(), samples()))[0].backward()
    assert all(p.grad is not None for p in model.exploiter.parameters() if p.requires_grad)
    assert all(p.grad is None and not p.requires_grad for p in model.creator.parameters())


def test_auxiliary_heads_see_both_kinds():
    losses = wrap(uper()).loss(images(), samples())
    assert {key for key in losses if 'loss' in key} == {
        'real/decode.loss_ce', 'real/aux.loss_ce', 'synthetic/decode.loss_ce', 'synthetic/aux.loss_ce'
    }  # fmt: skip
    two = encoder_decoder(fcn(), auxiliary_head=[fcn(index=1), fcn(index=2)])
    assert {'real/aux_0.loss_ce', 'synthetic/aux_1.loss_ce'} <= set(wrap(two).loss(images(), samples()))


def forward_counts(model, batch):
    """Calls of backbone and heads of θ_E in one loss."""
    counts = {}

    def count(module, name):
        original = module.forward

        def forward(*args):
            counts[name] = counts.get(name, 0) + 1
            return original(*args)

        module.forward = forward

    heads = model.exploiter.decode_head
    for i, head in enumerate(heads if isinstance(heads, torch.nn.ModuleList) else [heads]):
        count(head, f'head {i}')
    count(model.exploiter.backbone, 'backbone')
    model.loss(images(), batch)
    return counts


@pytest.mark.parametrize('config', [fpn, cascade])
def test_forward_passes_do_not_depend_on_the_mix(config):
    """Else ranks with other mixes would not meet in the collectives of synchronised batch normalisation."""
    mixes = [[False] * 4, MIXED, [True] * 4]
    counts = [forward_counts(wrap(config()), samples(flags)) for flags in mixes]
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]['backbone'] == 1
    assert counts[0]['head 0'] == (2 if config is cascade else 1)  # mmseg runs stage 0 once more for stage 1


def test_batch_statistics_are_those_of_the_whole_batch():
    mixed, real = wrap(fpn()), wrap(fpn())
    mixed.loss(images(), samples())
    real.loss(images(), samples([False] * 4))
    for (name, one), (_, other) in zip(mixed.exploiter.named_buffers(), real.exploiter.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_cascade_losses_equal_its_stages():
    model = wrap(cascade(), use_stored_labels=True, normalize_by='real', synthetic_weight=0.5)
    losses = model.loss(images(), samples())
    first, second = model.exploiter.decode_head
    features = model.exploiter.extract_feat(images())
    flags, stages = torch.tensor(MIXED), [first(features)]
    stages.append(second(features, stages[0]))
    for i, logits in enumerate(stages):
        logits = resize(logits, size=(SIZE, SIZE), mode='bilinear', align_corners=False)
        for kind, chosen, factor in (('real', ~flags, 1.0), ('synthetic', flags, 0.5)):
            expected = factor * cross_entropy(logits[chosen], labels_of(samples(), kind == 'synthetic'))
            torch.testing.assert_close(losses[f'{kind}/decode_{i}.loss_ce'], expected)


def test_a_head_that_wraps_another_gives_that_ones_losses():
    def losses(head):
        model = wrap(encoder_decoder(head))
        return dict(forward_counts(model, samples())), model.loss(images(), samples())

    (bare_counts, bare), (counts, wrapped) = losses(fcn()), losses(dict(type='GenerativeDecodeHead', head=fcn()))
    assert counts == bare_counts == {'backbone': 1, 'head 0': 1}
    assert bare.keys() == wrapped.keys()
    assert all(torch.equal(value, wrapped[name]) for name, value in bare.items())


def test_a_head_with_its_own_loss_is_called_once_per_kind_on_its_features():
    model = wrap(encoder_decoder(fcn('HeadWithItsOwnLoss')), use_stored_labels=True)
    losses = model.loss(images(), samples())
    features = model.exploiter.extract_feat(images())[3]
    for kind, positions in (('real', [0, 2]), ('synthetic', [1, 3])):
        # batch normalisation of this head sees only the samples of its kind
        logits = model.exploiter.decode_head([features[positions]] * 4)
        logits = resize(logits, size=(SIZE, SIZE), mode='bilinear', align_corners=False)
        expected = 0.5 * cross_entropy(logits, labels_of(samples(), kind == 'synthetic'))
        torch.testing.assert_close(losses[f'{kind}/decode.own_loss_ce'], expected)


def test_a_cascaded_head_with_its_own_loss():
    config = cascade()
    config.decode_head[1].type = 'CascadedHeadWithItsOwnLoss'
    model = wrap(config, use_stored_labels=True)
    losses = model.loss(images(), samples())
    features = model.exploiter.extract_feat(images())
    previous = model.exploiter.decode_head[0](features)
    for kind, positions in (('real', [0, 2]), ('synthetic', [1, 3])):
        logits = model.exploiter.decode_head[1]([x[positions] for x in features], previous[positions])
        logits = resize(logits, size=(SIZE, SIZE), mode='bilinear', align_corners=False)
        expected = 0.5 * cross_entropy(logits, labels_of(samples(), kind == 'synthetic'))
        torch.testing.assert_close(losses[f'{kind}/decode_1.own_loss_ce'], expected)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.exploiter.parameters())


def test_a_segmentor_with_its_own_loss_is_called_once_per_kind():
    config = encoder_decoder(fcn(), type='DepthEstimator')
    model = wrap(config, use_stored_labels=True, synthetic_weight=0.5)
    model.tasks = TaskSet(SemanticSegmentation(K))  # it stands for any segmentor with a loss of its own
    reference = copy.deepcopy(model)
    losses = model.loss(images(), samples())
    for kind, positions, factor in (('real', [0, 2], 0.5), ('synthetic', [1, 3], 0.25)):
        of_kind = reference.exploiter.loss(images()[positions], [samples()[i] for i in positions])
        torch.testing.assert_close(losses[f'{kind}/decode.loss_ce'], factor * of_kind['decode.loss_ce'])


def test_binary_head_labels_by_its_threshold():
    binary = dict(
        num_classes=2, out_channels=1, threshold=0.3, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)
    )
    model = wrap(encoder_decoder(fcn(**binary)))
    batch = samples()
    for sample in batch:
        sample.gt_sem_seg.data.clamp_(max=1)
    chosen = images()[torch.tensor(MIXED)]
    with torch.no_grad():
        logits = model.creator.encode_decode(chosen, [dict(img_shape=(SIZE, SIZE))] * 2)
        # about half of the pixels on either side of the threshold
        model.creator.decode_head.conv_seg.bias -= logits.median() + 0.8473
        probability = model.creator.encode_decode(chosen, [dict(img_shape=(SIZE, SIZE))] * 2).sigmoid()
    targets, _ = synthetic_targets(model, batch)
    assert torch.equal(targets, (probability[:, 0] > 0.3).long())
    assert 0.3 < targets.float().mean() < 0.7


def test_other_ground_truth_of_a_synthetic_sample_is_left_behind():
    model, batch = wrap(fpn()), samples()
    for sample in batch:
        sample.set_data(dict(gt_edge_map=PixelData(data=torch.zeros(1, SIZE, SIZE))))
    seen, original = [], model.exploiter.decode_head.loss_by_feat
    model.exploiter.decode_head.loss_by_feat = lambda x, given: seen.append(set(given[0].keys())) or original(x, given)
    model.loss(images(), batch)
    assert seen == [{'gt_sem_seg', 'gt_edge_map'}, {'gt_sem_seg'}]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    model = wrap(fpn(), min_confidence=0.1)
    with torch.autocast('cpu', dtype=dtype):
        losses = model.loss(images(), samples())
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.exploiter.parameters())


# The pool: one loss of all samples ----------------------------------------------------------------------------------


def own_loss():
    return encoder_decoder(fcn('HeadWithItsOwnLoss'))


def own_loss_in_a_cascade():
    config = cascade()
    config.decode_head[1].type = 'CascadedHeadWithItsOwnLoss'
    return config


def own_segmentor():
    return encoder_decoder(fcn(), type='DepthEstimator')


@pytest.mark.parametrize('config', [fpn, uper, segformer, cascade, own_loss, own_loss_in_a_cascade, own_segmentor])
@pytest.mark.parametrize('rule', ['GivenLabel', 'TeacherLabel'])
def test_the_pool_is_the_plain_segmentors_loss_bit_for_bit(config, rule):
    """Of the real samples with their labels and the synthetic ones with the rule's; dropout draws the same numbers."""
    model = wrap(config(), normalize_by='pooled', label_rule=dict(type=rule))
    model.tasks = TaskSet(SemanticSegmentation(K))
    relabelled, synthetic = samples(), torch.tensor(MIXED)
    if rule == 'TeacherLabel':
        labels = creators_labels(model, images()[synthetic])[1]
        for i, label in zip([1, 3], labels, strict=True):
            relabelled[i].gt_sem_seg = PixelData(data=label[None])
    plain = copy.deepcopy(model.exploiter)
    torch.manual_seed(6)
    expected = plain.loss(images(), relabelled)
    torch.manual_seed(6)
    found = model.loss(images(), samples())
    assert set(found) == {*expected, KEPT}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize('config', [own_loss, own_loss_in_a_cascade, own_segmentor])
def test_who_takes_no_weights_has_no_synthetic_weight_in_a_pool(config):
    model = wrap(config(), normalize_by='pooled', synthetic_weight=0.3, use_stored_labels=True)
    with pytest.raises(ValueError, match="has a loss of its own.*synthetic_weight=1 where normalize_by='pooled'"):
        model.loss(images(), samples())


def test_a_pool_without_real_samples():
    model = wrap(fpn(dropout=0), normalize_by='pooled')
    pool = model.loss(images(), samples([True] * 4))
    model.normalize_by = 'batch'
    assert torch.equal(pool['decode.loss_ce'], model.loss(images(), samples([True] * 4))['synthetic/decode.loss_ce'])
