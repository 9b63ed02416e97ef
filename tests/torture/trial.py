"""What a trial says: what was done, what came of it, and whether that is as promised."""

from dataclasses import asdict, dataclass

BARE = (
    'AssertionError', 'AttributeError', 'EOFError', 'IndexError', 'JSONDecodeError', 'KeyError', 'OSError',
    'RecursionError', 'RuntimeError', 'StopIteration', 'SystemError', 'TypeError', 'UnboundLocalError',
    'UnicodeDecodeError', 'UnpicklingError', 'ZeroDivisionError', 'exit',
)  # fmt: skip
"""Errors that come from somewhere inside and not from a check."""


@dataclass
class Outcome:
    """One trial.

    Args:
        what: What was done.
        came: What came of it, in a word or two; the table counts these.
        broken: What is not as promised; empty if all is.
        kind: Of the trials.
        seconds: Of the whole trial.
    """

    what: str
    came: str
    broken: str = ''
    kind: str = ''
    seconds: float = 0.0

    def as_record(self, number: int, seed: int) -> dict:
        """One line of the raw results."""
        return dict(number=number, seed=seed) | asdict(self) | dict(seconds=round(self.seconds, 1))
