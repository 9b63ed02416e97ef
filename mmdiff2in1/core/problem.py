"""One thing that is wrong with a data set, as a sentence and for a file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A fault of a file, folder or field of a config.

    `severity` is 'error' (the training would stop, or learn something wrong) or 'warning' (look at it). `check` names
    the kind of problem. `expected` is empty where `found` is a whole message that says so itself.
    """

    severity: str
    check: str
    file: str
    found: str
    expected: str
    next_step: str

    def __str__(self) -> str:
        return f'{self.file}: {self.fault}. {self.next_step}'

    @property
    def fault(self) -> str:
        """What is wrong, as a clause."""
        return f'found {self.found}; expected {self.expected}' if self.expected else self.found
