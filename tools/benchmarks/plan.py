"""What cells cost on paper, before anything is measured."""

import json
from pathlib import Path

from tqdm import tqdm

from mmdiff2in1.core.atomic_files import write_atomically

from .cells import Cell
from .costs import model_flops
from .estimate import memory

LEAN = ('checkpointing', 'fused-adamw')
ON_PAPER = {
    'finetune, fp32': Cell('finetune', 'fp32'),
    'finetune, bf16': Cell('finetune', 'bf16'),
    'finetune, bf16, checkpointing': Cell('finetune', 'bf16', options=('checkpointing',)),
    'finetune, bf16, checkpointing, fused AdamW': Cell('finetune', 'bf16', options=LEAN),
    'mixed, bf16': Cell('mixed', 'bf16'),
    'mixed, bf16, checkpointing, fused AdamW': Cell('mixed', 'bf16', options=LEAN),
    'frozen, bf16': Cell('frozen', 'bf16'),
    'create, fp32': Cell('create', 'fp32', calls=20),
    'create, bf16 weights': Cell('create', 'bf16-weights', calls=20),
}


def listing(cells: list[Cell], done: set[Cell]) -> str:
    """A line for each cell: whether it is done, its operations, its memory."""
    lines = [f'{"":5}  {"TFLOP":>7}  {"GB":>5}  cell']
    for cell in tqdm(cells, unit='cell', leave=False, desc='on paper'):
        size, flops = memory(cell), model_flops(cell)
        needed = '' if size is None else f'{size:.1f}'
        operations = f'{flops / 1e12:.3g}' if flops else ''
        lines.append(f'{"done" if cell in done else "to do":5}  {operations:>7}  {needed:>5}  {cell.name}')
    return '\n'.join(lines)


def write_estimates(file: Path, batches: tuple[int, ...], size: int, model: str) -> None:
    """JSON lines of the memory that ON_PAPER should need on a GPU."""
    lines = []
    for name, cell in tqdm(ON_PAPER.items(), unit='row'):
        for batch in batches:
            if cell.case == 'mixed' and batch % 2:
                continue
            wanted = Cell(cell.case, cell.precision, batch, cell.calls, cell.options, 0, model, size, 'cuda')
            lines.append(json.dumps(dict(name=name, batch=batch, memory=round(memory(wanted), 2))))
    write_atomically(file, ('\n'.join(lines) + '\n').encode())
