"""The kept share of a run, explained in words."""

from mmengine.config import Config

from mmdiff2in1.engine.kept_share_watch import LITTLE
from mmdiff2in1.visualization.curves import PANELS, Curves

from .label_rule import rule_in_words

PANEL = 'kept share of pseudo labels'
MUCH = 0.98
MEANING = (
    'The kept share is the share of the pixels of created images, padding left out, that teach θ_E something: the '
    'label rule drops the others. It says nothing of whether the labels are right.'
)


def kept_share_in_words(cfg: Config, curves: Curves) -> list[str]:
    """Sentences; empty for a run that logs no kept share."""
    names = sorted(filter(PANELS[PANEL], curves))
    if not names:
        return []
    said = [MEANING, f'Here created images are taught with {rule_in_words(cfg.model)}.']
    for name in names:
        values = [value for value in curves[name][1] if value == value]
        if not values:
            continue
        tenth = max(1, len(values) // 10)
        first, last = (sum(part) / tenth for part in (values[:tenth], values[-tenth:]))
        mean = sum(values) / len(values)
        task = name.partition('/')[2].replace('_', ' ')
        said.append(
            f'{task[:1].upper()}{task[1:]}: {mean:.0%} of the pixels on average, {first:.0%} in the first tenth of the '
            f'training and {last:.0%} in the last. {_judged(mean, first, last)}'.strip()
        )
    return said


def _judged(mean: float, first: float, last: float) -> str:
    if mean < LITTLE:
        return (
            'Next to no pixel teaches anything: lower min_confidence, or let the warm-up last longer, so that θ_C is '
            'surer.'
        )
    if mean > MUCH:
        return 'Nearly every pixel counts: the rule filters next to nothing.'
    if last > first + 0.1:
        return 'It rises: θ_C has become surer.'
    if last < first - 0.1:
        return 'It falls: θ_C has become less sure of the created images.'
    return ''
