"""How an error is told: one line for what the user can mend, the traceback for what is a fault of the program."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator

from .wrong_python import missing_package

INTERRUPTED = 130
ALWAYS = (ValueError, OSError, ImportError)
"""Told in one line wherever they come from; the others where this package raised them."""


@contextlib.contextmanager
def told(program: str, debug: bool = False, goes_on: str = '') -> Iterator[None]:
    """Turns errors that say what is wrong into one line on stderr and exit status 1; Ctrl-C into 130.

    What a bug raises (AttributeError, TypeError, IndexError …, or a RuntimeError of torch) passes with its traceback.
    The traceback of the others goes to the log file, if there is one, and to the console with ``debug``. ``goes_on``:
    the flag that an interrupted command needs to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        again = shlex.join([*program.split()[:1], *sys.argv[1:], *goes_on.split()])
        print(f'\n{program}: interrupted; to go on: {again}', file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `| head` has seen enough; nothing is left to flush
        raise SystemExit(1) from None
    except ALWAYS as error:
        _tell(error, program, debug)
    except (RuntimeError, KeyError, NotImplementedError, FloatingPointError) as error:
        if not _ours(error):
            raise
        _tell(error, program, debug)


def _tell(error: BaseException, program: str, debug: bool) -> None:
    if debug:
        raise error
    _to_log_file(error)
    raise SystemExit(f'{program}: {_text(error)}') from error


def _ours(error: BaseException) -> bool:
    """True if it was raised by a line of this package, which then says what is wrong."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get('__name__', '').partition('.')[0] == 'mmdiff2in1'


def _text(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, ModuleNotFoundError):
        text = missing_package(error) or text
    return text.strip() or f'{type(error).__name__} without a message; --debug shows where it came from'


def _to_log_file(error: BaseException) -> None:
    """mmengine's log of the run, where one is open, keeps the traceback."""
    if 'mmengine.logging' not in sys.modules:
        return
    from mmengine.logging import MMLogger

    text = ''.join(traceback.format_exception(error))
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.LogRecord('mmengine', logging.ERROR, __file__, 0, text, None, None))
