"""The pieces of the engine around the real `SelfImprovingSegmentor`, from two checkpoints to two mIoU."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS, MODELS
from torch import nn

import mmdiff2in1.models  # noqa: F401


@MODELS.register_module(force=True)
class TwoLevels(nn.Sequential):
    """A backbone of one plain-BN layer."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        return (super().forward(x),)


@HOOKS.register_module(force=True)
class Break(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 5:
            raise KeyboardInterrupt


def settings():
    head = dict(type='FCNHead', in_channels=8, channels=8, num_classes=3, num_convs=1, norm_cfg=dict(type='BN'))
    segmentor = dict(
        type='EncoderDecoder',
        backbone=dict(type='TwoLevels'),
        decode_head=head,
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=(12, 12)
        ),
        test_cfg=dict(mode='whole'),
    )
    return dict(
        model=dict(type='SelfImprovingSegmentor', segmentor=segmentor),
        val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        default_hooks=dict(checkpoint=dict(type='AtomicCheckpointHook', interval=4, by_epoch=False, save_best='mIoU')),
    )


@pytest.fixture(scope='module')
def straight(tiny, scene_files, tmp_path_factory):
    recorder = dict(type='Recorder')
    folder = tmp_path_factory.mktemp('segmentor') / 'straight'
    runner = tiny.segmentation_runner(folder, scene_files, extra_hooks=[recorder], **settings())
    runner.model.init_weights()
    runner.first = copy.deepcopy(runner.model.creator.state_dict())
    runner.train()
    return runner


def test_both_models_are_evaluated(straight):
    scalars = straight.message_hub.log_scalars
    assert len(scalars['val/mIoU'].data[0]) == len(scalars['val/exploiter/mIoU'].data[0]) == 3
    assert straight.model.evaluate == 'creator'
    assert {'train/real/decode.loss_ce', 'train/synthetic/decode.loss_ce'} <= set(scalars)


def test_one_pass_gives_the_metrics_of_two(straight):
    loop = straight.val_loop
    both = loop.run()
    for name, prefix in (('creator', ''), ('exploiter', 'exploiter/')):
        with straight.model.evaluated(name), torch.no_grad():
            for batch in loop.dataloader:
                loop.evaluator.process(straight.model.val_step(batch), batch)
        alone = loop.evaluator.evaluate(6)
        assert {f'{prefix}{key}' for key in alone} <= set(both)
        assert {key: both[f'{prefix}{key}'] for key in alone} == pytest.approx(alone, rel=0, abs=0, nan_ok=True)


def test_creator_is_the_average(tiny, straight):
    recorder = next(hook for hook in straight.hooks if isinstance(hook, tiny.Recorder))
    expected, _, updates = tiny.by_recursion(straight.first, recorder.exploiters, batch=5, every=7)
    assert updates == 8 * 5 // 7
    for name, value in straight.model.creator.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_interrupted_and_resumed_equals_straight(tiny, scene_files, straight, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny.segmentation_runner(tmp_path / 'run', scene_files, extra_hooks=[dict(type='Break')], **settings()).train()
    runner = tiny.segmentation_runner(tmp_path / 'run', scene_files, resume=True, **settings())
    runner.train()
    expected = straight.model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
