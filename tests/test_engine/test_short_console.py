"""The console shows what matters, the log file keeps everything."""

import subprocess
import sysconfig

import pytest
from mmengine.logging import MMLogger
from mmengine.utils.dl_utils import collect_env

from mmdiff2in1.engine.short_console import shell_unheard, shorten_console


@pytest.mark.parametrize(
    ('level', 'text', 'shown'),
    [
        ('info', 'Config:\na = 1', False),
        ('info', 'Hooks will be executed in the following order:', False),
        ('info', 'Iter(train) [10/20] loss: 0.5', True),
        ('info', '\n'.join('abcdefghijklmnop'), False),
        ('warning', '\n'.join('abcdefghijklmnop'), True),
        ('warning', '"FileClient" will be deprecated in future.', False),
        ('info', 'per class results:', False),
        ('error', 'Config: is wrong', True),
    ],
)
def test_what_the_console_shows(tmp_path, capsys, level, text, shown):
    logger = shorten_console(MMLogger(f'{tmp_path}', log_file=str(tmp_path / 'log'), log_level='INFO'))
    shorten_console(logger)
    getattr(logger, level)(text)
    last = text.splitlines()[-1]
    printed = capsys.readouterr()
    assert (last in printed.out + printed.err) == shown
    assert last in (tmp_path / 'log').read_text()
    assert all(len(handler.filters) <= 2 for handler in logger.handlers)


def test_a_compiler_that_is_not_there_is_not_complained_of(capfd, monkeypatch):
    """mmengine asks the one that Python was built with for its version, on every start of a run."""
    monkeypatch.setitem(sysconfig.get_config_vars(), 'CC', 'no-such-compiler -pthread')
    collect_env()
    assert 'no-such-compiler' in capfd.readouterr().err
    with shell_unheard():
        found = collect_env()
    assert found['GCC'] == 'n/a' and capfd.readouterr().err == ''
    subprocess.run('echo heard >&2', shell=True, check=True)
    assert capfd.readouterr().err == 'heard\n'
