"""Pools of processes: order, what they are prepared with, and that nothing of them outlives an interrupt or a kill."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmdiff2in1.core.ahead import ahead, together
from mmdiff2in1.core.processes import process_pool, usable_cores

# A shell starts what it puts into the background deaf to Ctrl-C, and so would be all that the tests start.
SCRIPT = """
import signal
import time
from mmdiff2in1.core.ahead import ahead
from mmdiff2in1.core.processes import process_pool

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with process_pool(2, [], int) as pool:
        for second in ahead(pool, time.sleep, [0.05] * 10_000, most=4):
            print('at work', flush=True)
"""


def test_results_come_in_order_and_only_so_much_is_under_way():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        for number, found in enumerate(ahead(pool, lambda each: each * each, items(), most=5)):
            assert found == number * number and len(taken) <= number + 5
    assert taken == list(range(20))
    assert list(together(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_processes_are_prepared():
    with process_pool(1, [], os.putenv, 'PREPARED', '1') as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()


def test_cores_are_those_that_may_be_used():
    if not hasattr(os, 'sched_setaffinity'):
        pytest.skip('this system does not say')
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks for processes in /proc')
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left(tmp_path, how):
    """Ctrl-C reaches all processes of a terminal; a kill only the one."""
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout.readline() == 'at work\n'
    assert len(_of_session(run.pid)) >= 4  # itself, the server, two workers
    os.killpg(run.pid, how) if how == signal.SIGINT else run.kill()
    said = run.communicate(timeout=60)[1]
    assert run.returncode == -how
    assert said.count('Traceback') == (how == signal.SIGINT)  # its own
    until = time.monotonic() + 30
    while _of_session(run.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _of_session(run.pid)


def _of_session(session: int) -> list[int]:
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != 'Z':
            found.append(int(stat.parent.name))
    return found
