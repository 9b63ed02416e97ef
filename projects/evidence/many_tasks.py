"""Five tasks on Scenes: one model of all against one for each, and what created images add.

    python projects/evidence/many_tasks.py --dry-run      what would be run
    python projects/evidence/many_tasks.py                everything that is not in --out yet
    python projects/evidence/many_tasks.py --table        the Markdown table of --out

configs/diff2in1/multitask_scenes.py and its baseline, bfloat16 on the heads as well. "real only" is θ_E of the
baseline, "real + EMA" its θ_C, "Diff-2-in-1" θ_C with created images under labels of θ_C, "alone" the baseline's θ_C
with the head of one task. The seed is that of the weights, of the 60 labelled images, of the augmentation and of the
created images. One JSON line per run; a killed run goes on from its last checkpoint.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

from run_queue import alone_in, queue, queue_parser, slug

from mmdiff2in1.core.atomic_files import append_line, complete_lines
from mmdiff2in1.evaluation import delta_mtl
from mmdiff2in1.training.paired import Spread, compare

CONFIGS = Path(__file__).parents[2] / 'configs'
TOGETHER, CREATED = 'five tasks', 'five tasks, created'
# Task → its figure on test, in the title of a column; the factor that brings it to percent, degrees or centimetres.
FIGURES = dict(
    semantic_segmentation=('mIoU', 'mIoU ↑', 1),
    depth=('depth/rmse', 'depth rmse, cm ↓', 100),
    normal=('normal/mean', 'normals, mean ° ↓', 1),
    saliency=('saliency/maxF', 'saliency maxF ↑', 1),
    edge=('edge/odsF', 'edges odsF ↑', 1),
)
RUNS = (TOGETHER, *(f'{task} alone' for task in FIGURES), CREATED)  # the last waits for the warm-up of the first


def main(arguments: list[str] | None = None) -> None:
    """Runs the queue, one run of it, or prints."""
    parser = queue_parser(__doc__, 'many_tasks', 'RUN')
    parser.add_argument('--runs', nargs='+', choices=RUNS, default=list(RUNS), help='(all)')
    args = parser.parse_args(arguments)
    if args.table:
        print(table([json.loads(line) for line in complete_lines(args.out)]))
    elif args.run:
        append_line(args.out, json.dumps(run(args.run[0], int(args.run[1]), args)))
    else:
        wanted = [(name, seed) for seed in args.seeds for name in args.runs]
        queue(wanted, 'run', args, log=lambda name, seed: args.work_dir / 'logs' / f'{slug(name)}-seed{seed}.log')


def run(name: str, seed: int, args: Any) -> dict[str, Any]:
    """One training: the scores of θ_C on test, those of θ_E under ``exploiter/``."""
    import mmdiff2in1.components  # noqa: F401  registers
    from mmdiff2in1.training.chain import train

    started = time.perf_counter()
    cfg = config_of(name, seed, args)
    with alone_in(Path(f'{cfg.stages.warmup.work_dir}.lock')):  # two runs share it, and it is made once
        scores = train(cfg, args.work_dir / f'{slug(name)}-seed{seed}', resume=True)['test']
    return dict(run=name, seed=seed, test=scores, seconds=round(time.perf_counter() - started))


def config_of(name: str, seed: int, args: Any) -> Any:
    """The config of a run."""
    from mmengine.config import Config

    folder = 'diff2in1' if name == CREATED else 'baselines'
    cfg = Config.fromfile(CONFIGS / folder / 'multitask_scenes.py')
    for loader in (cfg.train_dataloader.dataset, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(args.data_root)
    warmup = name if name.endswith(' alone') else TOGETHER
    changes = {
        'randomness.seed': seed,
        'train_dataloader.dataset.dataset.subset_seed': seed,
        'train_dataloader.dataset.seed': seed,
        'optim_wrapper.type': 'BF16OptimWrapper',
        'stages.warmup.work_dir': str(args.work_dir / f'warmup-{slug(warmup)}-seed{seed}'),
        'stages.warmup.train_cfg.val_interval': cfg.stages.warmup.train_cfg.max_iters,
        'train_cfg.val_interval': cfg.train_cfg.max_iters,
    }
    if name == CREATED:
        changes |= {
            'stages.synthesis.seed': seed,
            'stages.synthesis.captions': str(args.data_root / 'train' / 'captions.jsonl'),
        }
    cfg.merge_from_dict(changes)
    cfg.val_dataloader.dataset.indices = 40  # no choice is made on it here
    cfg.test_evaluator[-1].thresholds = [step / 25 for step in range(25)]  # of edges: 101 take minutes
    cfg.test_cfg.exploiter = name == TOGETHER
    if name.endswith(' alone'):
        _leave_one(cfg, name.removesuffix(' alone'))
    return cfg


def _leave_one(cfg: Any, task: str) -> None:
    """One task instead of five: its head, its labels, its score."""
    segmentor = cfg.model.segmentor
    head = segmentor.decode_head.head
    kept = {task: head.tasks[task]}
    number = list(FIGURES).index(task)
    segmentor.task = head.tasks = kept
    head.heads = {task: head.heads[task]}
    cfg.model.label_rule = None  # there is nothing to label, and depth has no confidence
    for key in ('val_evaluator', 'test_evaluator'):
        cfg[key] = cfg[key][number]


def table(lines: list[dict]) -> str:
    """By arm: each task's figure on test, mean ± sample deviation, and Δ_MTL against the single-task models by seed."""
    scored = {(line['run'], line['seed']): line['test'] for line in lines}
    seeds = sorted({line['seed'] for line in lines})
    alone = {
        seed: {figure: scored[f'{task} alone', seed][figure] for task, (figure, _, _) in FIGURES.items()}
        for seed in seeds
        if all((f'{task} alone', seed) in scored for task in FIGURES)
    }
    arms = {
        'one model for each, real + EMA': alone,
        'real only (θ_E)': {seed: _exploiter(scored[TOGETHER, seed]) for seed in seeds if (TOGETHER, seed) in scored},
        'real + EMA (θ_C)': {seed: scored[TOGETHER, seed] for seed in seeds if (TOGETHER, seed) in scored},
        'Diff-2-in-1 (θ_C)': {seed: scored[CREATED, seed] for seed in seeds if (CREATED, seed) in scored},
    }
    titles = [title for _, title, _ in FIGURES.values()]
    rows = [f'| | {" | ".join(titles)} | Δ_MTL, % |', '| :-- ' + '| --: ' * (len(titles) + 1) + '|']
    for arm, by_seed in arms.items():
        cells = [
            Spread.of(factor * scores[figure] for scores in by_seed.values()).shown()
            for figure, _, factor in FIGURES.values()
        ]
        gains = Spread.of(delta_mtl(by_seed[seed], alone[seed]) for seed in by_seed if seed in alone)
        cells.append('–' if by_seed is alone else gains.shown('+'))
        rows.append(f'| {arm}, n {len(by_seed)} | {" | ".join(cells)} |')
    last = []
    for figure, _, factor in FIGURES.values():
        ours, base = ({s: factor * scores[figure] for s, scores in arms[a].items()} for a in list(arms)[:1:-1])
        paired = compare(ours, base)
        p = '' if paired.p is None else f' (p {paired.p:.2f})'
        last.append(paired.spread.shown('+', p))
    rows.append(f'| Diff-2-in-1 − real + EMA | {" | ".join(last)} | |')
    return re.sub(r'(?<= )-(?=\d)', '−', '\n'.join(rows))


def _exploiter(scores: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix('exploiter/'): value for name, value in scores.items() if name.startswith('exploiter/')}


if __name__ == '__main__':
    main()
