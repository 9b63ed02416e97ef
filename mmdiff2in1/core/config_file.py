"""One reader of configs, one writer, and where a run keeps its own."""

import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from .atomic_files import write_atomically
from .config_places import find_config
from .text_files import read_text

# `_base_ = ['mmdiff2in1::diff2in1/vpd_scenes.py']` and `['mmseg::…']`: mmengine asks this table which package has them.
MODULE2PACKAGE['mmdiff2in1'] = 'mmdiff2in1'
if any(metadata.distributions(name='onedl-mmsegmentation')):
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


def read_config(place: str | Path) -> Config:
    """The config of a file or of a built-in name, see :func:`find_config`.

    Raises:
        FileNotFoundError: See :func:`find_config`, and for a `_base_` that is not there.
        ValueError: It, or a `_base_` of it, cannot be read or run, or holds nothing; with file and line.
    """
    file = find_config(place)
    try:
        cfg = Config.fromfile(file)
    except FileNotFoundError:
        raise
    except RecursionError as error:
        raise ValueError(f'{file}: its _base_ leads back to itself; name other files there') from error
    except Exception as error:  # whatever the lines of a config raise
        raise _told(error, file) from error
    if not cfg:
        raise ValueError(f'{file}: found no settings, expected those of a config; is it the right file?')
    _without_scope(cfg._cfg_dict)
    return cfg


def write_config(cfg: Config, file: Path) -> None:
    """The whole config, which needs no `_base_`."""
    write_atomically(file, cfg.pretty_text.encode())


def config_of_run(work_dir: Path) -> Path:
    """Where a run of several stages keeps its whole config; the folders of the stages hold theirs."""
    return work_dir / f'{work_dir.resolve().name}.py'


def _told(error: Exception, file: Path) -> ValueError:
    """With the file that mmengine was reading, which may be a `_base_`, and its line."""
    line, at_work = getattr(error, 'lineno', None), file
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == '_file2dict':
            at_work = Path(frame.f_locals['filename'])
        elif frame.f_code.co_filename == str(at_work):
            line = number
    read_text(at_work)  # which says better what is wrong with its bytes
    place = at_work if line is None else f'{at_work}:{line}'
    kind = '' if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: '
    return ValueError(f'{place}: {kind}{getattr(error, "msg", error)}')


def _without_scope(part: Any) -> None:
    """Takes out what mmengine notes in a `_base_` of a package: ours registers in mmseg's scope, and has none of its
    own."""
    if isinstance(part, dict):
        if part.get('_scope_') == 'mmdiff2in1':
            del part['_scope_']
        for value in part.values():
            _without_scope(value)
    elif isinstance(part, list | tuple):
        for value in part:
            _without_scope(value)
