"""A plain config, no stages: killed and resumed equals straight, its augmentation included."""

import pytest
import torch
from mmengine.registry import init_default_scope
from tiny_nyuv2 import narrow, write_nyuv2, write_weights

from mmdiff2in1.training.runs import build_runner, resume_where_possible


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('nyuv2')
    return write_nyuv2(folder / 'data'), write_weights(folder / 'weights')


def watch(runner):
    """Gets the images of every step."""
    seen, step = [], runner.model.train_step

    def watched(data, optim_wrapper):
        seen.append(torch.stack([image.float() for image in data['inputs']]))
        return step(data, optim_wrapper)

    runner.model.train_step = watched
    return seen


@pytest.mark.parametrize('seed', [0, 1])
def test_killed_and_resumed_equals_straight(tiny, tmp_path, seed):
    """Mirror and colours of Bae et al.'s baseline: at seed 1 a third batch that was augmented anew would differ."""

    def run(name, *lengths):
        for steps in lengths:
            cfg = narrow('baselines/bae_nyuv2-normal', *tiny)
            cfg.randomness.seed = seed
            cfg.work_dir = str(tmp_path / name)
            cfg.train_cfg.update(max_iters=steps, val_interval=steps + 1)
            cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=3)
            cfg.train_dataloader.batch_size = 2
            init_default_scope('mmseg')
            resume_where_possible(cfg)
            runner = build_runner(cfg)
            seen = watch(runner)
            runner.train()
        return seen, runner.model.state_dict()

    (straight, weights), (resumed, others) = run('straight', 4), run('resumed', 2, 4)
    assert len(straight) == 4 and len(resumed) == 2
    assert all(torch.equal(a, b) for a, b in zip(straight[2:], resumed, strict=True))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
