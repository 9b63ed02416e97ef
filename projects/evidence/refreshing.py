"""Whose samples, and how old? The loop with one U-Net for both jobs, its samples made by it, anew as θ_C improves.

    python projects/evidence/refreshing.py --dry-run      what would be run
    python projects/evidence/refreshing.py                everything that is not in --out yet
    python projects/evidence/refreshing.py --table        the Markdown table of --out

Segmentation, 60 labels, configs/diff2in1/vpd_scenes-finetune.py with short stages and the paper's weight of 1, no
filter. All arms of a seed go on from one warm-up and see the same real images; the samples are 4 per labelled image at
T = 600, created by the pretrained U-Net; by that of θ_C after the warm-up; or by that and, with other noise, once more
by that of the middle of the stage. One JSON line per arm and seed; a killed run goes on from its last checkpoint.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

from denoising import place
from run_queue import alone_in, queue, queue_parser

from mmdiff2in1.core.atomic_files import append_line, complete_lines
from mmdiff2in1.training.paired import Spread, compare

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs' / 'diff2in1' / 'vpd_scenes-finetune.py'
WARMUP, STEPS, BATCH = 240, 200, 8
CONTROL, REAL_ONLY, PRETRAINED = 'real + EMA', 'real only', 'pretrained'
# Arm → who creates its samples: the pretrained U-Net, or θ_C as it is at these steps of the stage.
ARMS: dict[str, tuple[int | str, ...]] = {
    CONTROL: (),
    'the pretrained U-Net': (PRETRAINED,),
    'θ_C after the warm-up': (0,),
    'θ_C, refreshed half-way': (0, STEPS // 2),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return queue_parser(__doc__, 'refreshing', 'ARM').parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs the queue, one run of it, or prints."""
    args = parse_args(arguments)
    if args.table:
        print(table([json.loads(line) for line in complete_lines(args.out)]))
    elif args.run:
        append_line(args.out, json.dumps(run(args.run[0], int(args.run[1]), args), ensure_ascii=False))
    else:
        wanted = [(arm, seed) for arm in ARMS for seed in args.seeds]
        queue(wanted, 'arm', args, log=lambda arm, seed: folder_of(arm, seed, args).with_suffix('.log'))


def run(arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One arm: its warm-up, unless another arm of the seed has made it, its stage and its scores on val and test."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import mmdiff2in1.components  # noqa: F401  registers
    from mmdiff2in1.engine import alpha_for
    from mmdiff2in1.training.chain import run_stage, test
    from mmdiff2in1.training.stages import warmup_config

    init_default_scope('mmseg')
    started = time.perf_counter()
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(settings(seed, args))
    # One update of θ_C per step in every arm; α does not follow from the length of a part of the stage.
    samples = BATCH if arm == CONTROL else 2 * BATCH
    cfg.custom_hooks[-1] = dict(type='SelfImprovingHook', alpha=alpha_for(STEPS), samples_per_update=samples)
    place(cfg, args.data_root)
    warmup_folder = args.work_dir / f'warmup-seed{seed}'
    with alone_in(warmup_folder):
        warmup = run_stage('warm-up', warmup_config(cfg, warmup_folder), resume=True)
    folder = folder_of(arm, seed, args)
    stage = improve(cfg, ARMS[arm], warmup['checkpoint'], folder)
    record = dict(arm=arm, seed=seed, steps=[WARMUP, STEPS], warmup=dict(val=warmup['metrics']['mIoU']))
    for part, loader in dict(val=stage.val_dataloader, test=stage.test_dataloader).items():
        stage.test_dataloader = loader
        scores = test(stage, folder / f'iter_{STEPS}.pth', folder / part)
        record[part] = dict(creator=scores['mIoU'], exploiter=scores['exploiter/mIoU'])
    return record | dict(seconds=round(time.perf_counter() - started))


def settings(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """What is changed in the config, the place of the data apart."""
    return {
        'randomness.seed': seed,
        'train_dataloader.batch_size': BATCH,
        'train_dataloader.dataset.mix.added': BATCH,
        'train_dataloader.dataset.seed': seed,
        'train_dataloader.dataset.dataset.subset_seed': seed,
        'model.synthetic_weight': 1.0,
        'model.label_rule': None,
        'stages.synthesis.captions': str(args.data_root / 'train' / 'captions.jsonl'),
        'stages.synthesis.num_calls': 10,
        'stages.warmup.train_cfg': dict(max_iters=WARMUP, val_interval=WARMUP),
        'stages.warmup.param_scheduler.1.end': WARMUP,
        'train_cfg.max_iters': STEPS,
        'train_cfg.val_interval': STEPS,
        'param_scheduler.0.end': STEPS,
        'default_hooks.checkpoint.interval': STEPS // 4,
        'default_hooks.checkpoint.max_keep_ckpts': -1,  # that of the middle is needed to the end
    }


def improve(cfg, creators: tuple[int | str, ...], warmup: str, folder: Path) -> Any:
    """The self-improving stage, interrupted where other samples take over; returns its config."""
    from mmdiff2in1.models.checkpoints import load_weights
    from mmdiff2in1.training.chain import build_runner, resume_where_possible, unwrapped
    from mmdiff2in1.training.optimizer_state import carry_optimizer_state
    from mmdiff2in1.training.stages import self_improving_config
    from mmdiff2in1.training.synthesis_stage import SynthesisStage

    starts = [0, *(step for step in creators if step not in (0, PRETRAINED))]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], STEPS], strict=True)):
        store = None
        if creators:
            store = folder / f'synthetic-{number}'
            cfg.stages.synthesis.unet = 'pretrained' if creators[number] == PRETRAINED else 'creator'
            cfg.stages.synthesis.seed = cfg.randomness.seed + 1000 * number
            SynthesisStage(cfg, store).create(warmup if start == 0 else str(folder / f'iter_{start}.pth'))
        stage = self_improving_config(cfg, folder, Path(warmup), store)
        stage.train_cfg.max_iters = end
        resume_where_possible(stage)
        runner = build_runner(stage)
        if not stage.resume:
            load_weights(unwrapped(runner.model), warmup)
            carry_optimizer_state(runner, warmup)
        runner.train()
    return stage


def folder_of(arm: str, seed: int, args: argparse.Namespace) -> Path:
    """Checkpoints and samples of a run."""
    return args.work_dir / f'{list(ARMS).index(arm)}-seed{seed}'


def table(lines: list[dict]) -> str:
    """Mean ± sample standard deviation over seeds, and the difference to real + EMA, paired by seed."""
    rows = [
        '| samples by | test mIoU | difference by seed | mean difference | p | seeds |',
        '| :-- ' + '| --: ' * 5 + '|',
    ]
    scores = {arm: {line['seed']: line['test']['creator'] for line in lines if line['arm'] == arm} for arm in ARMS}
    scores[REAL_ONLY] = {line['seed']: line['test']['exploiter'] for line in lines if line['arm'] == CONTROL}
    for arm in (arm for arm in (REAL_ONLY, *ARMS) if scores[arm]):
        paired, own = compare(scores[arm], scores[CONTROL]), Spread.of(scores[arm].values())
        cells = ['–', '–', '–']
        if arm != CONTROL:
            by_seed = ', '.join(f'{value:+.2f}' for value in paired.by_seed.values())
            p = '–' if paired.p is None else f'{paired.p:.3f}'
            cells = [by_seed, _spread(paired.spread, '+'), p]
        rows.append(f'| {" | ".join([arm, _spread(own), *cells, str(own.n)])} |')
    return re.sub(r'-(?=\d)', '−', '\n'.join(rows))


def _spread(spread: Spread, sign: str = '') -> str:
    deviation = '' if spread.std is None else f' ± {spread.std:.2f}'
    return '–' if spread.mean is None else f'{spread.mean:{sign}.2f}{deviation}'


if __name__ == '__main__':
    main()
