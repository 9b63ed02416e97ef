"""What to say where this Python is too old or lacks a package: most likely it is not the one of the environment."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from .doctor import PACKAGES, PIP, PYTHON_WANTED, ROOT, machine_probes, out_of_range, requirements

ENVIRONMENT = ROOT / '.venv'


def missing_package(error: ModuleNotFoundError) -> str:
    """The module, the Python that looked for it, and what to do; '' if it is none that this package needs."""
    package = next((each for each in PACKAGES if re.split('[.:]', each.probe)[0] == error.name), None)
    if package is None:  # part of a package that is there (mmcv._ext), or a module of the user's
        return ''
    if (ROOT / 'pyproject.toml').is_file():  # a checkout
        here = Path(sys.prefix).resolve() == ENVIRONMENT.resolve()
        cure = '' if here else f'{_environment()}, or set this one up: '
        cure += f'{PIP} install -e {shlex.quote(str(ROOT))}'
    else:
        default = package.distributions[0]
        wanted = requirements(machine_probes().version('mmdiff2in1') is not None)[0].get(default, '')
        cure = f'{PIP} install "{default}{wanted}"; {sys.executable} -m mmdiff2in1 doctor says whether that is all'
    return f'{error} in {sys.executable}: {cure}'


def too_old(version: str) -> str:
    """What is wrong with a Python of this version, and what to do; '' if it is new enough."""
    if out_of_range(version, PYTHON_WANTED) != 'below':
        return ''
    return f'{sys.executable} is Python {version}, expected {PYTHON_WANTED}: {_environment()}'


def _environment() -> str:
    """How to reach it; made where there is none."""
    activate = ENVIRONMENT / 'bin/activate'
    if activate.is_file():
        return f'source {shlex.quote(os.path.relpath(activate))}'
    return 'activate the environment that mmdiff2in1 is set up in (make setup makes one)'
