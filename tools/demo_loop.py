"""The main job on the embedded default: Scenes are rendered, a model is trained, improves itself, and is shown.

    make demo-loop          # or: python tools/demo_loop.py
    python tools/demo_loop.py --short     # the same in about a minute, too short to learn anything

Compares, at equal optimizer steps and equal real samples: real only (θ_E without synthetic images), real + EMA (θ_C
without them) and Diff-2-in-1 (θ_C with them). Results: WORK_DIR/summary.json and *.png. Killed, the next call goes on.
"""

import argparse
import json
import platform
import time
from pathlib import Path

from mmengine.config import Config
from PIL import Image

from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.datasets.scenes import DEFAULT_COUNTS, make_scenes
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.visualization import Created, Perceived, contact_sheet, creation_panel, prediction_panel, side_by_side

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = [
    'a green table and two balls in a room with striped white walls and a wooden floor',
    'a red bed and a window in a room with blue walls and a grey floor',
    'a yellow cabinet, a purple ball and a door in a room with checkered white walls and a wooden floor',
]
ROWS = 4
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


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, help='results (work_dirs/demo-loop)')
    parser.add_argument(
        '--data', type=Path, default=Path('data/scenes'), help='where the scenes are kept (data/scenes)'
    )
    parser.add_argument('--seed', type=int, default=0, help='draw of the labels, weights, order, noise (0)')
    parser.add_argument('--short', action='store_true', help='a few iterations of everything, to see that it runs')
    args = parser.parse_args()
    name = 'demo-loop' + ('-short' if args.short else '') + (f'-seed{args.seed}' if args.seed else '')
    args.work_dir = args.work_dir or Path('work_dirs', name)
    return args


def config(name: str, args: argparse.Namespace) -> Config:
    """A config of the repository with the demo's seed, data and length."""
    cfg = Config.fromfile(ROOT / 'configs' / name / 'vpd_scenes.py')
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


def summarize(results: dict[str, dict], seconds: dict[str, float], args: argparse.Namespace) -> dict:
    """Test mIoU in percent of the three arms, and what is needed to judge them."""
    arms = {
        'real only': results['baselines']['test']['exploiter/mIoU'],
        'real + EMA': results['baselines']['test']['mIoU'],
        'Diff-2-in-1': results['diff2in1']['test']['mIoU'],
    }
    return {
        'test_mIoU_percent': arms,
        'difference_to_real_plus_EMA': round(arms['Diff-2-in-1'] - arms['real + EMA'], 2),
        'note': 'one seed proves nothing: differences of this size come and go with the seed',
        'short': args.short,
        'seed': args.seed,
        'labelled_images': 60,
        'iterations': {stage: results['diff2in1'][stage]['iters'] for stage in ('warmup', 'self_improving')},
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
        'machine': platform.platform(),
        'command': 'python tools/demo_loop.py' + (' --short' if args.short else '') + f' --seed {args.seed}',
    }


def draw(results: dict[str, dict], args: argparse.Namespace) -> list[Path]:
    """Predictions of the three arms, created samples with pseudo labels, and images from prompts with their maps."""
    ours = Diff2in1Inferencer(config('diff2in1', args), results['diff2in1']['self_improving']['checkpoint'])
    plain = Diff2in1Inferencer(config('baselines', args), results['baselines']['self_improving']['checkpoint'])
    only = Diff2in1Inferencer(
        config('baselines', args), results['baselines']['self_improving']['checkpoint'], 'exploiter'
    )
    task, drawn = ours.tasks.only, {}

    tests = sorted((args.data / 'test' / 'images').glob('*.png'))[:ROWS]
    truths = [read_png(args.data / 'test' / 'semantic' / path.name) for path in tests]
    seen = [model(tests) for model in (only, plain, ours)]
    rows = [
        Perceived(images[0].image, truth, [image.map for image in images])
        for truth, *images in zip(truths, *seen, strict=True)
    ]
    drawn['predictions'] = prediction_panel(rows, task, ('real only', 'real + EMA', 'Diff-2-in-1'))

    store = SampleStore(args.work_dir / 'diff2in1' / 'synthetic')
    records = store.records()[:: max(1, len(store.records()) // ROWS)][:ROWS]
    created = ours([store.image(record) for record in records])
    sources = [read_image(args.data / record['source']) for record in records]
    drawn['created'] = creation_panel(
        [Created(source, c.image, c.map, r['caption']) for source, c, r in zip(sources, created, records, strict=True)],
        task,
    )
    generated = ours.generate(prompts=PROMPTS, seeds=[args.seed + i for i in range(len(PROMPTS))], guidance_scale=2.0)
    drawn['generated'] = contact_sheet(
        [[g.image, g.colours] for g in generated],
        row_captions=PROMPTS,
        column_captions=['from the prompt', 'perceived'],
    )
    drawn['overview'] = side_by_side([drawn[name] for name in ('created', 'predictions', 'generated')])
    files = []
    for name, picture in drawn.items():
        files.append(args.work_dir / f'{name}.png')
        Image.fromarray(picture).save(files[-1])
    return files


def main() -> None:
    """Runs the demo."""
    args = parse_args()
    results, seconds, start = {}, {}, time.perf_counter()
    counts = {part: count for part, count in DEFAULT_COUNTS.items() if part != 'unlabelled'}
    make_scenes(args.data, counts)
    seconds['scenes'] = time.perf_counter() - start
    for name, title in (('diff2in1', 'with'), ('baselines', 'without')):
        print(f'--- training {title} synthetic images (warm-up, then self-improving) ---')
        begun = time.perf_counter()
        results[name] = train(config(name, args), args.work_dir / name, resume=True)
        seconds[name] = time.perf_counter() - begun
    summary = summarize(results, seconds, args)
    files = draw(results, args)
    seconds['total'] = time.perf_counter() - start
    summary['seconds']['total'] = round(seconds['total'], 1)
    (args.work_dir / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    print('\nmIoU on the test part, one seed (which proves nothing):')
    for arm, score in summary['test_mIoU_percent'].items():
        print(f'  {arm:12s} {score:6.2f} %')
    print(f'in {seconds["total"]:.0f} s; {args.work_dir / "summary.json"}, ' + ', '.join(map(str, files)))


if __name__ == '__main__':
    main()
