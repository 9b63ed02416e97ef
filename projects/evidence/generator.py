"""Judge the small generator of rendered scenes: what it has learnt, what a noise level T costs, and what it buys.

    python projects/evidence/generator.py --dry-run                       what would be made, and how many U-Net calls
    python projects/evidence/generator.py --samples 40 --num-calls 10     a short look
    python projects/evidence/generator.py --diffusion work_dirs/scenes_diffusion --network taef2_encoder.pth \\
        --config configs/baselines/vpd_scenes.py --checkpoint work_dirs/demo-loop/baselines/self_improving/iter_300.pth

Writes --out (JSON) and, beside it, NAME_sheet.png, NAME_unseen.png and NAME_T.png. Measured are

  loss           the denoising loss on val by timestep, with captions and without; the PSNR of the autoencoder
  sheets         scenes with tables at each T; images from captions that no training image has
  distribution   FID and KID against real images, beside what real images score (needs --network)
  label cost     mIoU of the label seen in a created image with the true label of its source (needs --config)
  novelty        distance of created images to the nearest labelled one, beside that of new real images

The sources are images of train with their captions; T = 0 stands for the autoencoder alone. The generator must have
been trained on the part unlabelled and nothing else. What is left out for want of a flag is named in the JSON, which is
written after every part. Created images are kept in --cache: a second call, with another network or checkpoint, creates
none anew.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generation.measures import BINS, denoising_loss, distribution, label_cost, novelty, reconstruction
from generation.network import FEATURES, standardised
from generation.plot import level_plot
from generation.sheet import COLUMNS, ROWS, level_sheet, unseen_sheet
from generation.study import LABELLED, SUBSET_SEED, Study, prepare
from PIL import Image

from mmdiff2in1.core.atomic_files import write_atomically


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--diffusion', default='builtin:scenes', help='diffusers folder, one file, or builtin:scenes (default)')
    add('--data-root', type=Path, default=Path('data/scenes'), help='set of make_scenes.py (%(default)s)')
    add('--out', type=Path, default=Path('docs/evidence/generator.json'), help='the numbers (%(default)s)')
    add('--cache', type=Path, default=Path('work_dirs/generator'), help='created images, kept (%(default)s)')
    add(
        '--network',
        type=Path,
        help='taef2_encoder.pth of TAESD, whose features are compared; without it no FID and KID',
    )
    add('--config', help='config of the segmentor that judges labels, as in its work dir; with --checkpoint')
    add('--checkpoint', help='its weights; of a self-improving one θ_C judges')
    add('--samples', type=int, default=600, help='created images for each T, at most all of train (%(default)s)')
    add('--num-calls', type=int, default=20, help='denoising calls per image (%(default)s)')
    add('--guidance-scale', type=float, default=1.0, help='1 = off; else every call costs twice (%(default)s)')
    add('--batch-size', type=int, default=30, help='images per call (%(default)s)')
    add('--seed', type=int, default=0, help='of the first image; the next have the next (%(default)s)')
    add('--num-labelled', type=int, help=f'labelled images of train (that of --config, else {LABELLED})')
    add('--subset-seed', type=int, help=f'seed of their draw (that of --config, else {SUBSET_SEED})')
    add('--dry-run', action='store_true', help='check everything and print the plan; nothing is written')
    args = parser.parse_args(arguments)
    if (args.config is None) != (args.checkpoint is None):
        parser.error('--config and --checkpoint belong together: the weights and the model that they fit')
    if args.samples < 4 or args.batch_size < 1:
        parser.error(f'--samples {args.samples} --batch-size {args.batch_size}: at least 4 and 1 are needed')
    return args


def plan(study: Study, out: Path) -> str:
    """What is made, and what it costs."""
    per_image, val, T = study.maker.settings.calls_per_image, len(study.parts['val']), len(study.levels)
    calls = dict(
        loss=2 * BINS * val,
        sheets=(min(ROWS, val) * T + ROWS * COLUMNS) * per_image,
        creation=len(study.sources) * T * per_image,
    )
    lines = [
        f'{len(study.sources)} sources ({study.num_own} of the {len(study.labelled)} labelled ones), '
        f'T = {", ".join(map(str, study.levels))}, {per_image} U-Net calls per image; at most these U-Net calls:',
        *(f'  {name:9s} {count:9,d}' for name, count in calls.items()),
        f'  {"all":9s} {sum(calls.values()):9,d}',
        f'distribution: {"left out, no --network" if study.featurize is None else "FID and KID"}; label cost: '
        + (
            'left out, no --config'
            if study.predict is None
            else f'{(T + 2) * (len(study.sources) - study.num_own)} maps'
        ),
        f'to be written: {out}, {", ".join(_picture(out, name).name for name in ("sheet", "unseen", "T"))}',
    ]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Runs the study."""
    args = parse_args(arguments)
    study = prepare(args)
    print(plan(study, args.out))
    if args.dry_run:
        print('dry run: nothing was written')
        return
    report, clock = describe(study, args), time.perf_counter()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name, result in measure(study, args):
        report['seconds'][name] = time.perf_counter() - clock
        clock = time.perf_counter()
        report[name] = result
        write_atomically(args.out, (json.dumps(_rounded(report), indent=2) + '\n').encode())
    print(f'written: {args.out} and its pictures')


def describe(study: Study, args: argparse.Namespace) -> dict[str, Any]:
    """What was measured with what: names and hashes, no places."""
    diffusion = study.maker.diffusion
    files = {'network': args.network, 'config': args.config, 'checkpoint': args.checkpoint}
    return dict(
        generator=dict(
            name=Path(args.diffusion).name,
            weights_sha256=study.maker.weights,
            parameters=sum(parameter.numel() for parameter in diffusion.parameters()),
            target=diffusion.schedule.prediction_type,
        ),
        files={name: _identity(Path(file)) for name, file in files.items() if file is not None},
        settings=asdict(study.maker.settings)
        | dict(seed=args.seed, samples=len(study.sources), T=study.levels, bfloat16=study.maker.bfloat16),
        images=dict({name: len(part) for name, part in study.parts.items()}, labelled=len(study.labelled)),
        machine=f'{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}',
        seconds={},
    )


def measure(study: Study, args: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """(name, result) of each part of the study, the quick ones first; draws the pictures."""
    maker, val, size = study.maker, study.parts['val'], args.batch_size
    yield 'loss', denoising_loss(maker.diffusion, val.images, val.captions, size)
    yield 'autoencoder', reconstruction(maker.diffusion, val.images, size)
    sheet, names = level_sheet(maker, val, study.levels, args.seed)
    Image.fromarray(sheet).save(_picture(args.out, 'sheet'))
    sheet, captions = unseen_sheet(maker, val, study.seen, study.levels[-1], args.seed)
    Image.fromarray(sheet).save(_picture(args.out, 'unseen'))
    yield 'sheets', dict(part='val', images=names, captions=captions)

    sources, own = study.parts['train'][study.sources], study.num_own
    seeds = range(args.seed, args.seed + len(sources))
    created = {0: maker.reconstruct(sources.images)}
    created |= {T: maker(sources.images, sources.captions, seeds, T) for T in study.levels}
    yield 'creation', dict(images=len(sources) * len(study.levels), note='T = 0 below: the autoencoder alone')

    others = slice(own, None)  # the judge knows the labels of the first ones
    cost = dict(skipped='no --config and --checkpoint')
    if study.predict is not None:
        later = {T: images[others] for T, images in created.items()}
        cost = label_cost(later, sources.images[others], sources.labels[others], study.predict)
    yield 'label_cost', cost
    labelled = study.parts['train'].images[study.labelled]
    position = np.arange(own)
    first = {T: images[:own] for T, images in created.items()}
    gains = {'grey_levels': novelty(first, position, labelled, val.images)}
    found: dict[str, Any] = dict(skipped='no --network')
    if study.featurize is not None:
        raw = study.featurize(np.concatenate([val.images, study.parts['test'].images]))
        features = {T: standardised(study.featurize(images), raw) for T, images in created.items()}
        near, real = (standardised(study.featurize(images), raw) for images in (labelled, sources.images))
        unseen = standardised(raw, raw)
        found = dict(features=FEATURES, dimensions=raw.shape[1], **distribution(features, real, unseen, args.seed))
        first = {T: values[:own] for T, values in features.items()}
        gains['features'] = novelty(first, position, near, unseen[: len(val)], root_mean_square=False)
    yield 'distribution', found
    level_plot(_picture(args.out, 'T'), cost, gains)
    yield 'novelty', gains


def _picture(out: Path, name: str) -> Path:
    return out.with_name(f'{out.stem}_{name}.png')


def _identity(file: Path) -> dict[str, str]:
    with open(file, 'rb') as stream:
        return dict(name=file.name, sha256=hashlib.file_digest(stream, 'sha256').hexdigest())


def _rounded(value: Any) -> Any:
    """Five significant digits everywhere: the sixth is not the same on another machine."""
    if isinstance(value, dict):
        return {str(name): _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f'{value:.5g}') if isinstance(value, float) else value


if __name__ == '__main__':
    main()
