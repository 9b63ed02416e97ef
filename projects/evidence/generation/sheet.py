"""Contact sheets of a generator: what each T makes of real scenes with tables, and scenes from captions it never saw.

N images of H × W pixels: uint8 RGB (N, H, W, 3).
"""

from collections.abc import Sequence

import numpy as np
from images.captions import unseen_captions
from images.creation import KeptImages

from mmdiff2in1.captions import RecombinedCaptions
from mmdiff2in1.datasets.scenes import CLASSES
from mmdiff2in1.visualization import contact_sheet

from .data import Part

ROWS = 8
COLUMNS = 5
SMALLEST_TABLE = 0.02


def table_scenes(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of `count` of the label maps (N, H, W), with tables from large to small.

    Only tables that are whole (they touch no border), with all of their legs, as far as there are enough of them.
    """
    table = labels == CLASSES.index('table')
    area = table.mean((1, 2))
    cut = table[:, [0, -1]].any((1, 2)) | table[:, :, [0, -1]].any((1, 2))
    order = np.argsort(-area, kind='stable')
    whole = order[(area >= SMALLEST_TABLE)[order] & ~cut[order]]
    if len(whole) < count:
        return order[:count]
    return whole[np.linspace(0, len(whole) - 1, count).round().astype(int)]


def level_sheet(maker: KeptImages, scenes: Part, levels: Sequence[int], seed: int) -> tuple[np.ndarray, list[str]]:
    """Rows of real scenes with tables, one column per T, all from the row's caption and noise; and the rows' names."""
    rows = scenes[table_scenes(scenes.labels, min(ROWS, len(scenes)))]
    seeds = range(seed, seed + len(rows))
    columns = [rows.images, *(maker(rows.images, rows.captions, seeds, T) for T in levels)]
    sheet = contact_sheet(
        list(zip(*columns, strict=True)),
        row_captions=rows.captions,
        column_captions=['real', *(f'T={T}' for T in levels[:-1]), f'T={levels[-1]}, noise'],
        title=_settings(maker),
    )
    return sheet, rows.names


def unseen_sheet(
    maker: KeptImages, scenes: Part, seen: Sequence[str], T_max: int, seed: int
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Rows of captions that were not trained on, several noises each; and these captions.

    The upper half are captions of `scenes`, beside their real image; in the lower half things and room come from two.
    """
    rng = np.random.default_rng(seed)
    new = unseen_captions(scenes.captions, seen)
    new = sorted(rng.permutation(new)[: ROWS // 2].tolist())
    captions = dict(new=[scenes.captions[i] for i in new])
    recombined = RecombinedCaptions(scenes.captions, seed, avoid=seen).captions(ROWS // 2)
    captions['recombined'] = list(dict.fromkeys(recombined))  # of a handful of captions there are but a few new pairs
    texts = [*captions['new'], *captions['recombined']]
    shape = (len(texts) * COLUMNS, *scenes.images.shape[1:])
    repeated = [text for text in texts for _ in range(COLUMNS)]
    made = maker(np.zeros(shape, np.uint8), repeated, range(seed, seed + len(repeated)), T_max)
    real = [*(scenes.images[i] for i in new), *(None for _ in captions['recombined'])]
    kinds = [f'new: {text}' for text in captions['new']] + [f'recombined: {text}' for text in captions['recombined']]
    sheet = contact_sheet(
        [[image, *made[i * COLUMNS : (i + 1) * COLUMNS]] for i, image in enumerate(real)],
        row_captions=kinds,
        column_captions=['real', *(f'noise {i + 1}' for i in range(COLUMNS))],
        title=f'from captions that no training image has; {_settings(maker)}',
    )
    return sheet, captions


def _settings(maker: KeptImages) -> str:
    settings = maker.settings
    return f'{settings.num_calls} U-Net calls, {settings.solver}, guidance {settings.guidance_scale:g}'
