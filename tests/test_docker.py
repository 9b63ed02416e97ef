"""The Dockerfile against the files that it speaks of; it is not built here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / 'Dockerfile'


def instructions():
    """(instruction, rest of the line), continued lines joined."""
    text = re.sub(r'\\\n', '', FILE.read_text())
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line and not line.startswith('#')]


def test_it_installs_what_there_is_and_hides_no_failure():
    found = instructions()
    copied = [rest.split()[0] for name, rest in found if name == 'COPY']
    assert copied == ['requirements', '.'] and (ROOT / 'requirements/lock.txt').is_file()
    runs = [rest for name, rest in found if name == 'RUN']
    assert len(runs) == 3 and not any('||' in run for run in runs)
    assert [len(re.findall(r'--no-deps', run)) for run in runs] == [0, 1, 1]
    # Without isolation the package is built by the setuptools of the lock.
    assert '--no-build-isolation' in runs[2] and '\nsetuptools==' in (ROOT / 'requirements/lock.txt').read_text()
    assert re.match(r'python:3\.1[12]-slim$', dict(found)['FROM'])


def test_torch_is_installed_in_the_version_of_the_lock(tmp_path):
    """Else the line for all other packages would put one without CUDA's libraries in its place."""
    run = next(rest for name, rest in instructions() if name == 'RUN')
    script = run.replace('pip install', 'printf "%s\\n"').replace('/source/', f'{ROOT}/')
    (locked,) = re.findall(r'^torch==.*$', (ROOT / 'requirements/lock.txt').read_text(), re.M)
    for index, expected in (('', [locked]), ('https://some/cpu', ['--index-url', 'https://some/cpu', locked])):
        out = subprocess.run(['sh', '-c', script], env={'TORCH_INDEX': index, 'PATH': '/usr/bin:/bin'}, text=True,
                             capture_output=True, check=True, cwd=tmp_path)  # fmt: skip
        assert out.stdout.split() == expected


def test_large_folders_stay_out_of_the_build():
    left_out = set((ROOT / '.dockerignore').read_text().splitlines())
    ignored = {line.strip('/') for line in (ROOT / '.gitignore').read_text().splitlines() if line.startswith('/')}
    assert {'.git', '.venv'} <= left_out and ignored <= left_out
    for needed in ('requirements', 'configs', 'tools', 'mmdiff2in1', 'setup.py', 'README.md', 'LICENSE'):
        assert needed not in left_out and (ROOT / needed).exists()


def test_hadolint_finds_nothing():
    if shutil.which('hadolint') is None:
        pytest.skip('hadolint is not installed')
    result = subprocess.run(['hadolint', str(FILE)], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, '')
