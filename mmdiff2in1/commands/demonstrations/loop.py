"""The loop of the paper on the embedded default: warm-up, creation, self-improving, and what it came to."""

import argparse

import numpy as np
from mmengine.config import Config

from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.images import read_image
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.visualization import Created, contact_sheet, creation_panel

from .parts import ROWS, Clock, predictions, render, write

PROMPTS = [
    'a green table and two balls in a room with striped white walls and a wooden floor',
    'a red bed and a window in a room with blue walls and a grey floor',
    'a yellow cabinet, a purple ball and a door in a room with checkered white walls and a wooden floor',
]
SHORT = {
    'stages.warmup.train_cfg.max_iters': 12,
    'stages.warmup.train_cfg.val_interval': 12,
    'train_cfg.max_iters': 8,
    'train_cfg.val_interval': 8,
    'stages.synthesis.samples_per_image': 1,
    'stages.synthesis.num_calls': 4,
    'val_dataloader.dataset.indices': 20,
    'test_dataloader.dataset.indices': 20,
}


def config(name: str, args: argparse.Namespace) -> Config:
    """A built-in config with the demo's seed, data and length."""
    cfg = read_config(f'{name}/vpd_scenes')
    changes = {
        'randomness.seed': args.seed,
        'train_dataloader.dataset.dataset.subset_seed': args.seed,
        'train_dataloader.dataset.dataset.data_root': str(args.data),
        'val_dataloader.dataset.data_root': str(args.data),
        'test_dataloader.dataset.data_root': str(args.data),
        'stages.warmup.work_dir': str(args.work_dir / 'warmup'),
        'log_level': 'WARNING',
    }
    if cfg.stages.synthesis is not None:
        changes['stages.synthesis.captions'] = str(args.data / 'train' / 'captions.jsonl')
        changes['stages.synthesis.seed'] = args.seed
    short = {k: v for k, v in SHORT.items() if not k.startswith('stages.synthesis') or cfg.stages.synthesis is not None}
    cfg.merge_from_dict(changes | (short if args.short else {}))
    cfg.custom_hooks.append(dict(type='ProgressBarHook'))
    return cfg


def show(args: argparse.Namespace) -> None:
    """Trains with and without synthetic images, draws both, and says what came of it."""
    clock, results = Clock(), {}
    render(args)
    clock.lap('scenes')
    for name, title in (('diff2in1', 'with'), ('baselines', 'without')):
        print(f'--- training {title} synthetic images (warm-up, then self-improving) ---')
        results[name] = train(config(name, args), args.work_dir / name, resume=True)
        clock.lap(name)
    scores = {
        'real only': results['baselines']['test']['exploiter/mIoU'],
        'real + EMA': results['baselines']['test']['mIoU'],
        'Diff-2-in-1': results['diff2in1']['test']['mIoU'],
    }
    print('\nmIoU on the test part, one seed (which proves nothing):')
    for arm, score in scores.items():
        print(f'  {arm:12s} {score:6.2f} %')
    summary = {
        'test_mIoU_percent': scores,
        'difference_to_real_plus_EMA': round(scores['Diff-2-in-1'] - scores['real + EMA'], 2),
        'note': 'one seed proves nothing: differences of this size come and go with the seed',
        'labelled_images': 60,
        'iterations': {stage: results['diff2in1'][stage]['iters'] for stage in ('warmup', 'self_improving')},
    }
    write(args, summary, draw(results, args), clock)


def draw(results: dict[str, dict], args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Created samples with pseudo labels, what the three arms see, and images from prompts with their maps."""
    with_samples, without = (results[name]['self_improving']['checkpoint'] for name in ('diff2in1', 'baselines'))
    ours = Diff2in1Inferencer(config('diff2in1', args), with_samples)
    models = {
        'real only': Diff2in1Inferencer(config('baselines', args), without, 'exploiter'),
        'real + EMA': Diff2in1Inferencer(config('baselines', args), without),
        'Diff-2-in-1': ours,
    }
    store = SampleStore(args.work_dir / 'diff2in1' / 'synthetic')
    records = store.records()[:: max(1, len(store.records()) // ROWS)][:ROWS]
    created = ours([store.image(record) for record in records])
    sources = [read_image(args.data / record['source']) for record in records]
    rows = [Created(s, c.image, c.map, r['caption']) for s, c, r in zip(sources, created, records, strict=True)]
    generated = ours.generate(prompts=PROMPTS, seeds=[args.seed + i for i in range(len(PROMPTS))], guidance_scale=2.0)
    return {
        'created': creation_panel(rows, ours.tasks.only),
        'predictions': predictions(models, args.data),
        'generated': contact_sheet(
            [[g.image, g.colours] for g in generated],
            row_captions=PROMPTS,
            column_captions=['from the prompt', 'perceived'],
        ),
    }
