"""The environment check: faults are planted through its probes, and the printed cure is read."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mmdiff2in1.commands import doctor as check_env

ROOT = Path(__file__).resolve().parents[2]


def main(flags, probes):
    parser = argparse.ArgumentParser()
    check_env.add_arguments(parser)
    return check_env.run(parser.parse_args(flags), probes)


PIP = check_env.PIP
WANTED = {'torch': '>=2.6,<2.14', 'numpy': '>=2.1', 'onedl-mmcv': '>=2.3.6,<2.4'}
TESTED = {'torch': '==2.13.0'}
HEALTHY = {
    'torch': '2.13.0+cpu',
    'numpy': '2.4.6',
    'pillow': '13.0.0',
    'scipy': '1.17.1',
    'opencv-python-headless': '5.0.0.93',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmsegmentation': '1.4.2',
    'safetensors': '0.8.0',
    'tokenizers': '0.23.3',
    'transformers': '5.23.0',
    'diffusers': '0.42.1',
    'huggingface_hub': '2.4.0',
    'matplotlib': '3.11.2',
    'jinja2': '3.1.6',
    'tqdm': '4.70.1',
    'mmdiff2in1': '0.1.0',
}


def probes(installed=HEALTHY, errors=(), **other):
    """A machine with these distributions, on which importing a key of ``errors`` raises its value."""
    answers = check_env.Probes(
        python='3.11.9',
        platform='Linux',
        version=installed.get,
        error=dict(errors).get,
        cuda=lambda: 'none, runs on the CPU',
        weights=lambda: ['scenes'],
    )
    return replace(answers, **other)


def check(*args, **kwargs):
    return {row.name: row for row in check_env.check(probes(*args, **kwargs), WANTED, TESTED)}


def without(*names, **added):
    return {**{name: version for name, version in HEALTHY.items() if name not in names}, **added}


def test_healthy_machine_has_nothing_to_mend(capsys):
    rows = check()
    assert {row.status for row in rows.values()} == {'OK'}
    assert (rows['torch'].found, rows['torch'].wanted, rows['torch'].tested) == ('2.13.0+cpu', '>=2.6,<2.14', '2.13.0')
    assert rows['mmcv'].found == 'onedl-mmcv 2.3.6'
    assert rows['weights'].found == 'builtin:scenes'
    assert rows['torchvision'].found == 'nothing' and rows['torchvision'].cure == ''
    assert main([], probes()) == 0
    assert capsys.readouterr().out.endswith('\nThis environment can run mmdiff2in1.\n')


@pytest.mark.parametrize(
    ('version', 'status', 'problem'),
    [('2.5.1+cu121', 'BROKEN', 'too old'), ('2.6.0', 'OK', ''), ('2.14.0', 'WARN', 'newer than any that was tested')],
)
def test_torch_outside_the_range(version, status, problem):
    row = check(without('torch', torch=version))['torch']
    assert (row.status, row.problem) == (status, problem)
    assert row.cure == ('' if status == 'OK' else f'{PIP} install "torch>=2.6,<2.14"')


def test_missing_package_stops_the_run_and_names_the_range(capsys):
    installed = without('onedl-mmcv')
    row = check(installed)['mmcv']
    assert (row.status, row.found, row.cure) == ('MISSING', 'nothing', f'{PIP} install "onedl-mmcv>=2.3.6,<2.4"')
    assert main([], probes(installed)) == 1
    out = capsys.readouterr().out
    assert 'MISSING mmcv: found nothing; it is not installed.\n    ' + PIP in out
    assert out.rstrip().endswith('1 to mend before mmdiff2in1 can run. All at once, in a fresh environment: make setup')


def test_opencv_without_libgl_is_mended_by_the_headless_build(capsys):
    error = 'ImportError: libGL.so.1: cannot open shared object file: No such file or directory'
    installed = without('opencv-python-headless', **{'opencv-python': '5.0.0.93'})
    errors = {'cv2': error, 'mmcv.transforms': error, 'mmseg.models': error}
    rows = check(installed, errors)
    for name in ('opencv', 'mmcv', 'mmseg'):
        assert rows[name].status == 'BROKEN'
        assert error in rows[name].problem
        assert rows[name].cure.endswith(f'{PIP} install --no-deps opencv-python-headless')
    assert rows['diffusers'].status == 'OK'
    assert main([], probes(installed, errors)) == 1
    # Three symptoms of one fault: the cure is printed once, below all of them.
    assert capsys.readouterr().out.count('install --no-deps opencv-python-headless') == 1


def test_torchvision_built_for_another_torch():
    error = 'RuntimeError: operator torchvision::nms does not exist'
    errors = {'torchvision': error, 'transformers:CLIPTextModel': error}
    rows = check({**HEALTHY, 'torchvision': '0.20.0'}, errors)
    assert rows['torchvision'].status == rows['transformers'].status == 'BROKEN'
    assert rows['torchvision'].cure == rows['transformers'].cure == f'{PIP} uninstall -y torchvision'


def test_original_mmsegmentation_with_mmcv_lite():
    originals = {'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmsegmentation': '1.2.2'}
    rows = check({**without('onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation'), **originals})
    assert rows['mmseg'].status == 'BROKEN'
    assert 'cannot import its models with mmcv-lite' in rows['mmseg'].problem
    assert rows['mmseg'].cure == check_env.TO_MAINTAINED
    assert check_env.TO_MAINTAINED.startswith(f'{PIP} uninstall -y mmsegmentation mmcv mmcv-lite mmengine && ')


def test_working_originals_are_a_warning_only():
    originals = {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmsegmentation': '1.2.2'}
    installed = {**without('onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation'), **originals}
    rows = check(installed)
    assert [rows[name].status for name in ('mmengine', 'mmcv', 'mmseg')] == ['WARN'] * 3
    assert main([], probes(installed)) == 0


def test_version_gate_of_the_originals():
    error = 'AssertionError: MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4.'
    installed = {**without('onedl-mmcv', 'onedl-mmsegmentation'), 'mmcv': '2.2.0', 'mmsegmentation': '1.2.2'}
    row = check(installed, {'mmseg.models': error})['mmseg']
    assert (row.status, row.cure) == ('BROKEN', check_env.TO_MAINTAINED)
    assert 'version gate' in row.problem


def test_two_distributions_in_one_folder():
    row = check({**HEALTHY, 'mmcv': '2.1.0'})['mmcv']
    assert (row.status, row.found) == ('BROKEN', 'onedl-mmcv 2.3.6, mmcv 2.1.0')
    assert row.cure == f'{PIP} uninstall -y onedl-mmcv mmcv && {PIP} install --no-deps "onedl-mmcv>=2.3.6,<2.4"'


def test_mmpretrain_without_torchvision_is_a_warning():
    errors = {'mmpretrain.models': "ModuleNotFoundError: No module named 'torchvision'"}
    row = check({**HEALTHY, 'onedl-mmpretrain': '1.3.6'}, errors)['mmpretrain']
    assert (row.status, row.cure) == ('WARN', f'{PIP} install -c requirements/lock.txt torchvision')


def test_unknown_import_error_is_shown_and_the_locked_set_named():
    row = check(errors={'mmcv.transforms': "ModuleNotFoundError: No module named 'addict'"})['mmcv']
    assert row.status == 'BROKEN' and "No module named 'addict'" in row.problem
    assert row.cure == f'{PIP} install --no-deps -r requirements/lock.txt'


def test_too_old_and_not_importable_names_the_range():
    row = check(without('numpy', numpy='1.26.4'), {'numpy': 'ImportError: _ARRAY_API not found'})['numpy']
    assert row.cure == f'{PIP} install "numpy>=2.1"'


@pytest.mark.parametrize('version', ['3.10.13', '3.13.0'])
def test_python_outside_the_range(version):
    row = check(python=version)['python']
    assert (row.status, row.cure) == ('BROKEN', 'make setup PYTHON=python3.11')


def test_missing_weights_and_package():
    rows = check(without('mmdiff2in1'), weights=list)
    assert (rows['weights'].status, rows['weights'].cure) == (
        'MISSING',
        'git checkout -- mmdiff2in1/generators/builtin',
    )
    assert (rows['mmdiff2in1'].status, rows['mmdiff2in1'].cure) == ('MISSING', check_env.TO_EDITABLE)


def test_json_holds_the_rows(capsys):
    assert main(['--json'], probes(without('tqdm'))) == 1
    found = json.loads(capsys.readouterr().out)
    assert found['ok'] is False
    assert {row['name']: row['status'] for row in found['rows']}['tqdm'] == 'MISSING'


@pytest.mark.parametrize(
    ('version', 'spec', 'side'),
    [
        ('2.6', '>=2.6.0,<2.14', None),
        ('2.13.99', '>=2.6,<2.14', None),
        ('2.14.0.dev20261101', '>=2.6,<2.14', 'above'),
        ('2.0.0', '>2', 'below'),
        ('2.0.1', '>2', None),
        ('1.10', '>=1.9', None),
        ('1.4.3', '==1.4.2', 'above'),
        ('0.1', '', None),
    ],
)
def test_out_of_range(version, spec, side):
    assert check_env.out_of_range(version, spec) == side


def test_ranges_are_those_of_the_repository():
    pyproject = (ROOT / 'pyproject.toml').read_text()
    assert re.search('requires-python = "(.+)"', pyproject).group(1) == check_env.PYTHON_WANTED
    runtime = check_env.read_requirements((ROOT / 'requirements/runtime.txt').read_text().splitlines())
    lock = check_env.read_requirements((ROOT / 'requirements/lock.txt').read_text().splitlines())
    checked = {package.distributions[0] for package in check_env.PACKAGES}
    assert set(runtime) <= checked
    for name, spec in runtime.items():
        assert check_env.out_of_range(lock[name].removeprefix('=='), spec) is None, name


def test_read_requirements_leaves_out_comments_and_extras():
    lines = ['# a comment', 'torch>=2.6,<2.14  # why', 'Pillow >=11', 'ruff>=0.17; extra == "dev"', '']
    assert check_env.read_requirements(lines) == {'torch': '>=2.6,<2.14', 'pillow': '>=11'}


def test_probing_this_machine():
    real = check_env.machine_probes()
    assert real.version('pytest') == pytest.__version__
    assert real.version('no-such-distribution') is None
    assert real.error('json:dumps') is None
    assert real.error('json:no_such_name').startswith('AttributeError: ')
    assert real.error('no_such_module') == "ModuleNotFoundError: No module named 'no_such_module'"
