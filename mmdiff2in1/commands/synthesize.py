"""Create synthetic images for a config, or take in your own unlabelled ones, without training anything.

    mmdiff2in1 synthesize CONFIG --dry-run                     what would be made, and what it costs
    mmdiff2in1 synthesize CONFIG --preview 16 --T 200,400,600  one contact sheet: which T suits these images?
    mmdiff2in1 synthesize CONFIG --preview 16 --checkpoint warmup/iter_800.pth     and what θ_C sees in them
    mmdiff2in1 synthesize CONFIG --out data/synthetic          create; run it again to go on where it stopped
    mmdiff2in1 synthesize CONFIG --out data/synthetic --show 8 one contact sheet of what is there
    mmdiff2in1 synthesize CONFIG --preview 16                  with a layout: what it composes, and its labels
    mmdiff2in1 synthesize CONFIG --out data/synthetic --verify find and remove damaged files
    torchrun --nproc-per-node 4 -m mmdiff2in1 synthesize CONFIG          several processes share the work

The sources are the images of train_dataloader.dataset, the settings stand in stages.synthesis of the config; the flags
below replace them. With scenes=dict(type=…) there are new captions in the place of the images' own, and with --T noise
no sources at all; unlabelled=FOLDER records your own images where they lie (docs/recipes.md). T says how much is
re-invented: a small T keeps the scene and changes textures, a T near T_max (1000) keeps almost nothing.

Resuming is the default behaviour: finished samples are never made twice, and killed at any moment a run loses at most
the batch in hand. The output is a folder with manifest.jsonl (source, caption, T, seed and hashes of each sample, and
where the labels of its source are) and images/; a SyntheticSampleDataset(store=<folder>) trains on it. A created sample
has no label of its own: the label rule of the model teaches it whenever it is used. What stages.synthesis.layout has
composed has true ones, in labels/, which labels='stored' of that data set reads.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config_arguments import add_config_arguments, work_dir_of
from .config_arguments import load_config as read

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config

    from mmdiff2in1.synthesis import SampleStore
    from mmdiff2in1.synthesis.sheets import Sees

NOISE = 'noise'
DRAWN = 16


INPUTS = {'checkpoint': 'checkpoint'}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'with train_dataloader and stages.synthesis')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the samples (default: the store of the training set, else <work dir>/synthetic)',
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/<name of the config>')

    what = parser.add_argument_group('instead of creating').add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true', help='print the plan; nothing is written')
    some: dict[str, Any] = dict(type=int, nargs='?', const=DRAWN, metavar='N')
    what.add_argument('--preview', **some, help='draw N sources (%(const)s) with one column per T, nothing else')
    what.add_argument('--show', **some, help='draw N sources (%(const)s) and what was created from them')
    what.add_argument('--verify', action='store_true', help='name damaged samples and remove them')
    what.add_argument('--prune', action='store_true', help='remove samples that the plan does not ask for')

    settings = parser.add_argument_group('settings (default: those of the config)')
    settings.add_argument(
        '--T', type=_timesteps, help='noise level 1 … T_max, or: noise; 0: a layout alone; 200,400 draws one per sample'
    )
    settings.add_argument('--num-calls', type=int, help='denoising steps, i.e. U-Net calls per image, at most T')
    settings.add_argument('--samples-per-image', type=int, help='samples from each source')
    settings.add_argument('--num-samples', type=int, help='samples in all; fewer than sources: a seeded draw')
    settings.add_argument('--solver', help="'ddim', 'dpm++' (fewer calls), or 'ddpm' (draws noise on the way)")
    settings.add_argument('--guidance-scale', type=float, help='1 = off; else every call costs twice')
    settings.add_argument('--seed', type=int, help='seed of the first round over the sources')
    settings.add_argument('--batch-size', type=int, help='samples per call; changes the speed, not the images')
    settings.add_argument('--device', help="'cpu', 'cuda:0' … (default: a GPU if there is one)")
    settings.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'), help='of the diffusion weights')
    settings.add_argument(
        '--compile',
        nargs='?',
        const='default',
        choices=('default', 'reduce-overhead', 'max-autotune'),
        help='torch.compile of the denoiser; reduce-overhead: with CUDA graphs (%(const)s)',
    )

    parser.add_argument('--checkpoint', type=Path, help='with --preview: of a trained θ_C, whose maps stand beside')
    parser.add_argument('--time', action='store_true', help='with --dry-run: time one batch and estimate the whole')
    parser.add_argument('--resume', action='store_true', help='accepted and not needed: resuming is the default')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses a model that nothing would ask, with a message."""
    if args.checkpoint is not None and args.preview is None:
        parser.error('--checkpoint says whose maps stand beside a preview: add --preview')


def run(args: argparse.Namespace) -> None:
    """Creates, or does what stands in the place of it."""
    from mmdiff2in1.synthesis import SampleStore, prepare, run_job
    from mmdiff2in1.synthesis.sheets import preview_sheet
    from mmdiff2in1.synthesis.upkeep import dry_run, remove_others
    from mmdiff2in1.training.stages import store_of

    cfg = load_config(args)
    store = SampleStore(args.out or store_of(cfg, Path(cfg.work_dir)) or Path(cfg.work_dir) / 'synthetic')
    if args.verify or args.show is not None:
        verify(store) if args.verify else show(cfg, store, args.show)
        return
    rank, world_size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    job = prepare(cfg, int(os.environ.get('LOCAL_RANK', rank)))
    if args.dry_run:
        for line in dry_run(job, store, args.time):
            print(line)
        print('dry run: nothing was written')
    elif args.preview is not None:
        sees = None if args.checkpoint is None else perceiver(cfg, args.checkpoint, job.device)
        write_sheet(preview_sheet(job, args.preview, sees), Path(cfg.work_dir) / 'preview.png')
    elif args.prune:
        print(f'{len(remove_others(job, store))} samples removed from {store.folder}')
    else:
        store = run_job(job, store, rank, world_size, progress=rank == 0)
        unlabelled = len(job.unlabelled(store))
        kinds = f', {unlabelled} of them unlabelled images' if unlabelled else ''
        print(f'written: {store.folder} ({len(store.finished())} of {len(job.plan()) + unlabelled} samples{kinds})')


def load_config(args: argparse.Namespace) -> 'Config':
    """The config with the flags put into `stages.synthesis` and `work_dir`."""
    cfg = read(args)
    cfg.work_dir = str(work_dir_of(args, cfg))
    settings = (cfg.get('stages') or {}).get('synthesis')
    if settings is None:
        return cfg
    flags = ('T', 'num_calls', 'solver', 'guidance_scale', 'seed', 'batch_size', 'device', 'dtype')
    settings.update({name: getattr(args, name) for name in flags if getattr(args, name) is not None})
    if args.compile is not None:
        settings.compile = dict(mode=args.compile)
    if args.num_samples is not None or args.samples_per_image is not None:
        settings.update(num_samples=args.num_samples, samples_per_image=args.samples_per_image)
    return cfg


def perceiver(cfg: 'Config', checkpoint: Path, device: str) -> 'Sees':
    """What the θ_C of a checkpoint sees in images, on the device of the creation."""
    from mmdiff2in1.inference import Diff2in1Inferencer

    model = Diff2in1Inferencer(cfg, checkpoint, device=device)
    return lambda images: [[(seen.task, seen.map) for seen in each.maps.values()] for each in model(list(images))]


def show(cfg: 'Config', store: 'SampleStore', count: int) -> None:
    """Writes the contact sheet of what is there, with the labels that a layout has composed."""
    from mmengine.registry import init_default_scope

    from mmdiff2in1.core.dataset_images import list_images
    from mmdiff2in1.synthesis.labelled_set import LabelledSet
    from mmdiff2in1.synthesis.sheets import store_sheet
    from mmdiff2in1.synthesis.sources import build_real_dataset

    init_default_scope(cfg.get('default_scope') or 'mmseg')
    with_labels = bool(((cfg.get('stages') or {}).get('synthesis') or {}).get('layout'))
    dataset = build_real_dataset(cfg, with_pipeline=with_labels)
    data_root = list_images(dataset)[0]
    tasks = LabelledSet(dataset, data_root, {}).tasks if with_labels else {}
    write_sheet(store_sheet(store, data_root, count, tasks), store.folder / 'samples.png')


def verify(store: 'SampleStore') -> None:
    """Names what is damaged and has been removed."""
    from mmdiff2in1.synthesis.upkeep import remove_damaged

    problems = remove_damaged(store)
    for problem in problems:
        print(problem)
    if problems:
        print(f'{len(problems)} problems; their samples are removed, run again without --verify to make them')
    lost = store.unrecorded()
    if lost:
        print(f'{len(lost)} images that no record names, first {lost[0]}: run again without --verify, or delete them')
    print(f'{store.folder}: {len(store.records())} samples, all whole')


def write_sheet(sheet: 'np.ndarray', file: Path) -> None:
    """Writes a picture (H, W, 3) and says where."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(file)
    print(f'written: {file}')


def _timesteps(text: str) -> int | str | list[int]:
    if text == NOISE:
        return text
    try:
        levels = [int(level) for level in text.split(',')]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a timestep nor a list like 200,400,600, nor noise'
        ) from None
    return levels[0] if len(levels) == 1 else levels
