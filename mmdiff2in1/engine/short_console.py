"""A console on which the lines that matter can be seen; the log file keeps everything."""

import logging

from mmengine.logging import MMLogger

ENDLESS = ('Config:', 'Hooks will be executed', '\n---', 'paramwise_options', 'Mismatched ')
"""How mmengine's dumps begin: config, hooks, environment, one line per parameter."""
LINES = 12


class ShortLines(logging.Filter):
    """Passes records that are short; warnings and errors pass at any length."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the console shows it."""
        if record.levelno >= logging.WARNING:
            return True
        text = record.getMessage()
        return not text.startswith(ENDLESS) and text.count('\n') < LINES


def shorten_console(logger: MMLogger) -> MMLogger:
    """Keeps long dumps off the streams of a logger, not out of its files; once per stream."""
    for handler in logger.handlers:
        streams = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        if streams and not any(isinstance(each, ShortLines) for each in handler.filters):
            handler.addFilter(ShortLines())
    return logger
