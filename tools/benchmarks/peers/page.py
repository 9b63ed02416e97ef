"""docs/benchmarks/peers.md, made of the JSON lines of `benchmark.py peers`."""

import json
from pathlib import Path
from typing import Any

from mmdiff2in1.core.atomic_files import complete_lines, write_atomically

from ..tables import markdown
from .command import circumstances
from .rows import ROWS, setup_of

Line = dict[str, Any]
INTRODUCTION = """# Others' code beside ours

    python tools/benchmark.py peers --dry-run                                    # the rows
    python tools/benchmark.py peers --vpd ~/VPD --released ~/diff-2-in-1         # on a CPU, a tenth of the width
    python tools/benchmark.py peers --vpd ~/VPD --released ~/diff-2-in-1 --device cuda --dtype fp32 bf16 --batch 4
    python tools/benchmark.py report                                             # this page, of peers.jsonl

The same work by the code of VPD (wl-zhao/VPD, with its submodule CompVis/stable-diffusion) and of the released
Diff-2-in-1 (zsh2000/diff-2-in-1), and by ours, by turns in one process: theirs, ours, theirs, ours, … Nothing of theirs
is part of this repository: the command is given your own clones, imports from them, and needs einops, which they need.

- Both sides have the same random weights (ours are read from theirs, as files of Stable Diffusion and of the released
  heads are) and the same images. Before a row is timed its outputs are compared in single precision, with normal draws
  as zeros and all pixels of a map taken; sides that disagree are not timed. Of a training step these are the loss and
  the length of its gradient.
- theirs, ours: median of the seconds. theirs / ours: median of the ratios of the pairs, the least and the largest;
  above 1 ours is faster. core-seconds: the same ratio of processor time, which other work on the machine moves less.
- MiB: tensors at the peak of a step, weights, gradients and the optimizer's moments of that side among them; followed
  one by one on a CPU, torch's allocator on a GPU.
- small is a U-Net of 32 base channels and 2 heads, a VAE of 32 and an adapter and decoder narrowed alike (by the
  classes that theirs are made of); full is Stable Diffusion 1.5. Small shows which work is done how often, not what it
  costs at full width, where convolutions and products weigh more.
- VPD's segmentor is one of mmseg 0.x: its method `extract_feat` is taken out of its file and run on its own U-Net
  wrapper, text adapter and VAE; neck and head are ours on both sides. The step of the released second stage and the
  function that averages stand inside a script: they are taken out of it and executed as they are, with the device in
  the place of "cuda" and a `permute` in that of `np.transpose`, which takes no tensor in NumPy 2. What they print goes
  nowhere; making it counts, as it does for who runs them.
- Imports that the timed work does not need are answered by stand-ins (`tools/benchmarks/peers/clones.py`): omegaconf,
  pytorch_lightning (a module that knows its device), taming, timm, torchvision, black, clip, kornia, and what VPD
  imports of transformers' CLIP. One that is called after all says so. The text encoder is ours on both sides, so that
  no weights are needed.
- **The clones behind the CPU rows were no git checkouts** but copies put together from the published files. Of the
  released decoder, losses and sampler what no row runs was left out, some of the rest shortened; their `ldm` is that
  of the package stable-diffusion-sdkit 2.1.5 with the lines of version 1 in attention and recomputation. The command
  itself reads real clones, and should be run on them before anyone leans on these ratios. On a GPU nothing has been
  measured.
"""


def write_peers(file: Path) -> Path | None:
    """Writes the page beside `file`, the JSON lines; None if nothing has been measured."""
    lines = [json.loads(line) for line in complete_lines(file)] if file.is_file() else []
    if not lines:
        return None
    lines.sort(key=lambda line: list(ROWS).index(line['row']))
    parts = [INTRODUCTION]
    for device in dict.fromkeys(line['environment']['device'] for line in lines):
        here = [line for line in lines if line['environment']['device'] == device]
        parts += [f'## {device}\n', _circumstances(here), _table(here)]
    parts += ['\n## The rows\n', *_rows(lines)]
    page = file.with_suffix('.md')
    write_atomically(page, '\n'.join(parts).encode())
    return page


def _circumstances(lines: list[Line]) -> str:
    first, loads = lines[0]['environment'], [line['load'] for line in lines]
    dates = sorted({line['environment']['date'] for line in lines})
    threads = f'{first["threads"]} thread{"s" if first["threads"] > 1 else ""}'
    return (
        f'torch {first["torch"]}, diffusers {first["diffusers"]}, python {first["python"]}, {threads}, '
        f'{" – ".join(dict.fromkeys((dates[0], dates[-1])))}; load of the machine {min(loads):g} to {max(loads):g}.\n'
    )


def _table(lines: list[Line]) -> str:
    head = ['row', '', 'pairs', 'theirs, s', 'ours, s', 'theirs / ours', 'core-seconds', 'theirs, MiB', 'ours, MiB',
            'theirs / ours', 'outputs differ by']  # fmt: skip
    return markdown(head, [_cells(line) for line in lines], left=1)


def _cells(line: Line) -> list[str]:
    clock, cores = (line[name]['compared'] for name in ('seconds', 'core_seconds'))
    size = {side: line['bytes'][side] / 2**20 for side in ('theirs', 'ours')}
    return [
        line['row'] + (' *' if line['differs'] else ''),
        ', '.join(circumstances(setup_of(line))),
        str(line['pairs']),
        f'{clock["theirs"]:.3g}',
        f'{clock["ours"]:.3g}',
        f'{_ratio(clock["ratio"])} ({_ratio(clock["ratio_min"])} – {_ratio(clock["ratio_max"])})',
        _ratio(cores['ratio']),
        f'{size["theirs"]:,.0f}',
        f'{size["ours"]:,.0f}',
        _ratio(size['theirs'] / size['ours']),
        f'{max(line["difference"].values()):.0e}',
    ]


def _ratio(value: float) -> str:
    return f'{value:.2f}' if value < 10 else f'{value:.0f}'


def _rows(lines: list[Line]) -> list[str]:
    parts = []
    for name in dict.fromkeys(line['row'] for line in lines):
        row = ROWS[name]
        found = [line['difference'] for line in lines if line['row'] == name]
        told = ', '.join(f'{key} {max(each[key] for each in found):.1e}' for key in found[0])
        differs = f' * The sides differ: {row.differs}.' if row.differs else ''
        parts.append(f'- `{name}`: {row.what}.{differs} Outputs apart by: {told}.')
    return [*parts, '']
