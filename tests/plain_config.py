"""A config of mmseg's users, as far as recipes look at it."""

from mmengine.config import Config


def base(**entries) -> Config:
    """A config as mmseg's users have them, of a loop and a schedule of its own."""
    plain = dict(
        model=dict(type='EncoderDecoder', backbone=dict(type='ResNet')),
        train_dataloader=dict(
            batch_size=4, sampler=dict(type='InfiniteSampler'), dataset=dict(type='CityscapesDataset')
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=80),
        val_cfg=dict(type='ValLoop', fp16=True),
        test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        param_scheduler=[dict(type='PolyLR', end=80)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=8)),
    )
    return Config(plain | entries)
