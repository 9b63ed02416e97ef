"""Units of figures, by their names: what may share an axis."""

EXPLOITER = 'exploiter/'
"""Stands before the figures of θ_E."""
PERCENT = ('mIoU', 'mAcc', 'aAcc', 'mDice', 'mFscore', 'mPrecision', 'mRecall', 'maxF', 'odsF', 'odsR', 'odsP')
PERCENT_STARTS = ('IoU.', 'Acc.', 'Dice.', 'below_')
DEGREES = ('mean', 'median', 'rmse', 'rmse_per_image')
OF_DEPTH = dict(rmse='m', sq_rel='m', rmse_log='ln m', log10='log₁₀ m', silog='ln m', abs_rel='ratio')
SHARES = ('d1', 'd2', 'd3')
SHARE_OF_PIXELS = 'share of pixels'


def unit_of(name: str) -> str:
    """Of a figure, with or without a prefix that names its task; '' if it is not known."""
    task, _, last = name.removeprefix(EXPLOITER).rpartition('/')
    if last in PERCENT or last.startswith(PERCENT_STARTS) or last == 'delta_mtl':
        return '%'
    if 'normal' in task or (last in DEGREES and last not in OF_DEPTH):
        return '°' if last in DEGREES else ''
    if last in SHARES:
        return SHARE_OF_PIXELS
    return OF_DEPTH.get(last, '')
