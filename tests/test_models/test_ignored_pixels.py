"""Dice and Hausdorff on partly known images: ignored pixels of created ones are left out, by closed forms."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving.ignored_pixels import left_out
from mmdiff2in1.models.self_improving.weighted_losses import losses_of_head
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet

K, SIZE, EPS = 3, 8, 1e-3
DICE, HAUSDORFF = 'loss_dice', 'loss_huasdorff_disstance'


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(0)
        yield


def head(loss, classes=K, **settings):
    return MODELS.build(
        dict(
            type='FCNHead', in_channels=4, channels=4, num_convs=0, concat_input=False, num_classes=classes,
            loss_decode=loss, **settings,
        )
    )  # fmt: skip


def sample(label, synthetic):
    found = SegDataSample(metainfo=dict(synthetic=synthetic))
    found.gt_sem_seg = PixelData(data=label[None])
    return found


def partly_known(ignored=255):
    label = torch.randint(1, K, (SIZE, SIZE))
    label[:, SIZE // 2 :] = ignored
    return label


def losses(built, logits, samples, classes=K):
    tasks = TaskSet(SemanticSegmentation(classes, built.ignore_index))
    return losses_of_head(built, logits, samples, tasks, 'loss')


def dice(probabilities, label, naive):
    """One image of known pixels, (K, P) and (P,)."""
    target = torch.nn.functional.one_hot(label, K).T.float()
    both = 2 * (probabilities * target).sum()
    if naive:
        return 1 - (both + EPS) / (probabilities.sum() + target.sum() + EPS)
    return 1 - both / (probabilities.square().sum() + target.sum() + 2 * EPS)


@pytest.mark.parametrize('ignored', [255, 0, 20])
@pytest.mark.parametrize('use_sigmoid', [True, False])
@pytest.mark.parametrize('naive', [True, False])
def test_dice_of_a_created_image_is_that_of_its_known_pixels(use_sigmoid, naive, ignored):
    built = head(dict(type='DiceLoss', use_sigmoid=use_sigmoid, naive_dice=naive), ignore_index=ignored)
    logits, label = torch.randn(1, K, SIZE, SIZE, requires_grad=True), partly_known(ignored)
    found = losses(built, logits, [sample(label, True)])[DICE]
    probabilities = logits.sigmoid() if use_sigmoid else logits.softmax(1)
    known = label != ignored
    torch.testing.assert_close(found, dice(probabilities[0][:, known], label[known], naive))
    found.backward()
    assert logits.grad[0][:, known].abs().min() > 0 and not logits.grad[0][:, ~known].any()
    assert built.loss_decode.activate and not built.loss_decode._forward_pre_hooks


def test_dice_of_probabilities_that_the_head_gives():
    built = head(dict(type='DiceLoss', activate=False))
    given, label = torch.rand(1, K, SIZE, SIZE), partly_known()
    known = label != 255
    found = losses(built, given, [sample(label, True)])[DICE]
    torch.testing.assert_close(found, dice(given[0][:, known], label[known], naive=False))
    assert not built.loss_decode.activate


@pytest.mark.parametrize('loss', [dict(type='DiceLoss'), dict(type='HuasdorffDisstanceLoss')])
def test_real_images_and_those_that_are_known_keep_the_loss_of_mmseg(loss):
    built, logits = head(loss), torch.randn(2, K, SIZE, SIZE)
    whole = torch.randint(0, K, (SIZE, SIZE))
    for samples in (
        [sample(partly_known(), False), sample(whole, False)],
        [sample(partly_known(), False), sample(whole, True)],
    ):
        assert losses(built, logits, samples) == built.loss_by_feat(logits, samples)
    partly = [sample(partly_known(), True), sample(whole, False)]
    assert losses(built, logits, partly) != built.loss_by_feat(logits, partly)


def test_hausdorff_of_a_created_image_counts_known_pixels():
    """Two classes, one row: known are two pixels of class 1, both seen; they are 2 and 1 pixels from the background."""
    built = head(dict(type='HuasdorffDisstanceLoss'), classes=2)
    logits = torch.tensor([[[[0.0, 0, 0, 0]], [[2.0, 3, 4, 5]]]], requires_grad=True)
    label = torch.tensor([[1, 1, 255, 255]])
    found = losses(built, logits, [sample(label, True)], classes=2)[HAUSDORFF]
    missed = 1 - logits[0, 1, 0, :2].detach().sigmoid()
    squared = torch.tensor([2.0, 1.0]).square()  # the distance in the label, and again that in the prediction
    torch.testing.assert_close(found, (missed.square() * 2 * squared).sum() / 4 / 2)
    found.backward()
    assert logits.grad[..., :2].abs().min() > 0 and not logits.grad[..., 2:].any()


def test_the_hooks_go_when_a_loss_fails():
    built = head([dict(type='DiceLoss'), dict(type='HuasdorffDisstanceLoss')])
    with pytest.raises(ZeroDivisionError), left_out(built, [sample(partly_known(), True)]):
        assert all(loss._forward_pre_hooks for loss in built.loss_decode)
        raise ZeroDivisionError
    assert built.loss_decode[0].activate and not any(loss._forward_pre_hooks for loss in built.loss_decode)


@pytest.mark.parametrize('normalize_by', ['batch', 'pooled'])
def test_in_the_self_improving_model(normalize_by):
    """A created image that is known nowhere on its right half does not move what is seen there."""
    norm = dict(type='BN', requires_grad=True)
    segmentor = ConfigDict(
        type='EncoderDecoder',
        backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=1, strides=(1,),
                      dilations=(1,), out_indices=(0,), norm_cfg=norm),
        decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=0, concat_input=False, num_classes=K,
                         dropout_ratio=0, loss_decode=dict(type='DiceLoss', use_sigmoid=False)),
    )  # fmt: skip
    model = SelfImprovingSegmentor(segmentor, use_stored_labels=True, normalize_by=normalize_by).train()
    seen = []

    def keep(module, args, output):
        output.retain_grad()
        seen.append(output)

    model.exploiter.decode_head.conv_seg.register_forward_hook(keep)
    known = torch.randint(0, K, (4 * SIZE, 4 * SIZE))
    partly = known.clone()
    partly[:, 2 * SIZE :] = 255
    batch = [sample(known, False), sample(partly, True)]
    losses = model.loss(torch.randn(2, 3, 4 * SIZE, 4 * SIZE), batch)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    real, created = seen[-1].grad
    middle = created.shape[-1] // 2 + 1  # the maps are enlarged between neighbours
    assert real[..., middle:].any() and created[..., : middle - 1].any() and not created[..., middle:].any()
