"""docs/benchmarks/README.md, made of the JSON lines beside it."""

import json
from pathlib import Path

from mmdiff2in1.core.atomic_files import complete_lines, write_atomically

from .cells import CASES, HEAD_CASES, Cell, sensible
from .costs import known_costs, model_flops
from .queue import read_records
from .tables import NONE, Record, cell_table, compiled_table, goal_table, markdown, peak_table, views_table

ESTIMATES = 'estimates.jsonl'
PEERS = 'peers.jsonl'
"""Of a page of its own, see :mod:`.peers.page`."""
BATCHES = (1, 2, 4, 8, 16)
INTRODUCTION = """# Benchmarks

Time, memory and use of the device at the size of Stable Diffusion 1.5: 512 × 512 pixels, random weights, VPD's features
(150 class tokens), FPN and Semantic FPN head of 256 channels, AdamW. Every row was measured in a process of its own.
All tables of this page are made from the JSON lines beside it:

    python tools/benchmark.py --preset cpu --out docs/benchmarks/cpu.jsonl
    python tools/benchmark.py --preset gpu --out docs/benchmarks/h200.jsonl    # 9 minutes; repeat until nothing is left
    python tools/benchmark.py estimate
    python tools/benchmark.py report

`--help` explains cases, precisions and options.

- time: median of the repeats. speed-up: against the same cell without options.
- TFLOP/s: model FLOPs over time. Counted by torch's flop counter on the meta device, a multiplication and an addition
  as two; the backward pass is counted for real, what gradient checkpointing computes again is not.
- of peak: TFLOP/s over the largest rate of square matrix products in the same precision, measured in the same way.
- memory: on a GPU of tensors (torch.cuda.max_memory_allocated), on a CPU of the whole process. on paper: what
  `--dry-run` says before. A GB is 2^30 bytes. A limit of 16 GB leaves 0.75 GB to CUDA itself.
- Heads alone: on random features of the U-Net, as configs/_base_/models/{bae,idisc,vpd_depth}_sd.py have them; the
  head's name is a training step, with `-predict` it is what a test or a pseudo label costs.
- Of the options gradient checkpointing is a field of a config (`backbone.gradient_checkpointing`), channels_last and
  compile are hooks (`ChannelsLastHook`, `CompileLayersHook`, docs/gpu.md); the others are options of this tool.
"""
CPU_NOTE = """\
Core-seconds: processor time of all threads. Where they are fewer than time × threads, other processes took the rest of
the machine, and on a quiet one the time would be nearer to core-seconds over threads; `of peak` and speed-up compare
core-seconds. Creation was run with four U-Net calls; rows marked as extrapolated add the median of these calls for each
one that is missing."""


VIEWS_NOTE = """\
Warm-ups of Scenes, 64 × 64, batch 12, from files to weights, without and with `cached_views=dict(views=8)`
(docs/features.md): pairs of five steps each, in turns. bf16 is `--amp`, channels_last a ChannelsLastHook, for both.
vpd (`--case views-vpd`): frozen at the size of Stable Diffusion 1.5 with random weights, 512 × 512, batch 1, one view,
pairs of one step each."""

COMPILED_NOTE = """\
torch.compile (inductor) on Scenes, 64 × 64: perception and a training step with `CompileLayersHook`, creation with
`stages.synthesis.compile=True`; pairs of five steps each, in turns, images per second of processor time. Compiling
itself, minutes on such a processor, is not counted."""


def write_page(folder: Path) -> Path:
    """Writes README.md.

    Raises SystemExit if there is no result, or a line that is none.
    """
    files = sorted(file for file in folder.glob('*.jsonl') if file.name not in (ESTIMATES, PEERS))
    if not files:
        raise SystemExit(f'{folder}: no *.jsonl in it; measure first: python tools/benchmark.py --preset cpu')
    parts = [INTRODUCTION]
    try:
        results = {file.stem: read_records([file]) for file in files}
    except ValueError as error:
        raise SystemExit(str(error)) from None
    cells = [record['cell'] for records in results.values() for record in records]
    parts.append(_costs(cells[0]['model'], cells[0]['size']))
    parts += [_section(name, records) for name, records in results.items()]
    if all(cell['device'] == 'cpu' for cell in cells):
        parts.append('## GPU\n\nNot yet measured. The command stands above.\n')
    if (folder / ESTIMATES).is_file():
        parts.append(_on_paper(folder / ESTIMATES))
    page = folder / 'README.md'
    write_atomically(page, '\n'.join(parts).encode())
    return page


def _costs(model: str, size: int) -> str:
    heads = [Cell(case, model=model, size=size) for case in HEAD_CASES]
    features = {case: model_flops(Cell(case, model=model, size=size)) for case in CASES if case.startswith('features')}
    costs = (
        known_costs(model, size)
        | features
        | {f'head alone: {cell.case}': model_flops(cell) for cell in heads if sensible(cell)}
    )
    rows = [[name, f'{flops / 1e12:.3f}'] for name, flops in costs.items()]
    return f'## Costs per image\n\n{markdown([f"{model}, {size} × {size}", "TFLOP"], rows)}\n'


def _section(name: str, records: list[Record]) -> str:
    found = next((r['environment'] for r in records if 'environment' in r), {})
    with_ = ', '.join(
        f'{key} {found[key]}' for key in ('torch', 'cuda', 'cudnn', 'diffusers', 'python') if key in found
    )
    dates = sorted({r['environment']['date'] for r in records if 'environment' in r})
    head = f'## {name}: {found.get("device", "device not known")}\n\n{with_}, {found.get("threads", NONE)} threads; '
    parts = [
        head + ' – '.join(dict.fromkeys([*dates[:1], *dates[-1:]])) + '.',
        peak_table(records),
        cell_table(records),
    ]
    views = views_table(records)
    parts += [VIEWS_NOTE, views] if views else []
    compiled = compiled_table(records)
    parts += [COMPILED_NOTE, compiled] if compiled else []
    goals = goal_table(records) if 'cuda' in found else None
    parts += [goals] if goals else []
    parts += [CPU_NOTE] if any('cores' in record for record in records) else []
    return '\n\n'.join(parts) + '\n'


def _on_paper(file: Path) -> str:
    """Estimated memory by batch size."""
    rows: dict[str, dict[int, float]] = {}
    for line in complete_lines(file):
        entry = json.loads(line)
        rows.setdefault(entry['name'], {})[entry['batch']] = entry['memory']
    table = markdown(
        ['GB, by batch size', *map(str, BATCHES)],
        [[name, *(f'{row[b]:.1f}' if b in row else NONE for b in BATCHES)] for name, row in rows.items()],
    )
    note = (
        'Not measured: tensors alive at the peak, followed on the meta device as a GPU with fused attention would\n'
        'have them; without the workspaces of libraries, the slack of the allocator and what CUDA itself takes.'
    )
    return f'## Memory on paper\n\n{note}\n\n{table}\n'
