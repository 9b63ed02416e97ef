"""The chain under torchrun with two processes on the CPU."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from patience import patient
from PIL import Image
from tiny_chain import ROOT, chain_config, logged_losses


@pytest.mark.slow
def test_two_processes_run_the_chain(chain_folder, straight):
    config, work_dir = chain_folder / 'two.py', chain_folder / 'two-processes'
    chain_config(chain_folder).dump(config)
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        '2',
        str(ROOT / 'tools' / 'train.py'),
        str(config),
        '--work-dir',
        str(work_dir),
    ]
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patient(500))
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]

    logged = logged_losses(work_dir / 'self_improving')
    assert [entry['iter'] for entry in logged] == list(range(1, 21))
    # Two processes see 12 samples a step: 20 · 12 // 40 updates.
    assert logged[-1]['ema_updates'] == 6
    assert {'mIoU', 'exploiter/mIoU'} <= set(json.loads((work_dir / 'results.json').read_text())['test'])

    alone = {
        p.name: np.asarray(Image.open(p)).astype(int) for p in (straight[0] / 'synthetic' / 'images').glob('*.png')
    }
    shared = {p.name: np.asarray(Image.open(p)).astype(int) for p in (work_dir / 'synthetic' / 'images').glob('*.png')}
    assert alone.keys() == shared.keys()
    assert max(abs(alone[name] - shared[name]).max() for name in alone) <= 1
    assert not list((work_dir / 'synthetic').glob('manifest.rank*')), 'the shards were not merged'
