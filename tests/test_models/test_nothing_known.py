"""A sample of which nothing is known: every loss of mmseg, real and created, with losses and gradients of exactly 0."""

import inspect

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.datasets.transforms import GenerateEdge
from mmseg.models.decode_heads import FCNHead, Mask2FormerHead, MaskFormerHead
from mmseg.models.decode_heads.san_head import SideAdapterCLIPHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving.class_borders import class_borders
from mmdiff2in1.models.self_improving.head_kinds import gives_scores, minds_ignored
from mmdiff2in1.models.self_improving.weighted_losses import losses_of_head
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet

K, SIZE = 5, 32
BN = dict(type='BN', requires_grad=True)
RESNET = dict(
    type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
    out_indices=(0, 1, 2), norm_cfg=BN,
)  # fmt: skip
IN_A_HEAD = {
    'CrossEntropyLoss': [{}, dict(use_sigmoid=True), dict(class_weight=[1.0, 2, 3, 4, 5]), dict(avg_non_ignore=True)],
    'DiceLoss': [dict(use_sigmoid=False), {}],
    'HuasdorffDisstanceLoss': [{}],
    'LovaszLoss': [dict(reduction='none'), dict(per_image=True)],
    'TverskyLoss': [{}],
}
OF_ITS_OWN_HEAD = {'OhemCrossEntropy', 'BoundaryLoss'}  # DDRHead, PIDHead
NOT_OF_CLASSES = {'SiLogLoss'}
NOT_ON_A_PROCESSOR = {'FocalLoss'}  # plain mmseg stops, too: shapes of its path without CUDA do not fit


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@MODELS.register_module()
class MasksOfTheTest(FCNHead):
    """Stands for MaskFormer's head, which needs mmdet: 4 masks, scores Σ softmax · sigmoid, else "no object"."""

    gives_scores = True

    def __init__(self, **settings):
        super().__init__(**settings)
        self.cls_embed = torch.nn.Linear(self.channels, 4 * (self.num_classes + 1))
        self.conv_seg = torch.nn.Conv2d(self.channels, 4, 1)

    def forward(self, inputs):
        features = self._forward_feature(inputs)
        classes = self.cls_embed(features.mean((2, 3))).view(len(features), 4, -1)
        return classes, self.conv_seg(features)

    def loss(self, inputs, batch_data_samples, train_cfg):
        classes, masks = self.forward(inputs)
        target = torch.full(classes.shape[:2], self.num_classes)
        for own, sample in zip(target, batch_data_samples, strict=True):
            found = [label for label in sample.gt_sem_seg.data.unique().tolist() if label != self.ignore_index][:4]
            own[: len(found)] = torch.tensor(found)
        loss = torch.nn.functional.cross_entropy(classes.flatten(0, 1), target.flatten())
        return dict(loss_cls=loss, loss_mask=masks.square().mean())

    def predict(self, inputs, batch_img_metas, test_cfg):
        classes, masks = self.forward(inputs)
        masks = torch.nn.functional.interpolate(masks, batch_img_metas[0]['img_shape'], mode='bilinear').sigmoid()
        return torch.einsum('bqc,bqhw->bchw', classes.softmax(-1)[..., :-1], masks)


@MODELS.register_module()
class DepthHeadOfNothing(FCNHead):
    def predict_by_feat(self, seg_logits, batch_img_metas):
        return super().predict_by_feat(seg_logits.sigmoid() * 10, batch_img_metas)

    def loss_by_feat(self, seg_logits, batch_data_samples):
        target = torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])
        resized = torch.nn.functional.interpolate(seg_logits.sigmoid() * 10, target.shape[2:])
        return dict(loss_depth=self.loss_decode(resized, target))


def head(kind='FCNHead', **settings):
    own = dict(
        type=kind, in_channels=16, in_index=2, channels=4, num_convs=1, concat_input=False, dropout_ratio=0,
        num_classes=K, norm_cfg=BN,
    )  # fmt: skip
    return own | settings


def config(decode_head, **settings):
    return ConfigDict(
        dict(type='EncoderDecoder', backbone=RESNET, decode_head=decode_head, test_cfg=dict(mode='whole')) | settings
    )


def sample(label, synthetic, **metas):
    made = SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), synthetic=synthetic, **metas))
    made.gt_sem_seg = PixelData(data=label)
    return made


def unknown(index):
    return torch.full((1, SIZE, SIZE), index)


def images(count=2):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def total(losses):
    return sum(value if torch.is_tensor(value) else sum(value) for name, value in losses.items() if 'loss' in name)


def teaches_nothing(model, batch, inputs=None):
    model.zero_grad()
    losses = model.loss(images(len(batch)) if inputs is None else inputs, batch)
    loss = total(losses)
    assert loss.item() == 0 and loss.requires_grad
    loss.backward()
    grads = {name: p.grad for name, p in model.exploiter.named_parameters() if p.requires_grad}
    assert all(grad is not None and not grad.any() for grad in grads.values()), grads
    return losses


def test_every_loss_of_mmseg_is_tested_here():
    registered = {
        name for name, kind in MODELS.module_dict.items()
        if inspect.isclass(kind) and kind.__module__.startswith('mmseg.models.losses')
    }  # fmt: skip
    assert registered == {*IN_A_HEAD, *OF_ITS_OWN_HEAD, *NOT_OF_CLASSES, *NOT_ON_A_PROCESSOR}


@pytest.mark.parametrize('ignored', [255, 0, 20])
@pytest.mark.parametrize(
    ('loss', 'settings'), [(loss, settings) for loss, many in IN_A_HEAD.items() for settings in many]
)
def test_all_pixels_ignored_teach_nothing(loss, settings, ignored):
    decode_head = head(ignore_index=ignored, loss_decode=dict(type=loss, **settings))
    model = SelfImprovingSegmentor(config(decode_head), use_stored_labels=True).train()
    for synthetic in (True, False):
        teaches_nothing(model, [sample(unknown(ignored), synthetic) for _ in range(2)])
    mixed = [sample(torch.randint(1, K, (1, SIZE, SIZE)), False), sample(unknown(ignored), True)]
    losses = model.loss(images(), mixed)
    assert total({name: value for name, value in losses.items() if name.startswith('synthetic')}).item() == 0
    assert total(losses).isfinite() and total(losses) > 0


@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'DiceLoss', 'LovaszLoss'])
@pytest.mark.parametrize('classes', [dict(num_classes=1), dict(num_classes=2, out_channels=1)])
def test_a_binary_head_and_nothing_known(loss, classes):
    kind = dict(loss_type='binary', reduction='none') if loss == 'LovaszLoss' else dict(use_sigmoid=True)
    decode_head = head(**classes, threshold=0.5, loss_decode=dict(type=loss, **kind))
    model = SelfImprovingSegmentor(config(decode_head), use_stored_labels=True).train()
    for synthetic in (True, False):
        teaches_nothing(model, [sample(unknown(255), synthetic) for _ in range(2)])


def test_of_two_samples_the_one_without_a_label_is_left_out():
    model = MODELS.build(head(loss_decode=dict(type='DiceLoss', use_sigmoid=False)))
    logits = torch.randn(2, K, 8, 8, requires_grad=True)
    known, blank = sample(torch.randint(0, K, (1, SIZE, SIZE)), True), sample(unknown(255), True)
    tasks = TaskSet(SemanticSegmentation(K))
    losses = losses_of_head(model, logits, [known, blank], tasks, 'loss')
    assert torch.equal(losses['loss_dice'], model.loss_by_feat(logits[:1], [known])['loss_dice'])
    losses['loss_dice'].backward()
    assert logits.grad[0].any() and not logits.grad[1].any()
    assert not minds_ignored(MODELS.build(head())) and minds_ignored(model)


@pytest.mark.parametrize('kind', ['EncHead', 'DAHead', 'STDCHead', 'DDRHead'])
def test_heads_that_make_losses_of_their_own(kind):
    own = {
        'EncHead': dict(num_codes=4, use_se_loss=True, add_lateral=False, num_convs=None, concat_input=None,
                        loss_se_decode=dict(type='CrossEntropyLoss', use_sigmoid=True), in_index=[2], in_channels=[16]),
        'DAHead': dict(pam_channels=4, num_convs=None, concat_input=None),
        'STDCHead': dict(num_classes=2, boundary_threshold=0.1,
                         loss_decode=[dict(type='CrossEntropyLoss'), dict(type='DiceLoss')]),
        'DDRHead': dict(num_convs=None, concat_input=None,
                        loss_decode=[dict(type='OhemCrossEntropy', min_kept=4), dict(type='OhemCrossEntropy')]),
    }[kind]  # fmt: skip
    cfg = {name: value for name, value in head(kind, **own).items() if value is not None}
    if kind == 'DDRHead':
        cfg = {name: value for name, value in cfg.items() if name != 'in_index'}
    built = MODELS.build(cfg).train()
    wide = torch.randn(2, 16, 8, 8)
    given = (torch.randn(2, 8, 8, 8), wide) if kind == 'DDRHead' else [wide] * 3
    outputs = built.forward(given)
    tasks = TaskSet(SemanticSegmentation(built.num_classes))
    losses = losses_of_head(built, outputs, [sample(unknown(255), True) for _ in range(2)], tasks, 'loss')
    loss = total(losses)
    assert loss.item() == 0 and loss.requires_grad
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in built.parameters())


def test_scores_are_no_logits():
    """A perfect map of 150 classes: a softmax over its scores would be 0.018 sure of it."""
    made = config(head('MasksOfTheTest', num_classes=150))
    model = SelfImprovingSegmentor(made, min_confidence=0.9)
    task = model.tasks.only
    assert task.scores and gives_scores(model.exploiter.decode_head)
    target = torch.randint(0, 150, (1, 4, 4))
    scores = torch.nn.functional.one_hot(target, 150).movedim(-1, 1).float()
    label, confidence = task.pseudo_label(scores)
    assert torch.equal(label[:, 0], target) and torch.all(confidence == 1)
    torch.testing.assert_close(task.class_logits(scores).softmax(1), scores, atol=1e-6, rtol=0)
    assert task.pseudo_label(scores * 0.3)[1].max().item() == pytest.approx(0.3)  # no mask is sure of the pixel
    assert SelfImprovingSegmentor(
        made, task=dict(type='SemanticSegmentation', num_classes=150)
    ).tasks.only.scores  # whoever names the task
    for kind in (MaskFormerHead, Mask2FormerHead, SideAdapterCLIPHead):
        assert gives_scores(kind.__new__(kind))
    plain = SemanticSegmentation(150)
    assert 'scores' not in repr(plain) and 'scores=True' in repr(task)
    assert torch.equal(plain.output_for(task, scores.log()).argmax(1), target)
    torch.testing.assert_close(task.output_for(plain, scores).softmax(1), scores, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match='scores=True'):
        SemanticSegmentation(2, threshold=0.5, scores=True)


def test_masks_are_not_pushed_to_no_object():
    model = SelfImprovingSegmentor(config(head('MasksOfTheTest')), min_confidence=1.0).train()
    losses = teaches_nothing(model, [sample(unknown(255), True) for _ in range(2)])
    assert losses['kept_share/semantic_segmentation'] == 0
    assert losses['synthetic/decode.loss_cls'] == 0
    real = sample(torch.randint(0, K, (1, SIZE, SIZE)), False)
    mixed = model.loss(images(), [real, sample(unknown(255), True)])
    assert mixed['real/decode.loss_cls'] > 0 and mixed['synthetic/decode.loss_cls'] == 0
    model.normalize_by = 'pooled'
    pooled = model.loss(images(), [real, sample(unknown(255), True)])
    torch.testing.assert_close(pooled['decode.loss_cls'], 2 * mixed['real/decode.loss_cls'])


@pytest.mark.parametrize('width', [1, 2, 3, 4, 5])
def test_borders_are_those_of_mmsegs_transform(width):
    target = torch.randint(0, 3, (1, 3, 4), generator=torch.Generator().manual_seed(width))
    target = target.repeat_interleave(10, 1).repeat_interleave(9, 2)
    target[:, :2, :4] = 255
    transform = GenerateEdge(edge_width=width)
    expected = transform(dict(img_shape=target.shape[1:], gt_seg_map=target[0].numpy().astype('uint8')))['gt_edge_map']
    found = class_borders(target, SemanticSegmentation(3), width)
    known = target != 255
    assert torch.equal(found[known], torch.from_numpy(expected).long()[None][known])
    assert (found[~known] == 255).all() and 0 < (found == 1).sum() < known.sum()


def pidnet():
    backbone = dict(type='PIDNet', in_channels=3, channels=4, ppm_channels=4, num_stem_blocks=1, num_branch_blocks=1,
                    align_corners=False, norm_cfg=BN, act_cfg=dict(type='ReLU', inplace=True))  # fmt: skip
    ohem = dict(type='OhemCrossEntropy', min_kept=10)
    losses = [dict(type='CrossEntropyLoss'), ohem, dict(type='BoundaryLoss', loss_weight=20.0), ohem]
    decode_head = dict(type='PIDHead', in_channels=16, channels=8, num_classes=K, norm_cfg=BN,
                       act_cfg=dict(type='ReLU', inplace=True), loss_decode=losses)  # fmt: skip
    return config(decode_head, backbone=backbone)


def test_pidnet_learns_the_borders_of_the_pseudo_label():
    model = SelfImprovingSegmentor(pidnet()).train()
    torch.nn.init.normal_(model.creator.decode_head.conv_seg.weight)
    seen = []
    own = model.exploiter.decode_head.loss_by_feat
    model.exploiter.decode_head.loss_by_feat = lambda outputs, batch: seen.extend(batch) or own(outputs, batch)
    size = 64
    real, created = (sample(torch.randint(0, K, (1, size, size)), flag, edge_width=4) for flag in (False, True))
    real.gt_edge_map = PixelData(data=torch.randint(0, 2, (1, size, size)))
    inputs = torch.randn(2, 3, size, size)
    losses = model.loss(inputs, [real, created])
    total(losses).backward()
    assert {'real/decode.loss_bd', 'synthetic/decode.loss_bd'} <= set(losses)
    taught = next(each for each in seen if each.metainfo['synthetic'])
    assert torch.equal(taught.gt_edge_map.data, class_borders(taught.gt_sem_seg.data, model.tasks.only, 4))
    del model.exploiter.decode_head.loss_by_feat


def test_pidnet_without_a_known_pixel():
    model = SelfImprovingSegmentor(pidnet(), use_stored_labels=True).train()
    blank = [sample(torch.full((1, 64, 64), 255), True) for _ in range(2)]
    teaches_nothing(model, blank, torch.randn(2, 3, 64, 64))


def test_a_depth_estimator_and_images_without_depth():
    """Real batches stay mmseg's, unless nothing is known at all; created images without depth are left out."""
    loss = dict(type='SiLogLoss')
    cfg = config(head('DepthHeadOfNothing', num_classes=1, threshold=0.5, loss_decode=loss), type='DepthEstimator')
    model = SelfImprovingSegmentor(cfg, use_stored_labels=True).train()
    known, blank = (SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), synthetic=False)) for _ in range(2))
    known.gt_depth_map = PixelData(data=torch.rand(1, SIZE, SIZE) + 1)
    blank.gt_depth_map = PixelData(data=torch.zeros(1, SIZE, SIZE))
    teaches_nothing(model, [blank, blank])
    assert torch.equal(
        total(model.loss(images(), [known, blank])), total(model.exploiter.loss(images(), [known, blank]))
    )
    created = [each.new() for each in (known, blank)]
    for each in created:
        each.set_metainfo(dict(synthetic=True))
    losses = model.loss(images(), created)
    torch.testing.assert_close(total(losses), total(model.exploiter.loss(images()[:1], [known])))
    with pytest.raises(ValueError, match=r"A DepthEstimator predicts depth.*type='Depth'"):
        SelfImprovingSegmentor(cfg, task=dict(type='SemanticSegmentation', num_classes=2))


def test_an_ignored_class_is_neither_label_nor_loss():
    """mmseg's configs for HSI-Drive: ignore_index=0, and 255 in the padding."""
    auxiliary = head(ignore_index=0)
    model = SelfImprovingSegmentor(config(head(ignore_index=0), auxiliary_head=auxiliary)).train()
    task = model.tasks.only
    assert (task.num_classes, task.ignore_index) == (K, 0)
    logits = torch.eye(K)[:, None][None].repeat(1, 1, 1, 1)  # pixel i is of class i
    label, _ = task.pseudo_label(logits)
    assert task.valid(label).flatten().tolist() == [False, True, True, True, True]
    assert task.valid(torch.tensor([[[[0, 3, 255]]]])).flatten().tolist() == [False, True, False]
    batch = [sample(torch.randint(1, K, (1, SIZE, SIZE)), flag) for flag in (False, True)]
    assert total(model.loss(images(), batch)).isfinite()
    given = SelfImprovingSegmentor(config(head(ignore_index=0)), use_stored_labels=True).train()
    assert total(given.loss(images(), [batch[0], sample(unknown(255), True)])).isfinite()
    with pytest.raises(ValueError, match='auxiliary_head ignores 255, the task 0'):
        SelfImprovingSegmentor(config(head(ignore_index=0), auxiliary_head=head()))


def test_one_class_named_as_one():
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    cfg = config(head(num_classes=1, threshold=0.4, loss_decode=loss))
    model = SelfImprovingSegmentor(cfg, task=dict(type='SemanticSegmentation', num_classes=1)).train()
    assert (model.tasks.only.num_classes, model.tasks.only.threshold) == (2, 0.4)
    batch = [sample(torch.randint(0, 2, (1, SIZE, SIZE)), flag) for flag in (False, True)]
    assert total(model.loss(images(), batch)).isfinite()
    with pytest.raises(ValueError, match='The task has 3 classes, the decode head 2 .mmseg'):
        SelfImprovingSegmentor(cfg, task=dict(type='SemanticSegmentation', num_classes=3))
