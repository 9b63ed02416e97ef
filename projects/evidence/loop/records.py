"""One record per task and arm: what was run, and what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from evidence.runs import CONTROL, REAL_ONLY

from .arms import CREATIONS, Arm

Curve = list[tuple[int, dict[str, float]]]
"""(step, scores) of each validation."""
Score = Callable[[str, str], dict[str, float]]
"""('creator' or 'exploiter', part) → scores."""


@dataclass(frozen=True)
class Outcome:
    """One arm of one task, trained.

    Attributes:
        arm: It.
        score: Scores its two models.
        curve: Of θ_C on val.
        kept: Mean share of the pseudo-labelled pixels that were learned from.
    """

    arm: Arm
    score: Score
    curve: Curve
    kept: float


def records(outcome: Outcome, parts: list[str], warm_up: Curve, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The record of an arm; of the control also that of "real only", which is its θ_E.

    Args:
        outcome: The arm.
        parts: To score on: 'val', and 'test' if it is reported on.
        warm_up: Of θ_E on val.
        common: What all records of a job share.
    """
    arm = outcome.arm
    control = arm.name == CONTROL
    found: dict[str, dict] = {
        who: {'test': None} | {part: outcome.score(who, part) for part in read}
        # θ_E of the control is the arm "real only"; of the others it is looked at on val.
        for who, read in (('creator', parts), ('exploiter', parts if control else ['val']))
    }
    primary = next(iter(found['creator']['val']))
    settings = asdict(arm) | ({'creation': asdict(CREATIONS[arm.pool])} if arm.pool in CREATIONS else {})
    common = common | dict(warmup=dict(val=warm_up[-1][1], curve=_numbers(warm_up, primary)))
    yield dict(
        arm=arm.name,
        settings=settings,
        **found['creator'],
        exploiter=found['exploiter'],
        curve=_numbers(outcome.curve, primary),
        kept_share=round(outcome.kept, 4) if arm.pool and arm.teacher != 'GivenLabel' else None,
        **common,
    )
    if control:
        yield dict(
            arm=REAL_ONLY,
            settings={'exploiter_of': CONTROL},
            **found['exploiter'],
            exploiter=found['exploiter'],
            curve=_numbers([], primary),
            kept_share=None,
            **common,
        )


def _numbers(curve: Curve, primary: str) -> dict[str, list]:
    return dict(step=[step for step, _ in curve], val=[score[primary] for _, score in curve])
