"""Results as tables for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

STAGES = {'warmup': 'warm-up', 'self_improving': 'self-improving'}
EXPLOITER = 'exploiter/'


def score_table(results: Mapping[str, Any]) -> list[str]:
    """Lines: the stages with steps, time and checkpoint, then each metric of θ_C beside that of θ_E.

    Args:
        results: What :func:`mmdiff2in1.training.chain.train` returns.
    """
    lines = [
        f'{title}: {results[stage]["iters"]} steps in {results[stage]["seconds"]:.0f} s, {results[stage]["checkpoint"]}'
        for stage, title in STAGES.items()
        if stage in results
    ]
    scores = results.get('test')
    if scores:
        lines += ['', *metric_table(scores, ('θ_C', 'θ_E'))]
        lines.append('θ_C is the model that ships; one run is one seed, `mmdiff2in1 compare` says whether it helped')
    return lines


def metric_table(scores: Mapping[str, float], models: Sequence[str]) -> list[str]:
    """Lines: the metrics of a test, with a column for each model.

    Args:
        scores: By name, those of θ_E below ``exploiter/``.
        models: ``θ_C``, ``θ_E``, or the title of the one that there is.
    """
    names = dict.fromkeys(name.removeprefix(EXPLOITER) for name in scores)
    wide = max(map(len, [*names, 'test']))
    lines = [f'{"test":{wide}s}' + ''.join(f' {model:>10s}' for model in models)]
    before = {'θ_E': EXPLOITER}
    for name in names:
        values = (_number(scores.get(before.get(model, '') + name)) for model in models)
        lines.append(' '.join([f'{name:{wide}s}', *values]))
    return lines


def _number(value: float | None) -> str:
    return f'{"–":>10s}' if value is None else f'{value:10.4g}'
