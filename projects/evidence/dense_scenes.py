"""The loop on Scenes for surface normals and depth, with the configs as they are: real only, real + EMA, Diff-2-in-1.

    python projects/evidence/dense_scenes.py --dry-run     what would be run
    python projects/evidence/dense_scenes.py               everything that is not in --out yet
    python projects/evidence/dense_scenes.py --table       the Markdown tables of --out

One run per config and seed: mmdiff2in1 train on configs/diff2in1/NAME.py and on configs/baselines/NAME.py; for normals
once more with a filter, under one mean over real and created pixels as published, and both with a loss that leaves no
pixel out. All go on from one warm-up and see the same created images. The seed is that of the weights, of the 60 images
that are labelled, of the augmentation and of the created images. One JSON line per run with the metrics of each arm; a
killed run goes on from its last checkpoint.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from run_queue import queue, queue_parser

from mmdiff2in1.core.atomic_files import append_line, complete_lines
from mmdiff2in1.engine.last_checkpoint import last_checkpoint
from mmdiff2in1.training.paired import Spread, compare

ROOT = Path(__file__).parents[2]
# Config → the figure that is compared, its decimals, and further columns.
CONFIGS = {
    'bae_scenes-normal': ('normal/mean', 2, {'normal/median': 2, 'normal/rmse': 2, 'normal/below_11.25': 2}),
    'depth_scenes': ('depth/rmse', 3, {'depth/abs_rel': 4, 'depth/d1': 4}),
}
LOSS = 'model.segmentor.decode_head.head.loss_decode'
ALL_PIXELS = {f'{LOSS}.type': 'AngularVMFLoss', f'{LOSS}.drop_aligned': None}
# Run → the config's folder, and what is changed in it; those with another loss start from the weights of the warm-up.
RUNS: dict[str, tuple[str, dict]] = {
    'diff2in1': ('diff2in1', {}),
    'baselines': ('baselines', {}),
    'filtered': ('diff2in1', {'model.min_confidence': 0.9}),
    'pooled': ('diff2in1', {'model.normalize_by': 'pooled'}),
    'pooled-weight-1': ('diff2in1', {'model.normalize_by': 'pooled', 'model.synthetic_weight': 1.0}),
    'all-pixels': ('diff2in1', ALL_PIXELS),
    'all-pixels-baselines': ('baselines', ALL_PIXELS),
}
# Arm → its run, the model that is scored, and the arm that it is compared with.
ARMS: dict[str, tuple[str, str, str]] = {
    'real only': ('baselines', 'exploiter/', 'real + EMA'),
    'real + EMA': ('baselines', '', 'real + EMA'),
    'Diff-2-in-1': ('diff2in1', '', 'real + EMA'),
    'Diff-2-in-1, confidence 0.9': ('filtered', '', 'real + EMA'),
    'Diff-2-in-1, one mean of all pixels': ('pooled', '', 'real + EMA'),
    'Diff-2-in-1, one mean, weight 1': ('pooled-weight-1', '', 'real + EMA'),
    'all pixels count: real + EMA': ('all-pixels-baselines', '', 'all pixels count: real + EMA'),
    'all pixels count: Diff-2-in-1': ('all-pixels', '', 'all pixels count: real + EMA'),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = queue_parser(__doc__, 'dense_scenes', 'CONFIG')
    parser.add_argument('--configs', nargs='+', choices=CONFIGS, default=list(CONFIGS), help='(all)')
    parser.add_argument('--runs', nargs='+', choices=RUNS, default=list(RUNS), help='of normals (all)')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs the queue, one run of it, or prints."""
    args = parse_args(arguments)
    if args.table:
        lines = [json.loads(line) for line in complete_lines(args.out)]
        print('\n\n'.join(table(name, lines) for name in args.configs))
    elif args.run:
        append_line(args.out, json.dumps(run(args.run[0], int(args.run[1]), args)))
    else:
        wanted = [(name, seed) for seed in args.seeds for name in args.configs]
        queue(wanted, 'config', args, log=lambda name, seed: args.work_dir / f'{name}-seed{seed}.log')


def run(name: str, seed: int, args: argparse.Namespace) -> dict:
    """The chains of a config; the metrics of each arm on the parts val and test."""
    folder = args.work_dir / f'{name}-seed{seed}'
    started, results = time.perf_counter(), {}
    for kind in (kind for kind in runs_of(name) if kind in args.runs):
        config, changes = RUNS[kind]
        options = {
            'randomness.seed': seed,
            'train_dataloader.dataset.dataset.data_root': args.data_root,
            'train_dataloader.dataset.dataset.subset_seed': seed,
            'train_dataloader.dataset.seed': seed,
            'val_dataloader.dataset.data_root': args.data_root,
            'test_dataloader.dataset.data_root': args.data_root,
        }
        if changes is ALL_PIXELS:
            options |= {'stages.warmup': None, 'load_from': last_checkpoint(folder / 'warmup')}
        else:
            options |= {'stages.warmup.work_dir': folder / 'warmup'}
        if config == 'diff2in1':
            options |= {
                'stages.synthesis.captions': args.data_root / 'train' / 'captions.jsonl',
                'stages.synthesis.seed': seed,
                'train_dataloader.dataset.store': folder / 'diff2in1' / 'synthetic',
            }
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(ROOT / 'configs' / config / f'{name}.py')]
        command += ['--work-dir', str(folder / kind), '--resume', '--cfg-options']
        settings = (f'{key}={value}' for key, value in (options | changes).items())
        subprocess.run([*command, *settings], check=True)
        results[kind] = json.loads((folder / kind / 'results.json').read_text())
    record: dict = dict(config=name, seed=seed, val={}, test={})
    for arm, (kind, prefix, _) in ARMS.items():
        if kind in results:
            record['val'][arm] = _of_model(results[kind]['self_improving']['metrics'], prefix)
            record['test'][arm] = _of_model(results[kind]['test'], prefix)
    record['warmup_val'] = results['baselines']['warmup']['metrics']
    return record | dict(seconds=round(time.perf_counter() - started))


def runs_of(name: str) -> dict[str, tuple[str, dict]]:
    """The runs of a config; depth has no confidence to filter by, and one loss."""
    return {kind: run for kind, run in RUNS.items() if not run[1] or 'normal' in name}


def table(name: str, lines: list[dict]) -> str:
    """Mean ± sample standard deviation over seeds, and the difference to an arm's control, paired by seed."""
    figure, digits, further = CONFIGS[name]
    found = {line['seed']: line['test'] for line in lines if line['config'] == name}
    columns = {figure: digits, **further}
    head = ['arm', *columns, f'difference in {figure} by seed', 'mean difference', 'p', 'seeds']
    rows = [f'| {" | ".join(head)} |', '| :-- ' + '| --: ' * (len(head) - 1) + '|']
    for arm, (_, _, control) in ((arm, of) for arm, of in ARMS.items() if all(arm in test for test in found.values())):
        cells = [_spread(Spread.of(test[arm][key] for test in found.values()), d) for key, d in columns.items()]
        scores = {seed: test[arm][figure] for seed, test in found.items()}
        paired = compare(scores, {seed: test[control][figure] for seed, test in found.items()})
        if arm == control:
            cells += ['–', '–', '–']
        else:
            by_seed = ', '.join(f'{value:+.{digits + 1}f}' for value in paired.by_seed.values())
            p = '–' if paired.p is None else f'{paired.p:.3f}'
            cells += [by_seed, _spread(paired.spread, digits + 1, '+'), p]
        rows.append(f'| {" | ".join([arm, *cells, str(len(found))])} |')
    return f'{name}\n\n' + '\n'.join(rows).replace('-0.', '−0.')


def _of_model(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """The metrics of θ_E under `exploiter/`, or without a prefix those of θ_C."""
    if prefix:
        return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    return {key: value for key, value in metrics.items() if not key.startswith('exploiter/')}


def _spread(spread: Spread, digits: int, sign: str = '') -> str:
    if spread.mean is None:
        return ''
    deviation = '' if spread.std is None else f' ± {spread.std:.{digits}f}'
    return f'{spread.mean:{sign}.{digits}f}{deviation}'


if __name__ == '__main__':
    main()
