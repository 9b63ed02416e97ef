"""The parser of every command line here: the help keeps the lines of its text, a mistake is told in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Arguments(argparse.ArgumentParser):
    """argparse's parser without the usage before an error; `--help` shows it."""

    def __init__(self, prog: str | None = None, **kwargs: Any) -> None:
        super().__init__(prog, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2 and `message`."""
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')
