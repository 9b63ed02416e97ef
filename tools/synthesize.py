"""Create synthetic images from the training images of a config, without training anything.

    python tools/synthesize.py CONFIG --dry-run                     what would be made, and what it costs
    python tools/synthesize.py CONFIG --preview 16 --T 200,400,600  one contact sheet: which T suits these images?
    python tools/synthesize.py CONFIG --out data/synthetic          create; run it again to go on where it stopped
    python tools/synthesize.py CONFIG --out data/synthetic --show 8 one contact sheet of what is there
    python tools/synthesize.py CONFIG --out data/synthetic --verify find and remove damaged files
    torchrun --nproc-per-node 4 tools/synthesize.py CONFIG          several processes share the work

The sources are the images of train_dataloader.dataset, the settings stand in stages.synthesis of the config; the flags
below replace them. T says how much is re-invented: a small T keeps the scene and changes textures, a T near T_max
(1000) keeps almost nothing. Resuming is the default behaviour: finished samples are never made twice, and killed at any
moment a run loses at most the batch in hand. The output is a folder with manifest.jsonl (source, caption, T, seed and
hashes of each sample), images/ and labels/; a SyntheticSampleDataset(store=<folder>) trains on it. The labels hold
"ignore" everywhere: θ_C labels a sample anew whenever it is used.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from PIL import Image

from mmdiff2in1.core.dataset_images import list_images
from mmdiff2in1.core.images import load_image
from mmdiff2in1.synthesis import (
    SampleStore,
    batches_of,
    check_plan,
    create_batch,
    describe,
    others_of,
    prepare,
    run_job,
)
from mmdiff2in1.synthesis.from_config import DTYPES, Job
from mmdiff2in1.synthesis.plan import timestep_choices
from mmdiff2in1.synthesis.sources import build_real_dataset
from mmdiff2in1.training.stages import store_of
from mmdiff2in1.visualization import contact_sheet

MAX_COLUMNS = 12


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with train_dataloader and stages.synthesis')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the samples (default: the store of the training set, else <work dir>/synthetic)',
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/<name of the config>')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='replace any entry of the config: a.b=c')

    what = parser.add_argument_group('instead of creating').add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true', help='print the plan; nothing is written')
    what.add_argument('--preview', type=int, metavar='N', help='draw N sources with one column per T, nothing else')
    what.add_argument('--show', type=int, metavar='N', help='draw N sources and what was created from them')
    what.add_argument('--verify', action='store_true', help='name damaged samples and remove them')
    what.add_argument('--prune', action='store_true', help='remove samples that the plan does not ask for')

    settings = parser.add_argument_group('settings (default: those of the config)')
    settings.add_argument('--T', type=_timesteps, help='noise level 1 … T_max; 200,400,600 draws one per sample')
    settings.add_argument('--num-calls', type=int, help='denoising steps, i.e. U-Net calls per image, at most T')
    settings.add_argument('--samples-per-image', type=int, help='samples from each source')
    settings.add_argument('--num-samples', type=int, help='samples in all; fewer than sources: a seeded draw')
    settings.add_argument('--solver', help="'ddim', or 'dpm++' which needs fewer calls")
    settings.add_argument('--guidance-scale', type=float, help='1 = off; else every call costs twice')
    settings.add_argument('--seed', type=int, help='seed of the first round over the sources')
    settings.add_argument('--batch-size', type=int, help='samples per call; changes the speed, not the images')
    settings.add_argument('--device', help="'cpu', 'cuda:0' … (default: a GPU if there is one)")
    settings.add_argument('--dtype', choices=DTYPES, help='of the diffusion weights')

    parser.add_argument('--time', action='store_true', help='with --dry-run: time one batch and estimate the whole')
    parser.add_argument('--resume', action='store_true', help='accepted and not needed: resuming is the default')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    cfg = load_config(args)
    out = args.out or store_of(cfg, Path(cfg.work_dir)) or Path(cfg.work_dir) / 'synthetic'
    if args.verify:
        verify(SampleStore(out))
        return
    if args.show is not None:
        show(cfg, SampleStore(out), args.show)
        return
    rank, world_size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    job = prepare(cfg, int(os.environ.get('LOCAL_RANK', rank)))
    if args.dry_run:
        dry_run(job, out, args.time)
    elif args.preview is not None:
        preview(job, args.preview, Path(cfg.work_dir) / 'preview.png')
    elif args.prune:
        prune(job, SampleStore(out))
    else:
        store = run_job(job, SampleStore(out), rank, world_size, progress=rank == 0)
        print(f'written: {out} ({len(store.finished())} of {len(job.plan())} samples)')


def load_config(args: argparse.Namespace) -> Config:
    """The config with the flags put into `stages.synthesis` and `work_dir`."""
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = str(args.work_dir or cfg.get('work_dir') or Path('work_dirs') / Path(args.config).stem)
    settings = (cfg.get('stages') or {}).get('synthesis')
    if settings is None:
        return cfg
    flags = ('T', 'num_calls', 'solver', 'guidance_scale', 'seed', 'batch_size', 'device', 'dtype')
    settings.update({name: getattr(args, name) for name in flags if getattr(args, name) is not None})
    if args.num_samples is not None or args.samples_per_image is not None:
        settings.update(num_samples=args.num_samples, samples_per_image=args.samples_per_image)
    return cfg


def dry_run(job: Job, out: Path, timed: bool) -> None:
    """Print what is to be made and, if asked, how long it would take."""
    plan = job.plan()
    finished = SampleStore(out).finished()
    todo = [recipe for recipe in plan if recipe.sample_id not in finished]
    sizes = sorted({recipe.size for recipe in plan})
    print(f'{len(job.sources)} source images, {len(plan)} samples, of which {len(plan) - len(todo)} are in {out}')
    print(
        f'created at {", ".join(f"{height}x{width}" for height, width in sizes[:5])}{" …" if sizes[5:] else ""} (HxW)'
    )
    for line in describe(plan, check_plan(job.diffusion, plan)):
        print(line)
    others = others_of(plan, finished)
    if others:
        print(f'{out} also holds {len(others)} samples that are not in this plan, e.g. {others[0]}')
    if timed and todo:
        batch = max(batches_of(todo, job.settings.batch_size), key=len)
        started = time.perf_counter()
        create_batch(job.diffusion, batch, job.data_root)
        seconds = (time.perf_counter() - started) / len(batch)
        print(f'{seconds:.2f} s per sample on one process: about {seconds * len(todo) / 60:.1f} min for {len(todo)}')
    print('dry run: nothing was written')


def preview(job: Job, count: int, file: Path) -> None:
    """One contact sheet: source images, and what each T makes of them from the same noise."""
    levels = timestep_choices(job.settings.T)
    if len(levels) > MAX_COLUMNS:
        raise SystemExit(f'T has {len(levels)} values, one column each; choose a few with --T 200,400,600')
    plans = [job.plan(T=T, num_samples=min(count, len(job.sources)), samples_per_image=None) for T in levels]
    check_plan(job.diffusion, [recipe for plan in plans for recipe in plan])
    columns = []
    for plan in plans:
        created: dict[str, np.ndarray] = {}
        for batch in batches_of(plan, job.settings.batch_size):
            images, _, _ = create_batch(job.diffusion, batch, job.data_root)
            created |= {recipe.source: image for recipe, image in zip(batch, images, strict=True)}
        columns.append(created)
    sheet = contact_sheet(
        [
            [
                load_image(Path(job.data_root or '.') / recipe.source, recipe.size),
                *(made[recipe.source] for made in columns),
            ]
            for recipe in plans[0]
        ],
        row_captions=[recipe.caption or '(no caption)' for recipe in plans[0]],
        column_captions=['source', *(f'T={T}' for T in levels)],
        title=f'{plans[0][0].num_calls} U-Net calls, {plans[0][0].solver}, guidance {plans[0][0].guidance_scale:g}',
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(file)
    print(f'written: {file}')


def show(cfg: Config, store: SampleStore, count: int) -> None:
    """One contact sheet of the store: a source in each row, and its samples beside it."""
    samples: dict[str, list[dict]] = {}
    for record in store.finished().values():
        if record.get('image'):
            samples.setdefault(record['source'], []).append(record)
    if not samples:
        raise SystemExit(f'{store.folder} holds no samples; name the store with --out, or create them first')
    chosen = sorted(samples, key=str)[:: max(1, len(samples) // max(1, count))][: max(1, count)]
    columns = min(MAX_COLUMNS, max(len(samples[source]) for source in chosen))
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    root = Path(list_images(build_real_dataset(cfg))[0] or '.')
    rows: list[list[np.ndarray | None]] = []
    for source in chosen:
        made = sorted(samples[source], key=lambda record: (record['T'], record['seed']))[:columns]
        file = root / source if source else None
        first = load_image(file, tuple(made[0]['size'])) if file and file.is_file() else None
        pictures = [np.asarray(Image.open(store.image(record)).convert('RGB')) for record in made]
        rows.append([first, *pictures, *[None] * (columns - len(pictures))])
    sheet = contact_sheet(
        rows,
        row_captions=[samples[source][0]['caption'] or '(no caption)' for source in chosen],
        column_captions=['source', *(f'sample {number + 1}' for number in range(columns))],
        title=f'{sum(map(len, samples.values()))} samples of {len(samples)} sources',
    )
    file = store.folder / 'samples.png'
    Image.fromarray(sheet).save(file)
    print(f'written: {file}')


def verify(store: SampleStore) -> None:
    """Name what is damaged and remove it."""
    if not store.exists:
        raise SystemExit(
            f'{store.folder} holds no manifest.jsonl: there is nothing to verify; name the store with --out'
        )
    problems = store.verify()
    for problem in problems:
        print(problem)
    if problems:
        # Without any id this still drops the lines of the manifest that are no records.
        store.remove({problem.sample_id for problem in problems if problem.sample_id})
        print(f'{len(problems)} problems; their samples are removed, run again without --verify to make them')
    print(f'{store.folder}: {len(store.records())} samples, all whole')


def prune(job: Job, store: SampleStore) -> None:
    """Remove samples of another plan: other T, seed, size, captions or sources."""
    others = others_of(job.plan(), store.finished())
    store.remove(others)
    print(f'{len(others)} samples removed from {store.folder}')


def _timesteps(text: str) -> int | list[int]:
    try:
        levels = [int(level) for level in text.split(',')]
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a timestep nor a list like 200,400,600') from None
    return levels[0] if len(levels) == 1 else levels


if __name__ == '__main__':
    main()
