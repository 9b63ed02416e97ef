"""What a denoising loss beside the perception loss costs and gains, on Scenes: one U-Net that does both jobs.

    python projects/evidence/denoising.py --network taef2_encoder.pth --dry-run      what would be run
    python projects/evidence/denoising.py --network taef2_encoder.pth                everything that is not in --out yet
    python projects/evidence/denoising.py --table                                    the Markdown table of --out
    python projects/evidence/denoising.py --time                                     what a training step costs

Arms: the built-in U-Net as it is; fine-tuned for segmentation on 60 labels (the warm-up of
configs/diff2in1/vpd_scenes-finetune.py) without a denoising loss, and with weights 1 and 0.1. Of each U-Net: test mIoU,
the denoising loss on 100 images of val under their captions, FID and KID of 200 images created with it at T = 600 from
unlabelled sources.
One JSON line per arm and seed; a killed run goes on from its last checkpoint in --work-dir.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from run_queue import queue, queue_parser

from mmdiff2in1.core.atomic_files import append_line, complete_lines, write_atomically

ROOT = Path(__file__).parents[2]
ARMS: dict[str, float | None] = {'no denoising loss': None, 'weight 1': 1.0, 'weight 0.1': 0.1}
PRETRAINED = 'pretrained'
T, CALLS, SOURCES, VAL = 600, 20, 200, 100


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = queue_parser(__doc__, 'denoising', 'ARM')
    add = parser.add_argument
    add('--network', type=Path, help='taef2_encoder.pth of TAESD, whose features FID and KID compare')
    add('--iters', type=int, default=300, help='training steps (%(default)s)')
    add('--time', action='store_true', help='print how much longer a step takes with the loss, then stop')
    args = parser.parse_args(arguments)
    if args.network is None and not (args.table or args.dry_run or args.time):
        parser.error('--network taef2_encoder.pth is needed: FID and KID compare its features')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Runs the queue, one run of it, or prints."""
    args = parse_args(arguments)
    if args.table:
        print(table([json.loads(line) for line in complete_lines(args.out)]))
    elif args.time:
        print(f'a step takes {step_ratio():.2f} times as long (processor time of one thread, median of six pairs)')
    elif args.run:
        arm, seed = args.run[0], int(args.run[1])
        write_atomically(_record(arm, seed, args), json.dumps(run(arm, seed, args)).encode())
    else:
        wanted = [(PRETRAINED, 0), *((arm, seed) for arm in ARMS for seed in args.seeds)]
        for arm, seed in wanted:
            collect(arm, seed, args)  # what ended while nobody waited for it
        queue(
            wanted,
            'arm',
            args,
            log=lambda arm, seed: args.work_dir / f'{_slug(arm, seed)}.log',
            ended=lambda arm, seed: collect(arm, seed, args),
        )


def collect(arm: str, seed: int, args: argparse.Namespace) -> None:
    """Appends the record of a run that has ended, unless it is there."""
    lines = list(map(json.loads, complete_lines(args.out)))
    if _record(arm, seed, args).is_file() and not any((line['arm'], line['seed']) == (arm, seed) for line in lines):
        append_line(args.out, _record(arm, seed, args).read_text())


def run(arm: str, seed: int, args: argparse.Namespace) -> dict:
    """Trains one arm, unless it is the pretrained U-Net, and measures it."""
    import torch
    from generation.data import read_part

    from mmdiff2in1.generators import LatentDiffusion

    torch.set_num_threads(1)
    parts = {name: read_part(args.data_root, name) for name in ('train', 'val', 'test')}
    started = time.perf_counter()
    if arm == PRETRAINED:
        found, diffusion = {}, LatentDiffusion.from_pretrained('builtin:scenes')
    else:
        found, diffusion = train(arm, seed, args)
    record = dict(arm=arm, seed=seed, iters=0 if arm == PRETRAINED else args.iters, **found)
    record |= measure(diffusion, parts, seed, args)
    return record | dict(seconds=round(time.perf_counter() - started))


def train(arm: str, seed: int, args: argparse.Namespace) -> tuple[dict, Any]:
    """Test mIoU, and the diffusion model with the U-Net that was trained."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import mmdiff2in1.components  # noqa: F401  registers
    from mmdiff2in1.models.checkpoints import load_weights
    from mmdiff2in1.training.chain import run_stage, test
    from mmdiff2in1.training.stages import warmup_config

    cfg = warmup_config(
        Config.fromfile(ROOT / 'configs' / 'diff2in1' / 'vpd_scenes-finetune.py'), args.work_dir / _slug(arm, seed)
    )
    weight = ARMS[arm]
    if weight is None:
        cfg.model.type = 'EncoderDecoder'
        cfg.model.pop('denoising_weight')
    else:
        cfg.model.denoising_weight = weight
    place(cfg, args.data_root)
    cfg.randomness.seed = seed
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=args.iters, val_interval=args.iters)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=50),
        dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=50, end=args.iters),
    ]
    init_default_scope('mmseg')
    result = run_stage(f'{arm}, seed {seed}', cfg, resume=True)
    metrics = test(cfg, result['checkpoint'], args.work_dir / _slug(arm, seed) / 'test')
    model = MODELS.build(cfg.model)
    load_weights(model, result['checkpoint'])
    facts = dict(mIoU=metrics['mIoU'], val_mIoU=result['metrics']['mIoU'], training_seconds=round(result['seconds']))
    return facts, model.backbone.diffusion


def place(cfg, root: Path) -> None:
    """Points the data sets and captions of the config at `root`."""
    train_set = cfg.train_dataloader.dataset.dataset
    for dataset in (train_set, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        dataset.data_root = str(root)
    for step in train_set.pipeline:
        if step['type'] == 'LoadCaption':
            step['captions'] = str(root / 'train' / 'captions.jsonl')


def measure(diffusion, parts: dict, seed: int, args: argparse.Namespace) -> dict:
    """Denoising loss, FID and KID; the sources are images of train that carry no label."""
    from generation.data import labelled_positions
    from generation.measures import denoising_loss, distribution
    from generation.network import image_features, load_network, standardised
    from generation.study import LABELLED, SUBSET_SEED
    from images.creation import CreationSettings, KeptImages

    val, train_part = parts['val'], parts['train']
    labelled = labelled_positions(args.data_root, train_part, LABELLED, SUBSET_SEED)
    sources = train_part[np.setdiff1d(np.arange(len(train_part)), labelled)[:SOURCES]]
    maker = KeptImages(diffusion, CreationSettings(CALLS), args.work_dir / 'created')
    created = maker(sources.images, sources.captions, range(SOURCES), T)
    network = load_network(args.network)
    raw = image_features(network, np.concatenate([val.images, parts['test'].images]), 30)
    near, made = (standardised(image_features(network, each, 30), raw) for each in (sources.images, created))
    spread = distribution({T: made}, near, standardised(raw, raw), seed)
    loss = denoising_loss(diffusion, val.images[:VAL], val.captions[:VAL], 30)['mean']['captions']
    return dict(denoising_loss=loss, T=T, **{k: spread['created'][0][k] for k in ('fid', 'kid')}, floor=spread['floor'])


def step_ratio(pairs: int = 6, batch: int = 12) -> float:
    """Processor time of forward and backward with the denoising loss over that without, steps taken in turns."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.models.segmentors import EncoderDecoder
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    import mmdiff2in1.components  # noqa: F401  registers

    torch.set_num_threads(1)
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs' / 'diff2in1' / 'vpd_scenes-finetune.py')
    model = MODELS.build(cfg.model.segmentor).train()
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64), caption='a red ball')) for _ in range(batch)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 11, (1, 64, 64)))
    images = torch.rand(batch, 3, 64, 64) * 2 - 1

    def seconds(loss) -> float:
        started = time.process_time()
        sum(value for name, value in loss(model, images, samples).items() if 'loss' in name).backward()
        model.zero_grad()
        return time.process_time() - started

    seconds(type(model).loss)  # warm-up
    found = [(seconds(EncoderDecoder.loss), seconds(type(model).loss)) for _ in range(pairs)]
    return float(np.median([with_it / without for without, with_it in found]))


def table(lines: list[dict]) -> str:
    """Mean ± standard deviation over seeds, one row per arm."""
    rows = ['| U-Net | seeds | test mIoU | denoising loss | FID | KID |', '|---' * 6 + '|']
    for arm in (PRETRAINED, *ARMS):
        of_arm = [line for line in lines if line['arm'] == arm]
        if of_arm:
            cells = [_spread(of_arm, key, digits) for key, digits in COLUMNS.items()]
            rows.append(f'| {arm} | {len(of_arm)} | {" | ".join(cells)} |')
    return '\n'.join(rows)


COLUMNS = {'mIoU': 2, 'denoising_loss': 4, 'fid': 2, 'kid': 4}


def _spread(lines: list[dict], key: str, digits: int) -> str:
    values = [line[key] for line in lines if key in line]
    if not values:
        return ''
    spread = f' ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else ''
    return f'{np.mean(values):.{digits}f}{spread}'


def _record(arm: str, seed: int, args: argparse.Namespace) -> Path:
    return args.work_dir / f'{_slug(arm, seed)}.json'


def _slug(arm: str, seed: int) -> str:
    return f'{arm.replace(" ", "_")}-seed{seed}'


if __name__ == '__main__':
    main()
