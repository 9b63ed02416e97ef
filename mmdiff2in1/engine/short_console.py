"""A console on which the lines that matter can be seen; the log file keeps everything."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

ENDLESS = ('Config:', 'Hooks will be executed', '\n---', 'paramwise_options', 'per class results', '\n+--')
"""How the dumps of others begin: config, hooks, environment, one line per parameter, tables of all classes."""
CHATTER = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'The prefix is not set in metric class',
    'Distributed training is not used, all SyncBatchNorm',
)
"""How warnings of mmengine and mmseg begin that no user can act on."""
LINES = 12


class ShortLines(logging.Filter):
    """Passes records that are short; warnings and errors pass at any length, but for `CHATTER`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True if the console shows the record."""
        text = record.getMessage()
        if text.startswith(CHATTER):
            return False
        if record.levelno >= logging.WARNING:
            return True
        return not text.startswith(ENDLESS) and text.count('\n') < LINES


def shorten_console(logger: MMLogger) -> MMLogger:
    """Keeps long dumps off the streams of a logger, not out of its files; once per stream."""
    for handler in logger.handlers:
        streams = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        if streams and not any(isinstance(each, ShortLines) for each in handler.filters):
            handler.addFilter(ShortLines())
    return logger


@contextmanager
def shell_unheard() -> Iterator[None]:
    """What the process and its children write to their standard error is dropped meanwhile."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
