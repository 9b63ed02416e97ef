"""What created images are good for, in a quarter of an hour: a light model learns from more than its 20 labels.

    make demo          # or: python tools/demo.py
    python tools/demo.py --short     # the same in a minute, too short to learn anything

A small CNN from scratch (configs/baselines/unet_scenes.py) is trained three times on the same 20 labelled scenes, for
as many steps and with as many images per step:

    real images       the 20 and nothing else, twice the batch: the control
    pasted objects    beside them 600 images composed of their own objects, whose labels are true (preset paste)
    created scenes    beside them 600 images of the built-in diffusion model, labelled by a teacher (preset distil)

The teacher is the same CNN after all 600 labels: the data stay where they are, the teacher travels. Results:
WORK_DIR/summary.json and *.png. Killed, the next call goes on. The paper's loop on such scenes: make demo-loop.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from PIL import Image

from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.datasets.scenes import DEFAULT_COUNTS, make_scenes
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.recipes import PRESETS, make_self_improving
from mmdiff2in1.visualization import Created, Perceived, creation_panel, prediction_panel, side_by_side

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'baselines' / 'unet_scenes.py'
BATCH, LABELS, ALL_LABELS, IMAGES = 8, 20, 600, 600
TEACHER, CONTROL, PASTED, CREATED = 'teacher', 'real images', 'pasted objects', 'created scenes'
ROWS = 4
SHORT = {
    'train_cfg.max_iters': 8,
    'train_cfg.val_interval': 8,
    'val_dataloader.dataset.indices': 20,
    'test_dataloader.dataset.indices': 20,
}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, help='results (work_dirs/demo)')
    parser.add_argument(
        '--data', type=Path, default=Path('data/scenes'), help='where the scenes are kept (data/scenes)'
    )
    parser.add_argument('--seed', type=int, default=0, help='draw of the labels, weights, order, noise (0)')
    parser.add_argument('--short', action='store_true', help='a few iterations of everything, to see that it runs')
    args = parser.parse_args()
    name = 'demo' + ('-short' if args.short else '') + (f'-seed{args.seed}' if args.seed else '')
    args.work_dir = args.work_dir or Path('work_dirs', name)
    return args


def config(arm: str, args: argparse.Namespace, teacher: str | None = None) -> Config:
    """The CNN's config under the recipe of an arm; `teacher` is the checkpoint that labels what is created."""
    cfg = Config.fromfile(CONFIG)
    created = 8 if args.short else IMAGES
    changes: dict[str, Any] = {
        'randomness.seed': args.seed,
        'train_dataloader.dataset.subset_seed': args.seed,
        'train_dataloader.dataset.num_labelled': ALL_LABELS if arm == TEACHER else LABELS,
        'train_dataloader.batch_size': 2 * BATCH if arm in (TEACHER, CONTROL) else BATCH,
        'train_cfg.val_interval': cfg.train_cfg.max_iters,
        'log_level': 'WARNING',
        **{f'{part}_dataloader.dataset.data_root': str(args.data) for part in ('train', 'val', 'test')},
    }
    cfg.merge_from_dict(changes | (SHORT if args.short else {}))
    if arm == PASTED:
        make_self_improving(cfg, preset='paste', num_samples=created)
    elif arm == CREATED:
        make_self_improving(
            cfg,
            preset='distil',
            teacher=dict(config=str(CONFIG), checkpoint=teacher),
            diffusion='builtin:scenes',
            captions=str(args.data / 'train' / 'captions.jsonl'),
            scenes=dict(type='recombined'),
            T='noise',
            solver='dpm++',
            num_calls=4 if args.short else 10,
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


def summarize(results: dict[str, dict], seconds: dict[str, float], args: argparse.Namespace) -> dict:
    """Test mIoU in percent of teacher and arms, and what is needed to judge them."""
    scores = {arm: result['test']['mIoU'] for arm, result in results.items()}
    return {
        'test_mIoU_percent': scores,
        'gain_over_real_images': {arm: round(scores[arm] - scores[CONTROL], 2) for arm in (PASTED, CREATED)},
        'note': f'one seed; docs/evidence.md has several. The teacher has {ALL_LABELS} labels, the others {LABELS}',
        'short': args.short,
        'seed': args.seed,
        'iterations': results[CONTROL]['self_improving']['iters'],
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
        'machine': platform.platform(),
        'command': 'python tools/demo.py' + (' --short' if args.short else '') + f' --seed {args.seed}',
    }


def draw(results: dict[str, dict], args: argparse.Namespace) -> list[Path]:
    """Predictions of the arms and of the teacher; pasted and created images under their labels."""
    checkpoints = {arm: result['self_improving']['checkpoint'] for arm, result in results.items()}
    models = {
        arm: Diff2in1Inferencer(config(arm, args, checkpoints[TEACHER]), checkpoints[arm])
        for arm in (CONTROL, PASTED, CREATED, TEACHER)
    }
    task = models[TEACHER].tasks.only
    tests = sorted((args.data / 'test' / 'images').glob('*.png'))[:ROWS]
    truths = [read_png(args.data / 'test' / 'semantic' / path.name) for path in tests]
    seen = [model(tests) for model in models.values()]
    rows = [
        Perceived(images[0].image, truth, [image.map for image in images])
        for truth, *images in zip(truths, *seen, strict=True)
    ]
    drawn = {'predictions': prediction_panel(rows, task, tuple(models))}
    for arm, name in ((PASTED, 'pasted'), (CREATED, 'created')):
        drawn[name] = creation_panel(list(_samples(args.work_dir / _folder(arm) / 'synthetic', args.data)), task)
    drawn['overview'] = side_by_side([drawn[name] for name in ('pasted', 'created', 'predictions')])
    files = []
    for name, picture in drawn.items():
        files.append(args.work_dir / f'{name}.png')
        Image.fromarray(picture).save(files[-1])
    return files


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


def main() -> None:
    """Runs the demo."""
    args = parse_args()
    results, seconds, start = {}, {}, time.perf_counter()
    counts = {part: count for part, count in DEFAULT_COUNTS.items() if part != 'unlabelled'}
    make_scenes(args.data, counts)
    seconds['scenes'] = time.perf_counter() - start
    teacher = None
    for arm in (TEACHER, CONTROL, PASTED, CREATED):
        print(f'--- {arm} ---')
        begun = time.perf_counter()
        results[arm] = train(config(arm, args, teacher), args.work_dir / _folder(arm), resume=True)
        seconds[arm] = time.perf_counter() - begun
        teacher = results[TEACHER]['self_improving']['checkpoint']
    summary = summarize(results, seconds, args)
    files = draw(results, args)
    seconds['total'] = time.perf_counter() - start
    summary['seconds']['total'] = round(seconds['total'], 1)
    (args.work_dir / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    print(f'\nmIoU on the test part, one seed, {LABELS} labelled images:')
    for arm in (CONTROL, PASTED, CREATED):
        gain = summary['gain_over_real_images'].get(arm)
        print(f'  {arm:15s} {results[arm]["test"]["mIoU"]:6.2f} %' + ('' if gain is None else f'   {gain:+.2f}'))
    print(f'  {"the teacher":15s} {results[TEACHER]["test"]["mIoU"]:6.2f} %   after {ALL_LABELS} labels')
    print(f'in {seconds["total"]:.0f} s; {args.work_dir / "summary.json"}, ' + ', '.join(map(str, files)))


if __name__ == '__main__':
    main()
