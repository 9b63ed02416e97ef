"""The house rules that no single file shows: who may import whom, one version, a wheel that is complete."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmdiff2in1

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mmdiff2in1'
# Ground floor first. Rooms of one floor do not know each other.
FLOORS = (
    ('core',),
    ('generators',),
    ('tasks',),
    ('evaluation', 'visualization'),
    ('captions',),
    ('synthesis',),
    ('datasets',),
    ('models',),
    ('engine',),
    ('pretraining', 'converters', 'checks'),
    ('inference',),
    ('labelling',),
    ('training',),
    ('reporting',),
    ('commands',),
    ('components',),
    ('__main__',),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Models of transformers that are no part of a diffusion model.
ADAPTERS = {('transformers', 'models/backbones/hf_backbone.py'), ('transformers', 'captions/captioner.py')}
# Import name → distribution of requirements/runtime.txt that brings it (cv2 comes with mmcv, yaml with mmengine).
BROUGHT_BY = {
    'PIL': 'pillow',
    'cv2': 'onedl-mmcv',
    'mmcv': 'onedl-mmcv',
    'mmengine': 'onedl-mmengine',
    'mmseg': 'onedl-mmsegmentation',
    'mmpretrain': 'onedl-mmpretrain',
    'yaml': 'onedl-mmengine',
    'markupsafe': 'jinja2',
    'onnx_ir': 'onnxscript',
}


def imported_names(source: str, path: str = '') -> set[str]:
    """Absolute dotted names that ``source`` imports anywhere: statements, ``importlib.import_module('name')``.

    ``path`` of the file relative to the package resolves relative imports.
    """
    names = set()
    package = [PACKAGE, *Path(path).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = '.'.join([*base, *([node.module] if node.module else [])])
            names.update(f'{prefix}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) == 'import_module':
            names.update(arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))
    return names


def violations(path: str, source: str) -> list[str]:
    """What a file of the package imports against the rules; ``path`` is relative to the package: ``models/x.py``."""
    room = Path(path).with_suffix('').parts[0]
    found = []
    for name in sorted(imported_names(source, path)):
        top, *rest = name.split('.')
        if top in ('diffusers', 'transformers') and room != 'generators' and (top, path) not in ADAPTERS:
            found.append(f'{path}: {name}: only generators/ may import {top}')
        elif name.startswith('mmcv.ops'):
            found.append(f'{path}: {name}: compiled ops are never used')
        elif top == 'mmseg' and room == 'generators':
            found.append(f'{path}: {name}: generators/ knows no mmseg')
        elif top == PACKAGE and rest and rest[0] in FLOOR_OF and rest[0] != room:
            own = 1 if room == '__init__' else FLOOR_OF[room]  # of the package itself: core alone is below it
            if FLOOR_OF[rest[0]] >= own:
                found.append(f'{path}: {name}: imports point down only, {room} is not above {rest[0]}')
    return found


def package_files() -> list[Path]:
    return sorted((ROOT / PACKAGE).rglob('*.py'))


@pytest.mark.parametrize(
    ('path', 'source', 'expected'),
    [
        ('models/x.py', 'from mmdiff2in1.tasks import DenseTask', None),
        ('tasks/x.py', 'from mmdiff2in1.models import Head', 'imports point down only, tasks is not above models'),
        ('tasks/x.py', 'from ..models.heads import Head', 'imports point down only, tasks is not above models'),
        ('tasks/x.py', 'from .. import models', 'imports point down only, tasks is not above models'),
        ('tasks/__init__.py', 'from .base import DenseTask', None),
        ('evaluation/x.py', 'import mmdiff2in1.visualization', 'evaluation is not above visualization'),
        ('models/x.py', 'def f():\n    from mmdiff2in1 import engine', 'models is not above engine'),
        ('__init__.py', 'from mmdiff2in1.generators import LatentDiffusion', '__init__ is not above generators'),
        ('__init__.py', 'from .core.imports import imported_quietly', None),
        ('components.py', 'from mmdiff2in1 import training, models', None),
        ('generators/x.py', 'from diffusers import AutoencoderKL', None),
        ('synthesis/x.py', 'import diffusers.schedulers as s', 'only generators/ may import diffusers'),
        ('training/x.py', "import importlib\nimportlib.import_module('transformers')", 'only generators/ may import'),
        ('models/x.py', 'from mmcv.ops import point_sample', 'compiled ops are never used'),
        ('models/x.py', 'from mmcv import ops', 'compiled ops are never used'),
        ('generators/x.py', 'from mmseg.registry import MODELS', 'generators/ knows no mmseg'),
    ],
)
def test_the_rules_see_what_breaks_them(path, source, expected):
    found = violations(path, source)
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


def test_imports_point_down():
    paths = {path.relative_to(ROOT / PACKAGE): path for path in package_files()}
    unknown = {path.parts[0].removesuffix('.py') for path in paths} - set(FLOOR_OF) - {'__init__'}
    assert not unknown, f'rooms without a floor: {unknown}'
    found = [text for path, file in paths.items() for text in violations(str(path), file.read_text())]
    assert found == []


def test_files_of_the_ground_floor_do_not_import_each_other_in_circles():
    """Nor under TYPE_CHECKING, nor inside functions: a circle is one file in disguise."""
    prefix = f'{PACKAGE}.generators.'
    files = {path.stem: path for path in (ROOT / PACKAGE / 'generators').glob('*.py') if path.stem != '__init__'}
    imports = {
        stem: {
            name.removeprefix(prefix).split('.')[0] for name in imported_names(path.read_text(), f'generators/{stem}')
        }
        & files.keys()
        for stem, path in files.items()
    }
    assert len(imports) > 20 and imports['loading'] >= {'latent_diffusion', 'interfaces'}
    while free := {stem for stem, needed in imports.items() if not needed & imports.keys()}:
        imports = {stem: needed for stem, needed in imports.items() if stem not in free}
    assert imports == {}, 'files in circles, or above one'


def test_the_picture_of_the_rooms_is_that_of_the_imports():
    page = (ROOT / 'docs/architecture.md').read_text()
    (chain,) = re.findall(r'^    doors --> (.*)$', page, re.M)
    drawn = [tuple(sorted(floor.split(' & '))) for floor in chain.split(' --> ')]
    assert drawn == [tuple(sorted(floor)) for floor in FLOORS[-3::-1]]
    # Every file and function that the walks name is there.
    walks = page[page.index('## Four walks') : page.index('## What a change touches')]
    for name in re.findall(r'`([a-z_/0-9]+\.py)`', walks):
        assert (ROOT / PACKAGE / name).is_file(), name
    source = '\n'.join(path.read_text() for path in package_files())
    for name in re.findall(r'`([A-Za-z_]+(?:\.[a-z_]+)?)`', walks):
        last = name.split('.')[-1]
        assert re.search(rf'\b(def|class) {last}\b|\b{last}\b *[:=]', source), name


def test_compiled_ops_are_not_used_at_the_doors_either():
    doors = [file for folder in ('tools', 'configs', 'projects') for file in (ROOT / folder).rglob('*.py')]
    assert [
        str(path) for path in doors if any(n.startswith('mmcv.ops') for n in imported_names(path.read_text()))
    ] == []


def test_every_import_is_a_declared_dependency():
    sources = {path.relative_to(ROOT / PACKAGE): path.read_text() for path in package_files()}
    imported = {name.split('.')[0] for path, text in sources.items() for name in imported_names(text, str(path))}
    outside = imported - set(sys.stdlib_module_names) - {PACKAGE}
    lists = [
        (ROOT / 'requirements' / name).read_text() for name in ('runtime.txt', 'mmpretrain.txt', 'onnx.txt', 'web.txt')
    ]
    declared = {match.lower() for text in lists for match in re.findall(r'^[A-Za-z0-9._-]+', text, re.M)}
    assert {BROUGHT_BY.get(name, name) for name in outside} <= declared


def test_one_version():
    heading = re.search(r'^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    cited = re.search(r'^version: (\S+)$', (ROOT / 'CITATION.cff').read_text(), re.M)
    assert heading.group(1) == cited.group(1) == mmdiff2in1.__version__


def test_the_lock_is_complete_and_exact():
    lines = [line for line in (ROOT / 'requirements/lock.txt').read_text().splitlines() if line[:1] not in ('#', '')]
    names = [line.split('==')[0].lower() for line in lines]
    assert all(re.fullmatch(r'[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*', line) for line in lines)
    assert len(set(names)) == len(names)
    assert 'opencv-python' not in names and 'opencv-python-headless' in names
    for file in ('runtime.txt', 'tests.txt'):
        needed = re.findall(r'^[A-Za-z0-9._-]+', (ROOT / 'requirements' / file).read_text(), re.M)
        assert {name.lower() for name in needed} <= set(names)


@pytest.fixture(scope='module')
def source_copy(tmp_path_factory) -> Path:
    """The files that are under version control or new, so that building leaves nothing in the working tree."""
    target = tmp_path_factory.mktemp('source') / 'tree'
    left_out = shutil.ignore_patterns('.*', 'data', 'work_dirs', 'build', 'dist', '*.egg-info', '__pycache__')
    shutil.copytree(ROOT, target, ignore=lambda at, names: left_out(at, names) if Path(at) == ROOT else {'__pycache__'})
    return target


@pytest.mark.slow
def test_wheel_is_complete_and_imports_from_another_folder(source_copy, tmp_path):
    pytest.importorskip('setuptools')
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    # What an earlier build left behind must not end up in the wheel.
    stale = source_copy / 'build/lib' / PACKAGE / 'removed_room.py'
    stale.parent.mkdir(parents=True)
    stale.write_text('')
    before = {path.relative_to(source_copy) for path in (source_copy / PACKAGE).rglob('*')}
    subprocess.run(
        [*pip, 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', tmp_path, source_copy],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert {path.relative_to(source_copy) for path in (source_copy / PACKAGE).rglob('*')} == before
    (wheel,) = tmp_path.glob('mmdiff2in1-*.whl')
    assert wheel.name.startswith(f'mmdiff2in1-{mmdiff2in1.__version__}-py3-none-any')

    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f'{PACKAGE}/')}
    expected = {
        path.relative_to(source_copy).as_posix() for path in (source_copy / PACKAGE).rglob('*') if path.is_file()
    }
    for door in ('configs', 'tools'):
        files = (path for path in (source_copy / door).rglob('*') if path.is_file())
        expected |= {f'{PACKAGE}/.mim/{path.relative_to(source_copy).as_posix()}' for path in files}
    assert f'{PACKAGE}/.mim/tools/check_env.py' in expected
    assert inside == expected

    site = tmp_path / 'site'
    subprocess.run([*pip, 'install', '--no-deps', '--target', site, wheel], check=True, stdin=subprocess.DEVNULL)
    script = 'import mmdiff2in1.components, mmdiff2in1; print(mmdiff2in1.__file__, mmdiff2in1.__version__)'
    environment = {**os.environ, 'PYTHONPATH': str(site)}
    out = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert out.splitlines()[-1] == f'{site / PACKAGE / "__init__.py"} {mmdiff2in1.__version__}'
