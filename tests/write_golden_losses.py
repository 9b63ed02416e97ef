"""Writes the golden losses of ``tests/assets/losses``: 20 steps of each stage of the tiny chain.

    python tests/write_golden_losses.py

Run it only when a change is meant to alter results, and say so in the commit.
"""

import json
import tempfile
from pathlib import Path

import torch
from conftest import TINY_DIFFUSION
from tiny_chain import SIZE, chain_config, creation_trace, logged_losses

from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.training.chain import train

if __name__ == '__main__':
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    LatentDiffusion.from_config(TINY_DIFFUSION).save_folder(folder / 'weights')
    make_scenes(folder / 'scenes', {'train': 8, 'val': 4, 'test': 4}, size=SIZE, workers=1, progress=False)
    train(chain_config(folder), folder / 'run')
    written = {stage: logged_losses(folder / 'run' / stage) for stage in ('warmup', 'self_improving')}
    written['creation'] = creation_trace(folder)
    for stage, entries in written.items():
        text = '\n'.join(map(json.dumps, entries)) + '\n'
        (Path(__file__).parent / 'assets' / 'losses' / f'{stage}.jsonl').write_text(text)
