"""How many calls does creation need? Solver × calls × T × guidance, by what is created.

    python projects/evidence/calls.py --dry-run     the rows, and what each costs
    python projects/evidence/calls.py --network taef2_encoder.pth --config configs/baselines/unet_scenes.py \\
        --checkpoint work_dirs/teacher/iter_3000.pth
    python projects/evidence/calls.py --table       the Markdown table of --out

Images of the part test are sources, under their captions; seeds are their numbers, the same in every row. A row has

  KID          to the images of train and val (lower is better; scale as in docs/evidence/generator.md)
  agreement    mIoU between what the judge (--config, --checkpoint: one that has seen many labels) sees in the created
               image and the true label of its source; from noise it is left out
  named seen   share of the classes named in the caption that the judge sees on at least ten pixels

Created images are kept in --cache; one JSON line per row is appended to --out, and a row that stands there is skipped.
"""

import argparse
import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from generation.data import read_part
from generation.measures import agreement
from generation.metrics import kernel_distance
from generation.network import image_features, load_network, standardised
from images.creation import CreationSettings, KeptImages

from mmdiff2in1.core.atomic_files import append_line, complete_lines
from mmdiff2in1.datasets.scenes import CLASSES

CALLS = (4, 6, 10, 20, 40)
SOLVERS = ('ddim', 'dpm++')
LEVELS = (200, 600, 1000)
GUIDED = (1.5, 2.0, 3.0)
SEEN_PIXELS = 10


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--diffusion', default='builtin:scenes', help='diffusers folder, one file, or builtin:scenes (%(default)s)')
    add('--data-root', type=Path, default=Path('data/scenes'), help='set of mmdiff2in1 scenes (%(default)s)')
    add('--out', type=Path, default=Path('docs/evidence/calls.jsonl'), help='one line per row (%(default)s)')
    add('--cache', type=Path, default=Path('work_dirs/calls'), help='created images, kept (%(default)s)')
    add('--network', type=Path, help='taef2_encoder.pth of TAESD, whose features KID compares')
    add('--config', help='config of the judge')
    add('--checkpoint', help='its weights')
    add('--samples', type=int, default=200, help='images of a row (%(default)s)')
    add('--levels', type=int, nargs='+', default=list(LEVELS), help='T (%(default)s)')
    add('--dry-run', action='store_true', help='list the rows, then stop')
    add('--table', action='store_true', help='print what --out says as Markdown, then stop')
    args = parser.parse_args(arguments)
    if not (args.table or args.dry_run) and None in (args.network, args.config, args.checkpoint):
        parser.error('--network, --config and --checkpoint are needed: what judges the images')
    return args


def settings(levels: Sequence[int]) -> list[tuple[int, CreationSettings]]:
    """(T, how to create) of every row: both solvers at each number of calls, then guidance at 10 and 20 calls."""
    plain = [(T, CreationSettings(calls, solver=solver)) for T in levels for solver in SOLVERS for calls in CALLS]
    guided = [
        (levels[-1], CreationSettings(calls, guidance_scale=scale, solver=solver))
        for solver in SOLVERS[::-1]
        for calls in (10, 20)
        for scale in GUIDED
    ]
    return plain + guided


def main(arguments: list[str] | None = None) -> None:
    """Measures every row that is not in --out, or prints."""
    args = parse_args(arguments)
    lines = [json.loads(line) for line in complete_lines(args.out)]
    if args.table:
        print(table(lines))
        return
    done = {_key(line) for line in lines}
    waiting = [row for row in settings(args.levels) if (args.diffusion, *row_key(*row)) not in done]
    for T, how in waiting:
        print(f'to do: T={T}, {how.solver}, {how.num_calls} calls, guidance {how.guidance_scale:g}: '
              f'{args.samples * how.calls_per_image} U-Net calls')  # fmt: skip
    if not args.dry_run:
        for line in measured(waiting, args):
            append_line(args.out, json.dumps(line))


def row_key(T: int, how: CreationSettings) -> tuple:
    """What tells rows of one generator apart."""
    return T, how.solver, how.num_calls, how.guidance_scale


def _key(line: dict) -> tuple:
    return line['diffusion'], line['T'], line['solver'], line['calls'], line['guidance']


def measured(rows: Sequence[tuple[int, CreationSettings]], args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """A line for every row."""
    from mmdiff2in1.generators import LatentDiffusion
    from mmdiff2in1.inference import Diff2in1Inferencer

    diffusion, network = LatentDiffusion.from_pretrained(args.diffusion), load_network(args.network)
    judge = Diff2in1Inferencer(args.config, args.checkpoint)
    real = np.concatenate([read_part(args.data_root, part).images for part in ('train', 'val')])
    part = read_part(args.data_root, 'test')[np.arange(args.samples)]
    raw = image_features(network, real, 50)
    known = standardised(raw, raw)
    for T, how in rows:
        maker, started = KeptImages(diffusion, how, args.cache), time.perf_counter()
        images = maker(part.images, part.captions, range(args.samples), T)
        seconds = time.perf_counter() - started
        seen = np.stack([result.map for result in judge(list(images), 20)])
        yield dict(
            diffusion=args.diffusion,
            weights=maker.weights[:12],
            T=T,
            solver=how.solver,
            calls=how.num_calls,
            guidance=how.guidance_scale,
            images=args.samples,
            kid=round(kernel_distance(standardised(image_features(network, images, 50), raw), known), 5),
            agreement=round(agreement(seen, part.labels)['mIoU'], 2) if T < diffusion.schedule.T_max else None,
            named_seen=round(named_seen(seen, part.captions), 4),
            seconds=round(seconds, 1),
        )


def named_seen(maps: np.ndarray, captions: Sequence[str]) -> float:
    """Share of (image, class named in its caption) where the class has at least ten pixels of the map (N, H, W)."""
    found = [
        int((seen == index).sum()) >= SEEN_PIXELS
        for seen, caption in zip(maps, captions, strict=True)
        for index, name in enumerate(CLASSES)
        if re.search(rf'\b{name}s?\b', caption)
    ]
    return float(np.mean(found))


def table(lines: Sequence[dict]) -> str:
    """Rows of one generator as Markdown: a row per T, solver and guidance, a column per number of calls."""
    calls = sorted({line['calls'] for line in lines})
    cells = {_key(line): line for line in lines}
    rows = ['| T | solver | guidance | ' + ' | '.join(f'{n} calls' for n in calls) + ' |']
    rows.append('| --: | :-- | --: ' + '| :-- ' * len(calls) + '|')
    for diffusion, T, solver, guidance in dict.fromkeys((k[0], k[1], k[2], k[4]) for k in cells):
        found = [cells.get((diffusion, T, solver, n, guidance)) for n in calls]
        rows.append(f'| {T} | {solver} | {guidance:g} | ' + ' | '.join(map(_cell, found)) + ' |')
    return '\n'.join(rows)


def _cell(line: dict | None) -> str:
    if line is None:
        return '–'
    agreed = '' if line['agreement'] is None else f' · {line["agreement"]:.1f}'
    return f'{line["kid"]:.3f}{agreed} · {100 * line["named_seen"]:.0f} %'


if __name__ == '__main__':
    main()
