"""Says whether this environment can run mmdiff2in1, and for each problem prints the command that mends it.

    mmdiff2in1 doctor [--json]        # mmdiff2in1 doctor, where nothing is installed

Exit status 0: it can run (there may be warnings); 1: something is missing or broken. Only the standard library is used
until a package is tried, so it also runs where nothing is installed. Importing mmdiff2in1 itself checks no versions.
"""

# An old Python must get as far as being told that it is too old.
from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_WANTED = '>=3.11,<3.13'
PIP = f'{min(sys.executable, os.path.relpath(sys.executable), key=len)} -m pip'  # .venv/bin/python in a checkout
TO_LOCKED = f'{PIP} install --no-deps -r requirements/lock.txt'
TO_EDITABLE = f'{PIP} install --no-deps --no-build-isolation -e .'
TO_RESTORED = 'git checkout -- mmdiff2in1/generators/builtin'
TO_HEADLESS = (
    f'{PIP} uninstall -y opencv-python opencv-contrib-python opencv-python-headless && '
    f'{PIP} install --no-deps opencv-python-headless'
)
TO_MAINTAINED = (
    f'{PIP} uninstall -y mmsegmentation mmcv mmcv-lite mmengine && '
    f'{PIP} install --force-reinstall --no-deps onedl-mmengine onedl-mmcv onedl-mmsegmentation'
)


@dataclass(frozen=True)
class Package:
    """One row's name and the distributions that may provide it; the first is the one that runtime.txt speaks of."""

    name: str
    distributions: tuple[str, ...]
    probe: str  # 'module' or 'module:attribute', imported to see that it works
    optional: bool = False


PACKAGES = (
    Package('torch', ('torch',), 'torch'),
    # Before diffusers and transformers, which import it when it is there and then fail with it.
    Package('torchvision', ('torchvision',), 'torchvision', optional=True),
    Package('numpy', ('numpy',), 'numpy'),
    Package('pillow', ('pillow',), 'PIL.Image'),
    Package('scipy', ('scipy',), 'scipy.io'),
    Package('opencv', ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python'), 'cv2'),
    Package('mmengine', ('onedl-mmengine', 'mmengine'), 'mmengine.runner'),
    Package('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite'), 'mmcv.transforms'),
    Package('mmseg', ('onedl-mmsegmentation', 'mmsegmentation'), 'mmseg.models'),
    Package('mmpretrain', ('onedl-mmpretrain', 'mmpretrain'), 'mmpretrain.models', optional=True),
    Package('tokenizers', ('tokenizers',), 'tokenizers'),
    Package('safetensors', ('safetensors',), 'safetensors.torch'),
    Package('transformers', ('transformers',), 'transformers:CLIPTextModel'),
    Package('diffusers', ('diffusers',), 'diffusers:UNet2DConditionModel'),
    Package('huggingface_hub', ('huggingface_hub',), 'huggingface_hub:HfApi'),
    Package('matplotlib', ('matplotlib',), 'matplotlib.pyplot'),
    Package('jinja2', ('jinja2',), 'jinja2'),
    Package('tqdm', ('tqdm',), 'tqdm'),
    Package('mmdiff2in1', ('mmdiff2in1',), 'mmdiff2in1.components'),
)
# Pattern in an import error, what it means, what mends it.
KNOWN_ERRORS = (
    (r'lib(GL|EGL|glib|gthread|SM|Xext|Xrender)\b', 'opencv-python wants libGL and libglib of the system', TO_HEADLESS),
    (r'torchvision::nms', 'torchvision was built for another torch', f'{PIP} uninstall -y torchvision'),
    (r"named 'torchvision'", 'torchvision is not installed', f'{PIP} install -c requirements/lock.txt torchvision'),
    (r'is used but incompatible', 'a version gate of the original packages', TO_MAINTAINED),
    (r'mmcv\.(_ext|ops)', 'it wants the compiled ops of mmcv', TO_MAINTAINED),
    (r"named 'mmdiff2in1", 'this package is not the one in this folder', TO_EDITABLE),
)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``status`` is OK, WARN (runs, but untested), MISSING or BROKEN (cannot run)."""

    name: str
    found: str
    wanted: str = ''
    tested: str = ''
    status: str = 'OK'
    problem: str = ''
    cure: str = ''


@dataclass(frozen=True)
class Probes:
    """Questions to the machine; a test hands in answers of its own."""

    python: str
    platform: str
    version: Callable[[str], str | None]  # distribution name → installed version
    error: Callable[[str], str | None]  # 'module' or 'module:attribute' → what importing it raises
    cuda: Callable[[], str]
    weights: Callable[[], list[str]]  # names of the built-in weights


def check(probes: Probes, wanted: dict[str, str], tested: dict[str, str]) -> list[Row]:
    """One row per thing looked at. ``wanted``, ``tested``: distribution name → version specifier, ``>=2.6,<2.14``."""
    rows = [Row('python', probes.python, PYTHON_WANTED), Row('platform', probes.platform)]
    if out_of_range(probes.python, PYTHON_WANTED):
        rows[0] = replace(rows[0], status='BROKEN', problem='not supported', cure='make setup PYTHON=python3.11')
    rows += [_package_row(package, probes, wanted, tested) for package in PACKAGES]
    rows += [Row('CUDA', probes.cuda()), Row('weights', ', '.join(f'builtin:{name}' for name in probes.weights()))]
    if not rows[-1].found:
        rows[-1] = Row('weights', 'nothing', '', '', 'MISSING', 'the demo needs the built-in weights', TO_RESTORED)
    return rows


def _package_row(package: Package, probes: Probes, wanted: dict[str, str], tested: dict[str, str]) -> Row:
    name, default = package.name, package.distributions[0]
    spec, pinned = wanted.get(default, ''), tested.get(default, '').lstrip('=')
    special = {'mmdiff2in1': TO_EDITABLE, 'opencv': f'{PIP} install --no-deps opencv-python-headless'}
    install = special.get(name, f'{PIP} install "{default}{spec}"')
    present = {d: v for d in package.distributions if (v := probes.version(d)) is not None}
    found = ', '.join(f'{d} {v}' if package.distributions[1:] else v for d, v in present.items())

    def row(status: str = 'OK', problem: str = '', cure: str = '') -> Row:
        return Row(name, found or 'nothing', spec, pinned, status, problem, cure)

    if not present:
        return row(problem='optional') if package.optional else row('MISSING', 'it is not installed', install)
    if name != 'opencv' and len(present) > 1:
        cure = f'{PIP} uninstall -y {" ".join(present)} && {PIP} install --no-deps "{default}{spec}"'
        return row('BROKEN', 'these distributions share one folder and overwrite each other', cure)
    if 'mmsegmentation' in present and probes.version('mmcv-lite') is not None:
        return row('BROKEN', 'the original mmsegmentation cannot import its models with mmcv-lite', TO_MAINTAINED)
    side = out_of_range(present[default], spec) if default in present else None
    error = probes.error(package.probe)
    if error is not None:
        known = ((meaning, cure) for pattern, meaning, cure in KNOWN_ERRORS if re.search(pattern, error))
        meaning, cure = next(known, ('it cannot be imported', install if side else TO_LOCKED))
        # Only the configs that name mmpretrain need it, whereas transformers imports a torchvision that it finds.
        return row('WARN' if name == 'mmpretrain' else 'BROKEN', f'{meaning} ({error})', cure)
    if side == 'below':
        return row('BROKEN', 'too old', install)
    if side == 'above':
        return row('WARN', 'newer than any that was tested', install)
    if name in ('mmengine', 'mmcv', 'mmseg') and default not in present:
        return row('WARN', f'an original package; tested is its continuation {default}', TO_MAINTAINED)
    return row()


def out_of_range(version: str, spec: str) -> str | None:
    """'below' or 'above' if ``version`` is outside ``spec`` (clauses >=, >, <=, <, ==), else None."""
    number = _release(version)
    for operator, bound in re.findall(r'([<>=]+)\s*([\w.]+)', spec):
        limit = _release(bound)
        if number < limit and operator in ('>=', '>', '==') or number == limit and operator == '>':
            return 'below'
        if number > limit and operator in ('<=', '<', '==') or number == limit and operator == '<':
            return 'above'
    return None


def _release(version: str) -> tuple[int, ...]:
    """Numbers of the release, without suffixes and trailing zeros: 2.6.0+cpu and 2.6 are one release."""
    numbers = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, re.sub(r'(\.0)+$', '', numbers.group()).split('.'))) if numbers else ()


def read_requirements(lines: list[str]) -> dict[str, str]:
    """Distribution name → specifier, from the lines of a requirements file; without comments, markers and extras."""
    found = (re.match(r'([A-Za-z0-9._-]+)\s*([^;#]*)', line) for line in lines if 'extra ==' not in line)
    return {match.group(1).lower(): match.group(2).strip() for match in found if match}


def requirements(installed: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What is wanted and what was tested, see `check`; ``installed``: this package is, so that its metadata tell."""
    runtime, lock = ROOT / 'requirements/runtime.txt', ROOT / 'requirements/lock.txt'
    if runtime.is_file() and lock.is_file():
        wanted, tested = (read_requirements(path.read_text(encoding='utf-8').splitlines()) for path in (runtime, lock))
        return wanted, tested
    # Run from an installed package, which knows its ranges but not what they were tested with.
    return read_requirements(metadata.requires('mmdiff2in1') or [] if installed else []), {}


def machine_probes() -> Probes:
    def version(distribution: str) -> str | None:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None

    def error(target: str) -> str | None:
        module, _, attribute = target.partition(':')
        noise = io.StringIO()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
                warnings.simplefilter('ignore')
                loaded = importlib.import_module(module)
                if attribute:
                    getattr(loaded, attribute)
        except Exception as raised:  # whatever a broken package raises is the finding
            return f'{type(raised).__name__}: {" ".join(str(raised).split())}'
        return None

    def cuda() -> str:
        if error('torch') is not None:
            return 'unknown without torch'
        torch = importlib.import_module('torch')
        if not torch.cuda.is_available():
            return 'none, runs on the CPU'
        return f'{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}'

    def weights() -> list[str]:
        spec = importlib.util.find_spec('mmdiff2in1')
        package = Path(spec.origin).parent if spec and spec.origin else ROOT / 'mmdiff2in1'
        return sorted(path.parent.name for path in package.glob('generators/builtin/*/model_index.json'))

    return Probes(platform.python_version(), platform.platform(), version, error, cuda, weights)


def report(rows: list[Row]) -> str:
    """The table, then each problem with the command that mends it, then one closing sentence."""
    table = [('', 'found', 'wanted', 'tested with', 'status')]
    table += [(row.name, row.found, row.wanted, row.tested, row.status) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]  # noqa: B905  strict= is newer than some Python it must run on
    text = ['  '.join(cell.ljust(widths[i]) for i, cell in enumerate(line)).rstrip() for line in table]
    cures: dict[str, list[str]] = {}
    for row in rows:
        if row.cure:
            cures.setdefault(row.cure, []).append(f'{row.status} {row.name}: found {row.found}; {row.problem}.')
    for cure, problems in cures.items():
        text += ['', *problems, f'    {cure}']
    bad = sum(row.status in ('MISSING', 'BROKEN') for row in rows)
    closing = f'{bad} to mend before mmdiff2in1 can run. All at once, in a fresh environment: make setup'
    return '\n'.join([*text, '', closing if bad else 'This environment can run mmdiff2in1.'])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('--json', action='store_true', help='the rows as JSON, for a bug report or a script')


def run(args: argparse.Namespace, probes: Probes | None = None) -> int:
    """Looks, prints, and returns 1 if something has to be mended."""
    probes = probes or machine_probes()
    rows = check(probes, *requirements(probes.version('mmdiff2in1') is not None))
    ok = all(row.status in ('OK', 'WARN') for row in rows)
    print(json.dumps(dict(ok=ok, rows=[asdict(row) for row in rows]), indent=2) if args.json else report(rows))
    return 0 if ok else 1
