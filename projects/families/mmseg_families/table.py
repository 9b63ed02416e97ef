"""docs/families.md out of docs/families.jsonl."""

from collections.abc import Mapping
from typing import Any

from .catalogue import BACKBONES, FAMILIES, ROWS, SETTINGS, Row
from .small import BATCH, STEPS

HEAD = f"""# Families of mmseg

Configs that mmseg ships, each its own but for size, data and steps: crops of 32 or 64 pixels, wide networks eight times
narrower, batches of {BATCH}, {STEPS} steps on noise from random weights; on a CPU batch norm for the synchronised one,
and bfloat16 for float16. Each goes the whole way of [Add it to your config](add_to_your_config.md), and a row is
*whole* where all of it holds:

1. trained as it is, in mmengine's runner;
2. wrapped (`careful`), without a store: the losses of every step are equal, bit for bit;
3. wrapped, from the checkpoint of 1, with four created images in a store: the losses of both kinds are finite, *taught*
   is the mean loss of the created images;
4. θ_C and θ_E are tested;
5. θ_C is exported, and the original config gives the same logits and scores with it, bit for bit.

Such runs show that the parts fit together. They say nothing of accuracy: that is in [Evidence](evidence.md).

Written by `make families` (`projects/families/families.py`; raw lines in `docs/families.jsonl`).
"""
OF_TRANSFORMERS = """
## Backbones of transformers

The backbone of a config replaced by `HFBackbone`, narrow and with random weights.
"""
COLUMNS = (
    '| {} | config | plain | no store | taught | θ_C, original config | |\n| --- | --- | --- | --- | --- | --- | --- |'
)
STEP_NAMES = dict(
    plain='the plain config',
    wrap='wrapping',
    no_store='training without a store',
    mixed='training with created images',
    export='export and test',
)


def table(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    known = [lines[row.name] for row in ROWS if row.name in lines]
    whole, away = (sum(line['ended'] == kind for line in known) for kind in ('whole', 'not here'))
    refused, alone = (sum(line['ended'] == kind for line in known) for kind in ('refused', 'plain'))
    failed = len(known) - whole - away - refused - alone
    count = (
        f'{len(known)} of {len(ROWS)} rows have run: {whole} whole, '
        f'{refused} refused by name as it should be, {away} not run here, '
        f'{alone} that mmseg alone does not train on a CPU either, {failed} that end before.'
    )
    parts = [HEAD, count, '\n## Families\n', _part('family', FAMILIES, lines), OF_TRANSFORMERS]
    parts += [_part('backbone', BACKBONES, lines), '\n## Settings\n', _part('setting', SETTINGS, lines)]
    return '\n'.join(parts) + '\n'


def _part(title: str, rows: tuple[Row, ...], lines: Mapping[str, Mapping[str, Any]]) -> str:
    cells = [_cells(row, lines[row.name]) for row in rows if row.name in lines]
    return '\n'.join([COLUMNS.format(title), *(f'| {" | ".join(each)} |' for each in cells)])


def _cells(row: Row, line: Mapping[str, Any]) -> list[str]:
    ended = line['ended']
    steps = list(STEP_NAMES)
    reached = steps.index(ended) if ended in steps else len(steps) if ended == 'whole' else 0
    taught = line.get('synthetic_loss')
    done = [
        'runs' if reached > steps.index('plain') else '',
        'equal' if reached > steps.index('no_store') else '',
        f'{taught:.2f}' if taught is not None else '',
        'equal' if ended == 'whole' else '',
    ]
    title = row.family if row in (*FAMILIES, *BACKBONES) else row.setting
    return [title, f'`{row.config.removesuffix(".py")}`', *done, _remark(line)]


def _remark(line: Mapping[str, Any]) -> str:
    ended, reason = line['ended'], str(line.get('reason', '')).replace('|', '\\|')
    if ended == 'whole':
        return 'whole'
    if ended == 'plain':
        return f'mmseg alone, without this package: {reason}'
    if ended in STEP_NAMES:
        return f'ends at {STEP_NAMES[ended]}: {reason}'
    return f'{ended}: {reason}'
