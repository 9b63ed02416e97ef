"""MetaPrompts' twins over tiny data and weights: killed in the warm-up and in the self-improving stage, and resumed."""

import json

import pytest
import tiny_ade20k
import tiny_nyuv2
import torch
from tiny_chain import final_state, finish, start

STEPS, KILLED = 4, 2


def ade20k(folder):
    weights = tiny_ade20k.write_weights(folder / 'weights')
    data = tiny_ade20k.write_ade20k(folder / 'data')
    return tiny_ade20k.narrow('diff2in1/metaprompts_ade20k', data, weights, folder / 'classes.pth')


def nyu_depth(folder):
    weights = tiny_nyuv2.write_weights(folder / 'weights')
    return tiny_nyuv2.narrow('diff2in1/metaprompts_nyu-depth', tiny_nyuv2.write_nyuv2(folder / 'data'), weights)


@pytest.mark.slow
@pytest.mark.parametrize('make', [ade20k, nyu_depth])
def test_killed_twice_and_resumed_equals_straight(make, tmp_path):
    cfg = make(tmp_path)
    for stage in (cfg, cfg.stages.warmup):
        stage.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
        stage.setdefault('default_hooks', {}).setdefault('checkpoint', {}).update(interval=1)
    config = tmp_path / 'chain.py'
    cfg.dump(config)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    finish(start(config, straight))
    flags = []
    for stage in ('warmup', 'self_improving'):
        start(config, killed, *flags).until((killed / stage / f'iter_{KILLED}.pth').exists).kill()
        assert not (killed / stage / 'finished.json').exists()
        flags = ['--resume']
    finish(start(config, killed, *flags))

    for stage in ('warmup', 'self_improving'):
        expected, found = (final_state(run, stage, STEPS) for run in (straight, killed))
        assert expected.keys() == found.keys() and any('prompts' in name for name in expected)
        assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
    images = [{p.name: p.read_bytes() for p in run.glob('synthetic/images/*.png')} for run in (straight, killed)]
    assert images[0] == images[1] and images[0]
    results = [json.loads((run / 'results.json').read_text()) for run in (straight, killed)]
    assert results[0]['test'] == results[1]['test']
