"""Files that run code when they are read carelessly."""

import builtins
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer


class Runs:
    """`os.system('touch MARKER')` when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


class ReplacesEval:
    """`builtins.eval = OrderedDict` when it is unpickled, by nothing but what mmengine allows: getattr, and a log."""

    def __reduce__(self):
        return getattr, (HistoryBuffer.mean, '__builtins__'), None, None, iter([('eval', OrderedDict)])


class Evaluates:
    """`eval(…)`, the guard of whoever looks for modules alone."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return eval, (f'open({str(self.marker)!r}, "w").close()',)


KINDS = ('system', 'eval', 'replaces eval', 'bare pickle', 'old format', 'log')


def write(kind: str, path: Path, marker: Path, **parts: object) -> Path:
    """Writes a checkpoint with ``parts`` beside the code."""
    code = {'eval': Evaluates(marker), 'replaces eval': ReplacesEval()}.get(kind, Runs(marker))
    content = dict(state_dict={'weight': torch.zeros(1)}, meta=dict(iter=1, epoch=0)) | parts
    if kind == 'log':  # inside of an object that is allowed
        history = HistoryBuffer([1.0], [1])
        history._log_history = code
        content |= dict(message_hub=dict(log_scalars=dict(loss=history), runtime_info={}, resumed_keys={}))
    else:
        content |= dict(other=code)
    if kind == 'bare pickle':
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != 'old format')
    return path


class Watch:
    """Whether anything has been run."""

    def __init__(self, marker: Path):
        self.marker, self.eval = marker, builtins.eval

    def assert_nothing_ran(self) -> None:
        assert not self.marker.exists(), 'code of the file was run'
        found, builtins.eval = builtins.eval, self.eval
        assert found is self.eval, 'builtins.eval was replaced'
