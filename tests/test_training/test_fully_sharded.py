"""Two processes that share weights, gradients and moments (`FullyShardedModel`) train what two whole copies train."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from patience import patient
from tiny_chain import ROOT, chain_config, logged_losses

from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.stages import self_improving_config, warmup_config

STEPS = 4


@pytest.fixture(scope='module')
def trained(chain_folder, tmp_path_factory):
    """Folders of the runs of `sharded_process.py`; what its two processes held.

    A U-Net that is fine-tuned and denoises on the way, recomputed layers, clipped gradients, a θ_C that moves after
    each step, a validation halfway; in the warm-up gradients of two batches are added.
    """
    folder = tmp_path_factory.mktemp('sharded')
    cfg = chain_config(chain_folder, variant='-finetune')
    scenes = chain_folder / 'scenes' / 'train'
    cfg.train_dataloader.dataset.dataset.pipeline[-2].captions = str(scenes / 'captions.jsonl')
    cfg.merge_from_dict(
        {
            'model.segmentor.backbone.gradient_checkpointing': True,
            'optim_wrapper.clip_grad': dict(max_norm=0.5),
            'train_dataloader.dataset.dataset.num_labelled': 8,
            'train_cfg.val_interval': STEPS // 2,
            'custom_hooks.1.samples_per_update': 12,
            'default_hooks.checkpoint.interval': STEPS // 2,
        }
    )
    store = SampleStore(folder / 'store')
    for image in sorted((scenes / 'images').glob('*.png'))[:6]:
        store.add(dict(sample_id=image.stem, source=f'images/{image.name}'), 255 - cv2.imread(str(image)))
    self_improving_config(cfg, folder, None, store.folder).dump(folder / 'stage.py')
    warmup = warmup_config(cfg, folder)
    warmup.optim_wrapper.accumulative_counts = 2
    warmup.dump(folder / 'warmup.py')
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name('sharded_process.py'))]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=patient(400))[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)[-6000:]
    return folder, [torch.load(folder / f'held.{rank}.pth') for rank in range(2)]


def checkpoint(folder, step=STEPS):
    return torch.load(folder / f'iter_{step}.pth', map_location='cpu', weights_only=False)


def numbers(found):
    """Name → tensor, of weights and moments; all of them whole."""
    moments = {
        f'{i}.{name}': torch.as_tensor(value)
        for i, state in found['optimizer']['state'].items()
        for name, value in state.items()
    }
    tensors = found['state_dict'] | moments
    assert {type(tensor) for tensor in tensors.values()} == {torch.Tensor}
    return tensors


def assert_close(one, other):
    assert list(one) == list(other)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f'{name}: {m}')


@pytest.mark.slow  # two processes, seven runs
@pytest.mark.parametrize(
    ('whole', 'sharded', 'steps'),
    [('plain', 'sharded', STEPS), ('plain', 'crossed', STEPS), ('warmup', 'sharded-warmup', 2)],
)
def test_losses_weights_average_and_moments_are_those_of_whole_copies(trained, whole, sharded, steps):
    """`crossed` goes on, sharded, from a checkpoint of whole copies."""
    folder, _ = trained
    expected, found = (logged_losses(folder / name) for name in (whole, sharded))
    expected = expected[-len(found) :]
    assert [entry['iter'] for entry in found] == [entry['iter'] for entry in expected]
    assert len(found) == (steps // 2 if sharded == 'crossed' else steps)
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-6)
    assert_close(numbers(checkpoint(folder / whole, steps)), numbers(checkpoint(folder / sharded, steps)))
    if whole == 'plain':
        assert found[-1]['ema_updates'] == STEPS and 'synthetic/decode.loss_ce' in found[-1]


@pytest.mark.slow
def test_ended_and_resumed_equals_straight(trained):
    folder, _ = trained
    straight, resumed = (numbers(checkpoint(folder / name)) for name in ('sharded', 'resumed'))
    assert list(straight) == list(resumed)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())


@pytest.mark.slow
def test_each_process_holds_half(trained):
    _, held = trained
    for run in ('sharded', 'resumed', 'sharded warm-up'):
        for what, (_, every) in held[0][run].items():
            own = [each[run][what][0] for each in held]
            assert sum(own) == every
            assert max(own) <= 0.505 * every, (run, what)  # a layer of one row is on the first process
    for what, (own, every) in held[0]['plain'].items():
        assert own == every > 1e5, what


@pytest.mark.slow
def test_an_inferencer_reads_the_checkpoint(trained, chain_folder):
    folder, _ = trained
    image = next((chain_folder / 'scenes' / 'test' / 'images').glob('*.png'))
    of_whole, of_sharded = (
        Diff2in1Inferencer(str(folder / 'stage.py'), str(folder / name / f'iter_{STEPS}.pth'), device='cpu')(
            str(image)
        )[0]
        for name in ('plain', 'sharded')
    )
    assert of_whole.map.shape == of_sharded.map.shape == (32, 32)
    assert (of_whole.map == of_sharded.map).mean() > 0.99
