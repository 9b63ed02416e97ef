"""The results of a chain as a table for the console."""

from collections.abc import Mapping
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
    scores = results.get('test') or {}
    own = {name: value for name, value in scores.items() if not name.startswith(EXPLOITER)}
    if own:
        wide = max(map(len, own))
        lines += ['', f'{"test":{wide}s} {"θ_C":>10s} {"θ_E":>10s}']
        for name, value in own.items():
            lines.append(f'{name:{wide}s} {_number(value)} {_number(scores.get(EXPLOITER + name))}')
        lines.append('θ_C is the model that ships; one run is one seed, `mmdiff2in1 compare` says whether it helped')
    return lines


def _number(value: float | None) -> str:
    return f'{"–":>10s}' if value is None else f'{value:10.4g}'
