"""How long tests wait for other processes before they call it a hang."""

import os

FACTOR = float(os.environ.get('MMDIFF2IN1_TEST_PATIENCE', 5))
"""Of the seconds that a quiet machine of two cores needs at most; a busy one may take several times as long."""


def patient(seconds: float) -> float:
    """So many seconds on a quiet machine, times FACTOR."""
    return seconds * FACTOR
