"""A light model learns from more than its 20 labels: pasted objects, and created scenes under a teacher."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmdiff2in1.core.bf16 import computes_bf16
from mmdiff2in1.core.config_places import find_config
from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.inference import Diff2in1Inferencer, teacher_from
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.recipes import PRESETS, make_self_improving
from mmdiff2in1.visualization import Created, creation_panel

from .parts import ROWS, Clock, predictions, render, write

CONFIG, TEACHER = find_config('baselines/unet_scenes'), 'builtin:unet_scenes'
BATCH, LABELS, IMAGES = 4, 20, 600
CONTROL, PASTED, CREATED = 'real images', 'pasted objects', 'created scenes'
SHORT = {
    'train_cfg.max_iters': 8,
    'train_cfg.val_interval': 8,
    'val_dataloader.dataset.indices': 20,
    'test_dataloader.dataset.indices': 20,
}


def config(arm: str, args: argparse.Namespace) -> Config:
    """The CNN's config under the recipe of an arm."""
    cfg = Config.fromfile(CONFIG)
    created = 8 if args.short else IMAGES
    changes: dict[str, Any] = {
        'randomness.seed': args.seed,
        'train_dataloader.dataset.subset_seed': args.seed,
        'train_dataloader.dataset.num_labelled': LABELS,
        'train_dataloader.batch_size': 2 * BATCH if arm == CONTROL else BATCH,
        'train_cfg.val_interval': cfg.train_cfg.max_iters,
        'log_level': 'WARNING',
        **{f'{part}_dataloader.dataset.data_root': str(args.data) for part in ('train', 'val', 'test')},
    }
    if computes_bf16(torch.device(get_device())):
        changes['optim_wrapper.type'] = 'BF16OptimWrapper'  # twice as fast there
    cfg.merge_from_dict(changes | (SHORT if args.short else {}))
    if arm == PASTED:
        make_self_improving(cfg, preset='paste', num_samples=created)
    elif arm == CREATED:
        make_self_improving(
            cfg,
            preset='distil',
            teacher=teacher_from(TEACHER),
            diffusion='builtin:scenes',
            captions=str(args.data / 'train' / 'captions.jsonl'),
            scenes=dict(type='recombined'),
            T='noise',
            solver='dpm++',
            num_calls=4 if args.short else 10,
            guidance_scale=3.0,
            size=64,
            num_samples=created,
        )
    else:
        make_self_improving(cfg, diffusion='builtin:scenes', remaining=PRESETS['paste']['remaining'])
        cfg.stages.synthesis = None
    if cfg.stages.synthesis:
        cfg.stages.synthesis.seed = args.seed
    cfg.merge_from_dict(
        {'train_dataloader.dataset.seed': args.seed, 'val_cfg.exploiter': False, 'test_cfg.exploiter': False}
    )
    cfg.custom_hooks.append(dict(type='ProgressBarHook'))
    return cfg


def show(args: argparse.Namespace) -> None:
    """Trains the three arms, draws them and the teacher, and says what came of it."""
    clock, results = Clock(), {}
    render(args)
    clock.lap('scenes')
    for arm in (CONTROL, PASTED, CREATED):
        print(f'--- {arm} ---')
        results[arm] = train(config(arm, args), args.work_dir / _folder(arm), resume=True)
        clock.lap(arm)
    scores = {arm: result['test']['mIoU'] for arm, result in results.items()}
    gains = {arm: round(scores[arm] - scores[CONTROL], 2) for arm in (PASTED, CREATED)}
    print(f'\nmIoU on the test part, one seed, {LABELS} labelled images:')
    for arm in (CONTROL, PASTED, CREATED):
        print(f'  {arm:15s} {scores[arm]:6.2f} %' + (f'   {gains[arm]:+.2f}' if arm in gains else ''))
    summary = {
        'test_mIoU_percent': scores,
        'gain_over_real_images': gains,
        'note': f'one seed; docs/evidence.md has several. {LABELS} labels; the teacher, {TEACHER}, has seen 600 others',
        'iterations': results[CONTROL]['self_improving']['iters'],
    }
    write(args, summary, draw(results, args), clock)


def draw(results: dict[str, dict], args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Pasted and created images under their labels; what the arms and the teacher see."""
    checkpoints = {arm: result['self_improving']['checkpoint'] for arm, result in results.items()}
    models = {arm: Diff2in1Inferencer(config(arm, args), checkpoints[arm]) for arm in (CONTROL, PASTED, CREATED)}
    models['teacher'] = Diff2in1Inferencer.from_pretrained(TEACHER)
    task = models[CONTROL].tasks.only
    stores = {
        name: args.work_dir / _folder(arm) / 'synthetic' for arm, name in ((PASTED, 'pasted'), (CREATED, 'created'))
    }
    columns = {'pasted': ('labelled image', 'pasted objects', 'label'), 'created': ('', 'created', "teacher's label")}
    drawn = {
        name: creation_panel(list(_samples(store, args.data)), task, columns=columns[name])
        for name, store in stores.items()
    }
    return drawn | {'predictions': predictions(models, args.data)}


def _samples(folder: Path, data: Path) -> Iterator[Created]:
    """Some of a store's images, each with the labelled image that it was made from, if any, and its stored label."""
    store = SampleStore(folder)
    records = store.records()
    for record in records[:: max(1, len(records) // ROWS)][:ROWS]:
        source = None if record['source'] is None else read_image(data / record['source'])
        image, (label,) = read_image(store.image(record)), map(read_png, store.labels(record).values())
        yield Created(source, image, label, record['caption'])


def _folder(arm: str) -> str:
    return arm.replace(' ', '_')
