"""Every door, opened by a Python that lacks the packages or is too old, says so in one line."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mmdiff2in1.commands import wrong_python
from mmdiff2in1.commands.errors import told

ROOT = Path(__file__).resolve().parents[2]
CONVERTERS = sorted(file.stem for file in ROOT.glob('tools/model_converters/*.py'))
# What each door is given, so that its arguments are in order. {here}: a folder with a file `a`.
DOORS = {
    'benchmark.py': '--preset tiny --dry-run',
    'caption.py': 'vpd_scenes --by classes',
    'check_dataset.py': 'vpd_scenes',
    'class_embeddings.py': '--classes a,b --diffusion builtin:scenes --out {here}/b.safetensors',
    'denoise.py': 'unet_scenes',
    'distil.py': 'vpd_scenes --teacher builtin:unet_scenes --unlabelled {here}',
    'free_mask.py': 'vpd_scenes {here}/a --store {here}',
    'generate.py': 'vpd_scenes {here}/a --prompt room',
    'multitask_memory.py': '',
    'pretrain_diffusion.py': 'vpd_scenes --out {here}/b',
    'synthesize.py': 'vpd_scenes --dry-run',
    'test.py': 'vpd_scenes {here}/a',
    'train.py': 'vpd_scenes',
    'dataset_converters/framenet_splits.py': '{here}/a',
    'dataset_converters/make_scenes.py': '--out {here}/b',
    'dataset_converters/make_splits.py': '{here} --count 1',
    'dataset_converters/nyuv2.py': '{here}/a {here}/a --out {here}/b',
    **{f'model_converters/{name}.py': '{here}/a --out {here}/b' for name in CONVERTERS},
}
NEED_NOTHING = {'check_env.py', 'docs_site.py'}


def test_every_door_is_tried():
    tools = ROOT / 'tools'
    files = {str(file.relative_to(tools)) for file in [*tools.glob('*.py'), *tools.glob('*_converters/*.py')]}
    assert files - NEED_NOTHING == set(DOORS)


@pytest.mark.parametrize('door', DOORS)
def test_a_python_without_the_packages_is_told(door, tmp_path):
    (tmp_path / 'a').touch()
    # -S: without the packages of the environment; -E: without PYTHONPATH.
    asked = [sys.executable, '-S', '-E', ROOT / 'tools' / door, *DOORS[door].format(here=tmp_path).split()]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, ''), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tools/{door}: No module named '") and f"' in {sys.executable}: " in line
    assert line.endswith(f' -m pip install -e {ROOT}') and 'activate' in line
    assert [file.name for file in tmp_path.iterdir()] == ['a']


def missing(module):
    with pytest.raises(SystemExit) as caught, told('mmdiff2in1 train'):
        raise ModuleNotFoundError(f'No module named {module!r}', name=module)
    return caught.value.code


def test_what_is_said(tmp_path, monkeypatch):
    found = f"mmdiff2in1 train: No module named 'cv2' in {sys.executable}: "
    install = f'{wrong_python.PIP} install -e {ROOT}'
    monkeypatch.setattr(wrong_python, 'ENVIRONMENT', Path(sys.prefix))
    assert missing('cv2') == found + install
    monkeypatch.setattr(wrong_python, 'ENVIRONMENT', tmp_path)
    made = 'activate the environment that mmdiff2in1 is set up in (make setup makes one)'
    assert missing('cv2') == f'{found}{made}, or set this one up: {install}'
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/activate').touch()
    monkeypatch.chdir(tmp_path)
    assert missing('cv2') == f'{found}source bin/activate, or set this one up: {install}'


def test_an_installed_package_names_the_distribution(tmp_path, monkeypatch):
    monkeypatch.setattr(wrong_python, 'ROOT', tmp_path)
    monkeypatch.setattr(wrong_python, 'requirements', lambda installed: ({'onedl-mmengine': '>=0.10.12'}, {}))
    said = f'{wrong_python.PIP} install "onedl-mmengine>=0.10.12"; {sys.executable} -m mmdiff2in1 doctor says'
    assert said in missing('mmengine')


def test_other_modules_are_no_matter_of_the_environment():
    for module in ('my_hooks', 'mmdiff2in1.gone', 'mmcv._ext'):
        assert missing(module) == f'mmdiff2in1 train: No module named {module!r}'


@pytest.mark.parametrize(
    ('version', 'old'), [('3.8.18', True), ('3.10.13', True), ('3.11.0', False), ('3.12.1', False), ('3.13.0', False)]
)
def test_an_old_python(version, old):
    said = wrong_python.too_old(version)
    assert said.startswith(f'{sys.executable} is Python {version}, expected >=3.11,<3.13: ') if old else said == ''


def test_an_old_python_gets_as_far_as_being_told():
    """What is imported before: in the syntax of Python 3.8, with annotations that nobody evaluates."""
    script = "import sys, mmdiff2in1.__main__; print(*(m.__file__ for n, m in sys.modules.items() if 'mmdiff' in n))"
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(file) for file in done.stdout.split()]
    assert len(files) > 8
    for file in files:
        tree = ast.parse(file.read_text(encoding='utf-8'), feature_version=(3, 8))
        typed = any(isinstance(each, ast.FunctionDef) for each in ast.walk(tree))
        later = [each.module for each in tree.body if isinstance(each, ast.ImportFrom)][:1] == ['__future__']
        assert later or not typed, file
