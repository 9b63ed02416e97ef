"""The command line: help without torch, names of configs, errors in one line, init, compare."""

import argparse
import itertools
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from PIL import Image

from mmdiff2in1.__main__ import COMMANDS, main
from mmdiff2in1.commands.config_arguments import KeyValue, load_config
from mmdiff2in1.commands.errors import told
from mmdiff2in1.commands.scores import metric_table, score_table
from mmdiff2in1.commands.train import next_steps
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.config_options import option_value
from mmdiff2in1.core.config_places import built_in_configs, find_config
from mmdiff2in1.core.images import from_model
from mmdiff2in1.core.names import did_you_mean, near, unknown_names
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.training.comparison import CONTROL, OURS, Comparison, verdict
from mmdiff2in1.training.control import equal_control
from mmdiff2in1.training.first_config import created_size, palette
from mmdiff2in1.training.own_data import study

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {'torch', 'mmengine', 'numpy', 'mmseg', 'diffusers', 'transformers', 'cv2'}


def test_help_of_every_command_without_anything_heavy():
    script = f"""
import contextlib, io, sys
from mmdiff2in1.__main__ import COMMANDS, main
for command in [[], *([each] for each in COMMANDS)]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, '--help'])
    assert 'mmdiff2in1' in out.getvalue() and len(out.getvalue()) > 300, (command, out.getvalue())
    with contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        main([*command, '--no-such-flag'])
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_every_command_says_its_flags_alike():
    """One meaning per name over all commands."""
    import importlib

    meanings: dict[str, set] = {}
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f'mmdiff2in1.commands.{name.replace("-", "_")}').add_arguments(parser)
        for action in parser._actions:
            for flag in action.option_strings:
                meanings.setdefault(flag, set()).add((name, action.help))
    of_models = {text for _, text in meanings['--model']}
    assert all('θ_C' in text or 'SegFormer' in text for text in of_models)
    assert {name for name, _ in meanings['--resume']} >= {'train', 'distil', 'pretrain'}


def test_configs_by_name():
    for name in ('vpd_scenes', 'vpd_scenes.py', 'diff2in1/vpd_scenes', 'configs/diff2in1/vpd_scenes.py'):
        assert find_config(name).resolve() == ROOT / 'configs/diff2in1/vpd_scenes.py'
    assert find_config('unet_scenes').resolve() == ROOT / 'configs/baselines/unet_scenes.py'
    assert len(built_in_configs()) == len(list(ROOT.glob('configs/[bd]*/*.py')))


@pytest.mark.parametrize(
    ('place', 'looked', 'end'),
    [
        ('vpd_scene', 'looked in {here}', 'did you mean vpd_scenes or '),
        ('mine', 'looked in {here}', 'did you mean mine2.py?'),
        ('confgs/diff2in1/vpd_scenes.py', 'there is no folder confgs/diff2in1', 'did you mean diff2in1/vpd_scenes'),
        (
            'quite/another.py',
            'there is no folder quite',
            'built in are unet_scenes, vpd_scenes, vpd_ade20k and ',
        ),
    ],
)
def test_a_config_that_is_not_there(place, looked, end, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine2.py').touch()
    with pytest.raises(FileNotFoundError) as caught:
        find_config(place)
    said, _, meant = str(caught.value).rpartition('; ')
    begin = f'{place}: no such config file ({looked.format(here=tmp_path)}), and none of that name among the '
    assert said.startswith(f'{begin}{len(built_in_configs())} built-in configs (diff2in1/ and baselines/ in ')
    assert meant.startswith(end)


@pytest.mark.parametrize(
    ('arguments', 'end'),
    [
        (['trian'], "there is no command 'trian'; did you mean train?"),
        (['xyz'], "there is no command 'xyz'; demo, doctor, init, "),
        (['class_embeddings'], 'did you mean class-embeddings?'),
        (['train', 'unet_scenes', '--self-improvng', 'paste'], '--self-improvng paste; did you mean --self-improving?'),
        (['train', 'unet_scenes', '--zzzz=3'], 'unrecognized arguments: --zzzz=3; see mmdiff2in1 train --help\n'),
    ],
)
def test_misspelt_commands_and_flags(arguments, end, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    said = capsys.readouterr().err
    assert raised.value.code == 2 and end in said and said.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--metric', 'mIuO'], "--metric: no metric of the config gives 'mIuO'; did you mean mIoU?; there are aAcc, "),
        (
            ['--cfg-options', 'optm_wrap.x=3'],
            "the config has no 'optm_wrap', and nothing reads it; did you mean opt",
        ),
    ],
)
def test_a_comparison_is_refused_before_anything_is_trained(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for how in ([], ['--dry-run']):
        with pytest.raises(SystemExit) as raised:
            main(['compare', 'unet_scenes-paste', '--seeds', '1', *how, *arguments])
        assert message in str(raised.value.code)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_comparison_finds_what_would_end_the_trainings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_scenes(tmp_path / 'data' / 'scenes', dict(train=6, val=2, test=2), size=64, workers=1, progress=False)
    few = ['train_dataloader.dataset.dataset.num_labelled=6', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=2']
    with pytest.raises(SystemExit) as raised:
        main(['compare', 'unet_scenes-paste', '--seeds', '1', '--dry-run', '--cfg-options', *few])
    assert '2 iterations of 4 samples make no update of 40 samples' in str(raised.value.code)
    main(['compare', 'unet_scenes-paste', '--seeds', '1', '--dry-run', '--cfg-options', few[0]])
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_a_config_that_is_not_there_is_told_before_anything_heavy_is_imported(tmp_path):
    script = f"""
import sys
from mmdiff2in1.__main__ import main
try:
    main(['train', 'unet_scene'])
except SystemExit as end:
    print(sorted({HEAVY!r} & set(sys.modules)), end.code)
"""
    found = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert found.stdout.startswith('[] ') and 'did you mean unet_scenes' in found.stdout


def test_a_file_in_tools_is_a_command(tmp_path):
    command = [sys.executable, ROOT / 'tools' / 'train.py', 'unet_scene']
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 1 and ended.stderr.startswith('tools/train.py: ')


def test_what_comes_after_a_training_can_be_run_as_it_is_printed():
    lines = next_steps('my config.py', {'a.b': '[1, 2]'}, 'work/iter_9.pth')
    assert lines[1:] == [
        "  mmdiff2in1 test 'my config.py' work/iter_9.pth --show-dir PICTURES --cfg-options 'a.b=[1, 2]'",
        "  mmdiff2in1 export work/iter_9.pth --config 'my config.py' --folder FOLDER --cfg-options 'a.b=[1, 2]'",
    ]
    assert next_steps('c.py', {}, 'x.pth')[1] == '  mmdiff2in1 test c.py x.pth --show-dir PICTURES'


def test_no_two_colours_of_a_palette_are_alike():
    for count, least in ((2, 200), (11, 90), (20, 70), (60, 35), (255, 5)):
        colours = palette(count)
        apart = [math.dist(one, other) for one, other in itertools.combinations(colours, 2)]
        assert len(colours) == count and min(apart) > least
    assert palette(20)[:11] == palette(11)


def test_near_names():
    known = ('batch_size', 'class-embeddings', 'mIoU')
    assert [near(name, known) for name in ('batchsize', 'class_embeddings', 'miou', 'x')] == [
        ['batch_size'], ['class-embeddings'], ['mIoU'], []
    ]  # fmt: skip
    assert near('abcd', ('abce', 'bbcd', 'zzzz'), 2) == ['bbcd', 'abce'] and did_you_mean('x', known) == ''
    assert did_you_mean('abcd', ('abce', 'zzzz'), 2) == '; did you mean abce?'
    assert unknown_names(['abcd'], ('abce', 'zzzz')) == 'abcd (did you mean abce?)'
    assert unknown_names(['abcd', 'q'], ('abce', 'zzzz')) == 'abcd (did you mean abce?), q; known: abce, zzzz'


def test_base_configs_of_packages(tmp_path):
    """Also of mmseg where it is installed as onedl-mmsegmentation."""
    (tmp_path / 'a.py').write_text("_base_ = ['mmdiff2in1::_base_/default_runtime.py']")
    assert read_config(tmp_path / 'a.py').default_hooks.checkpoint.type == 'AtomicCheckpointHook'
    (tmp_path / 'b.py').write_text("_base_ = ['mmseg::_base_/models/segformer_mit-b0.py']")
    assert read_config(tmp_path / 'b.py').model.backbone.type == 'MixVisionTransformer'


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-3', 0.001), ('true', True), ('None', None), ('a b', 'a b'), ("'x y'", 'x y'), ('200,400', [200, 400]),
        ('[a,b]', ['a', 'b']), ('(1,2)', (1, 2)), ('a,b', ['a', 'b']), ('a red room, with', 'a red room, with'),
    ],
)  # fmt: skip
def test_what_an_option_means(text, value):
    assert option_value(text) == value


def test_options_need_a_key(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--o', nargs='+', action=KeyValue, default={})
    assert parser.parse_args(['--o', 'a.b=c=d', '--o', 'e=']).o == {'a.b': 'c=d', 'e': ''}
    with pytest.raises(SystemExit):
        parser.parse_args(['--o', 'abc'])
    assert 'expected KEY=VALUE; for instance' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(['--o', 'size=[96,', '160]'])
    assert (
        '160]: expected KEY=VALUE; a list has no blanks, or stands in quotes: "…=[96, 160]"' in capsys.readouterr().err
    )


def test_modules_that_an_option_names_are_imported(tmp_path, monkeypatch):
    """As those of a file are; mmengine imports the latter alone."""
    (tmp_path / 'hooks_of_mine.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)

    def imported(*modules):
        options = {'custom_imports.imports': f'[{",".join(modules)}]'}
        return load_config(argparse.Namespace(config='unet_scenes', cfg_options=options)).custom_imports.imports

    assert imported('hooks_of_mine') == ['hooks_of_mine'] and 'hooks_of_mine' in sys.modules
    with pytest.raises(ValueError) as caught:
        imported('hooks_of_mine', 'nothing.here')
    assert str(caught.value).endswith("custom_imports: Failed to import nothing.here: No module named 'nothing'")


def test_errors_in_one_line():
    with pytest.raises(SystemExit, match='^x train: b is wrong$'), told('x train', debug=False):
        raise ValueError('b is wrong')
    with pytest.raises(ValueError, match='b is wrong'), told('x train', debug=True):
        raise ValueError('b is wrong')
    with pytest.raises(RuntimeError), told('x train', debug=False):  # not raised by this package: a fault
        raise RuntimeError('CUDA error')
    with pytest.raises(SystemExit, match='^x train: the diffusion model created NaN'), told('x train', debug=False):
        from_model(torch.full((1, 3, 2, 2), math.nan))
    with pytest.raises(SystemExit, match='FileNotFoundError without a message'), told('x', debug=False):
        raise FileNotFoundError
    with pytest.raises(SystemExit) as caught, told('x', debug=False):
        raise KeyboardInterrupt
    assert caught.value.code == 130


def test_an_unfinished_training_asks(tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'last_checkpoint').write_text('iter_5.pth')
    with pytest.raises(SystemExit, match=r'holds iter_5\.pth .*--resume goes on from there, --restart begins it anew'):
        main(['train', 'unet_scenes', '--work-dir', str(tmp_path / 'work')])


def test_the_config_of_a_recipe_is_written_by_the_chain_alone(tmp_path, monkeypatch, capsys):
    """When all is checked; a command that is refused leaves that of an earlier run as it is."""
    asked, whole = ['train', 'unet_scenes', '--self-improving', 'paste', '--no-report'], tmp_path / 'work/work.py'
    asked += ['--work-dir', str(whole.parent)]
    done = dict(self_improving=dict(checkpoint='x.pth', metrics={}, iters=1, seconds=1.0))
    with monkeypatch.context() as patch:
        patch.setattr('mmdiff2in1.training.chain.train', lambda *_: done)
        main(asked)
    assert list(tmp_path.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'added to the plain config:' and lines[1].startswith('  model: EncoderDecoder twice')
    at = lines.index(f'the whole config, for the other commands: {whole}')
    assert lines[at + 2] == f'  mmdiff2in1 test {whole} x.pth --show-dir PICTURES'

    (whole.parent / 'self_improving').mkdir(parents=True)
    (whole.parent / 'self_improving/last_checkpoint').write_text('iter_5.pth')
    whole.write_text('a = 1')
    with pytest.raises(SystemExit, match=r'holds iter_5\.pth'):
        main(asked)
    with pytest.raises(SystemExit, match='num_labelled=0: expected 1 to|found nothing there'):
        main([*asked, '--restart', '--cfg-options', 'train_dataloader.dataset.num_labelled=0'])
    assert whole.read_text() == 'a = 1'


@pytest.mark.parametrize(('flag', 'resume'), [('--restart', False), ('--resume', True)])
def test_restart_wins_over_the_config(flag, resume, tmp_path, monkeypatch):
    seen = []
    done = dict(self_improving=dict(checkpoint='x.pth', metrics={}, iters=1, seconds=1.0))

    def ended(cfg, _, again):
        seen.append((cfg, again))
        return done

    for name in ('train', 'train_plain'):
        monkeypatch.setattr(
            f'mmdiff2in1.training.chain.{name}', lambda cfg, _, again: seen.append((cfg, again)) or done
        )
    own = ['--work-dir', str(tmp_path), flag, '--no-report', '--cfg-options', 'resume=True']
    main(['train', 'unet_scenes', *own])
    main(['train', 'vpd_scenes', *own, 'stages.warmup.resume=True'])
    assert [(cfg.resume, again) for cfg, again in seen] == [(resume, resume)] * 2
    assert seen[1][0].stages.warmup.resume is resume


def test_score_table():
    stage = dict(checkpoint='a.pth', iters=8, seconds=2.0)
    lines = score_table(dict(self_improving=stage, test={'mIoU': 50.0, 'exploiter/mIoU': 40.0, 'aAcc': 9.0}))
    assert lines[0] == 'self-improving: 8 steps in 2 s, a.pth'
    assert lines[3].split() == ['mIoU', '50', '40'] and lines[4].split() == ['aAcc', '9', '–']
    assert metric_table({'exploiter/mIoU': 40.0}, ['θ_E'])[1].split() == ['mIoU', '40']


def test_trackers(monkeypatch):
    from mmdiff2in1.commands import trackers

    cfg = read_config('unet_scenes')
    monkeypatch.setattr(trackers.importlib.util, 'find_spec', lambda name: None if name == 'wandb' else name)
    trackers.use_trackers(cfg, argparse.Namespace(tensorboard=True, wandb=False))
    assert [each.type for each in cfg.visualizer.vis_backends] == ['LocalVisBackend', 'TensorboardVisBackend']
    trackers.check_trackers(argparse.Namespace(tensorboard=True, wandb=False))
    with pytest.raises(ImportError, match=r'--wandb needs the package wandb.*pip install "mmdiff2in1\[wandb\]"'):
        trackers.check_trackers(argparse.Namespace(tensorboard=False, wandb=True))


# --- init -------------------------------------------------------------------------------------------------------------


def pairs(folder, count=10, size=(48, 64), values=(0, 1, 255)):
    for name in ('photos', 'masks'):
        (folder / name).mkdir()
    for index in range(count):
        rng = np.random.default_rng(index)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / 'photos' / f'{index}.jpg')
        Image.fromarray(rng.choice(np.array(values, np.uint8), size)).save(folder / 'masks' / f'{index}.png')
    return folder / 'photos', folder / 'masks'


def test_study(tmp_path):
    found = study(*pairs(tmp_path), ['floor', 'ball'])
    assert (len(found.train), len(found.val), found.size, found.crop()) == (8, 2, (48, 64), (32, 64))
    assert set(found.train).isdisjoint(found.val) and set(found.values) == {0, 1, 255}
    assert found.image_suffix == '.jpg' and found.mask_suffix == '.png' and not found.zero_is_ignored
    assert study(tmp_path / 'photos', tmp_path / 'masks', ['ball'], zero_is_ignored=True).zero_is_ignored
    with pytest.raises(ValueError, match='and 1 names; .*Name all 2 classes .*--zero-ignored if 0 is no class'):
        study(tmp_path / 'photos', tmp_path / 'masks', ['ball'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: [f.unlink() for f in (d / 'masks').iterdir()], 'found no image files; expected masks of one kind'),
        (lambda d: (d / 'photos/0.jpg').rename(d / 'photos/0.png'), 'found 9 .jpg, 1 .png; expected images of one'),
        (lambda d: [f.rename(f.with_stem(f'm{f.stem}')) for f in (d / 'masks').iterdir()], 'no name in common'),
        (lambda d: Image.new('L', (64, 48), 7).save(d / 'masks/3.png'), r'1, 7, 255, and 2 names.* 7 in 1 of 10 masks'
         r', as .*/3\.png\. Name all 8 classes in the order of their numbers, or map 7 to 255$'),
        (lambda d: Image.new('L', (64, 48)).save(d / 'masks/0.png', 'JPEG'), r'0\.png: is JPEG.*as PNG .*wrong way'),
        (lambda d: Image.new('RGB', (64, 48)).save(d / 'masks/0.png'), 'expected one channel of class numbers'),
    ],
)  # fmt: skip
def test_data_that_cannot_be_taken(tmp_path, change, message):
    photos, masks = pairs(tmp_path)
    change(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        study(photos, masks, ['floor', 'ball'])


def test_class_names(tmp_path, monkeypatch):
    from mmdiff2in1.commands.init import _class_names

    assert _class_names('sky, night road ,car,') == ['sky', 'night road', 'car']
    (tmp_path / 'names.txt').write_text('sky\n\n road\n')
    monkeypatch.chdir(tmp_path)
    assert _class_names('names.txt') == ['sky', 'road']
    with pytest.raises(FileNotFoundError, match='name.txt: no such file, expected one with the name of a class'):
        _class_names('name.txt')
    with pytest.raises(ValueError, match='class 1 has no name'):
        _class_names('sky, ,road')
    with pytest.raises(ValueError, match='sky more than once'):
        _class_names('sky,road,sky')


def test_init_says_what_was_there(tmp_path, capsys):
    from mmdiff2in1.commands.init import _write

    for said in ('written', 'there already, the same'):
        _write({tmp_path / 'mine.py': 'a = 1'})
        assert capsys.readouterr().out == f'{said}: {tmp_path / "mine.py"}\n'


def test_init_prints_commands_that_can_be_pasted(tmp_path, monkeypatch, capsys):
    photos, masks = pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    main(['init', '--images', str(photos), '--masks', str(masks), '--classes', 'floor,ball', '--name', 'my rooms'])
    lines = [line.strip().partition('#')[0].strip() for line in capsys.readouterr().out.splitlines()]
    commands = [shlex.split(line)[1:3] for line in lines if line.startswith('mmdiff2in1 ')]
    assert commands == [['check', 'my rooms.py'], ['train', 'my rooms-paste.py'], ['compare', 'my rooms-paste.py']]


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        (['--from', 'vpd_scenes'], r'--from .*vpd_scenes\.py: the base is self-improving already'),
        (['--from', 'unet_scenes', '--generator', 'nowhere'], 'nowhere: found nothing, expected a diffusers folder'),
        (
            ['--from', 'unet_scenes', '--generator', 'builtin:scene'],
            "weights named 'scene'; did you mean scenes",
        ),
    ],
)
def test_init_writes_nothing_that_could_not_be_trained(asked, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'^mmdiff2in1 init: .*{message}'):
        main(['init', *asked])
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_told_without_the_imports(tmp_path):
    """In a process of its own, which imports nothing heavy."""
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'run.pth').touch()
    cases = {
        'init --images masks --masks mask --classes a,b': 'mask: no such folder of masks; did you mean masks?',
        'train unet_scenes --work-dir run.pth': '--work-dir run.pth: run.pth is a file; expected a folder',
        'compare unet_scenes-paste --work-dir run.pth/a': '--work-dir run.pth/a: run.pth is a file; expected a folder',
        'init --from unet_scenes --checkpoint rum.pth': 'rum.pth: no such checkpoint; did you mean run.pth?',
        'test unet_scenes rum.pth': 'rum.pth: no such checkpoint; did you mean run.pth?',
        'export none/run.pth --out x.pth': 'none/run.pth: no such checkpoint',
        'report run.pth': 'run.pth: no such folder; expected the work dir of a training\n',
        'report mask': 'mask: no such folder; expected the work dir of a training; did you mean masks?\n',
        'distil unet_scenes --teacher unet_scene run.pth --unlabelled masks': 'did you mean unet_scenes',
    }
    script = """
import sys
from mmdiff2in1.__main__ import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as end:
        print(end.code if isinstance(end.code, str) else '', file=sys.stderr)
print(sorted({'torch', 'mmengine', 'numpy', 'mmseg'} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, '-c', script, *cases], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == '[]\n'
    said = [line for line in done.stderr.splitlines(keepends=True) if line.startswith('mmdiff2in1 ')]
    assert len(said) == len(cases)
    for line, expected in zip(said, cases.values(), strict=True):
        assert expected in line


def test_another_python_is_told(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'mmseg'", name='mmseg')

    monkeypatch.setattr('mmdiff2in1.__main__.imported_quietly', missing)
    with pytest.raises(SystemExit, match=rf"^mmdiff2in1 train: No module named 'mmseg' in {sys.executable}: .*install"):
        main(['train', 'unet_scenes'])


def test_bars_in_a_file_move_seldom(tmp_path):
    """In a process of its own, which has not read what tqdm reads once; all that is imported else has no say in it."""
    script = """
import mmdiff2in1.__main__ as command
command.imported_quietly = lambda name: None
command.import_quietly()
from tqdm import tqdm
print(tqdm([1], disable=False).mininterval)
"""
    done = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == '10.0\n'


def test_blank_in_a_list(capsys):
    with pytest.raises(SystemExit):
        main(['init', '--images', 'a', '--masks', 'b', '--classes', 'sky,', 'road'])
    assert 'road; a list has no blanks, or stands in quotes: "sky, road"' in capsys.readouterr().err


def test_init_train_and_compare(tmp_path, capsys, monkeypatch):
    """From a folder of pairs to a verdict."""
    photos, masks = pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    begin = ['init', '--images', str(photos), '--masks', str(masks), '--classes', 'floor,ball', '--name', 'mine']
    main([*begin, '--steps', '10'])
    out = capsys.readouterr().out
    assert '10 pairs, 64 × 48 pixels (median), of which 2 are held out' in out
    assert 'mmdiff2in1 train mine-paste.py' in out and '255 (ignored)' in out
    assert len((tmp_path / 'mine-train.txt').read_text().split()) == 8
    with pytest.raises(SystemExit, match='mine.py: there already, with other contents'):
        main([*begin, '--steps', '20'])
    loaders = {f'{part}_dataloader': dict(num_workers=0) for part in ('train', 'val', 'test')}
    small = [f'{name}.{key}={value}' for name, loader in loaders.items() for key, value in loader.items()]
    small += ['train_dataloader.batch_size=2', 'stages.synthesis.samples_per_image=1']
    small = ['--cfg-options', *small]
    drawn = []
    monkeypatch.setattr('mmdiff2in1.training.comparison.draw_curves', lambda *places: drawn.append(places))
    result = main(['compare', 'mine-paste.py', '--seeds', '2', *small])
    seeds = [Path('work_dirs/mine-paste-compare', f'seed{seed}') for seed in (0, 1)]
    assert drawn == [(seed / 'diff2in1', seed / 'control') for seed in seeds]
    out = capsys.readouterr().out
    assert result['metric'] == 'mIoU' and result['verdict'] in out
    report = 'work_dirs/mine-paste-compare/seed0/diff2in1/report.html'
    assert out.splitlines()[-1] == f'look at {report}' and ', control ' in Path(report).read_text()
    assert {arm: sorted(by_seed) for arm, by_seed in result['scores'].items()} == dict.fromkeys(
        result['scores'], [0, 1]
    )
    assert json.loads((tmp_path / 'work_dirs/mine-paste-compare/comparison.json').read_text())['metric'] == 'mIoU'
    again = main(['compare', 'mine-paste.py', '--seeds', '2', *small])
    assert again == result


@METRICS.register_module(force=True)
class Unforeseen(BaseMetric):
    """One of a user's own: nothing but a test tells what it gives."""

    default_prefix = 'own'

    def process(self, data_batch, data_samples):
        self.results += [float(each['pred_sem_seg']['data'].float().mean()) for each in data_samples]

    def compute_metrics(self, results):
        return dict(level=sum(results) / len(results), images=len(results))


def test_a_metric_that_no_config_tells_is_known_before_the_training(tmp_path, monkeypatch):
    photos, masks = pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    begin = ['init', '--images', str(photos), '--masks', str(masks), '--classes', 'floor,ball', '--name', 'mine']
    main([*begin, '--steps', '10'])
    with (tmp_path / 'mine.py').open('a') as base:
        base.write("test_evaluator = dict(type='Unforeseen')\n")
    small = [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    small += ['train_dataloader.batch_size=2', 'stages.synthesis.samples_per_image=1']
    compared = ['compare', 'mine-paste.py', '--seeds', '1', '--cfg-options', *small]
    found = 'found own/level, own/images, exploiter/own/level, exploiter/own/images: name one of them with --metric$'
    for asked, begin in ([], 'the test gives no mIoU or '), (['--metric', 'own/levl'], 'the test gives no own/levl; '):
        for how in [], ['--dry-run']:
            with pytest.raises(SystemExit, match=f'^mmdiff2in1 compare: {begin}.*{found}'):
                main([*compared, *asked, *how])
    assert not list(tmp_path.rglob('*.pth'))
    result = main([*compared, '--metric', 'own/images'])
    assert result['scores'][OURS] == {0: 2.0}


def test_created_size():
    assert created_size(180, 240) == (192, 256) and created_size(1080, 1920) == (512, 896)


# --- compare ----------------------------------------------------------------------------------------------------------


def test_the_control_has_as_many_images():
    cfg = read_config('unet_scenes-paste')
    control = equal_control(cfg)
    assert control.train_dataloader.batch_size == 2 * cfg.train_dataloader.batch_size
    assert control.train_dataloader.dataset.store is None and not control.stages
    paper = read_config('vpd_scenes')
    paper.train_dataloader.dataset.mix = 'uniform'
    assert equal_control(paper).train_dataloader.batch_size == paper.train_dataloader.batch_size
    assert equal_control(paper).stages.warmup == paper.stages.warmup


def test_arms(tmp_path):
    cfg = read_config('vpd_scenes')
    arms = list(Comparison(cfg=cfg, seeds=(3, 4)).arms(tmp_path))
    assert [(name, seed) for name, seed, *_ in arms] == [(CONTROL, 3), (OURS, 3), (CONTROL, 4), (OURS, 4)]
    assert {each.stages.warmup.work_dir for _, seed, each, _ in arms if seed == 3} == {str(tmp_path / 'seed3/warmup')}
    assert {each.randomness.seed for _, seed, each, _ in arms if seed == 4} == {4}
    with pytest.raises(ValueError, match='trains a plain EncoderDecoder: nothing to compare; add --self-improving'):
        list(Comparison(cfg=read_config('unet_scenes')).arms(tmp_path))


@pytest.mark.parametrize(
    ('ours', 'control', 'metric', 'words'),
    [
        ([60.0, 61.0, 62.1], [50.0, 51.1, 52.0], 'mIoU', 'IT HELPS: 10 of mIoU better'),
        ([60.0, 61.0, 62.1], [50.0, 51.1, 52.0], 'rmse', 'IT HARMS: 10 of rmse worse'),
        ([50.0, 53.0, 51.0], [51.0, 50.0, 52.0], 'mIoU', 'no difference that 3 seeds can show'),
        ([50.0], [40.0], 'mIoU', 'one seed: 10 of mIoU better, which proves nothing'),
    ],
)
def test_verdict(ours, control, metric, words):
    scores = {OURS: dict(enumerate(ours)), CONTROL: dict(enumerate(control))}
    assert verdict(metric, scores).startswith(words)


@pytest.mark.slow
def test_plain_python_is_quiet(tmp_path):
    """What others print and warn of while they are imported is not seen by who imports the package."""
    run = [sys.executable, '-c', 'from mmdiff2in1 import Diff2in1; print(Diff2in1.__name__)']
    said = subprocess.run(run, cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert (said.stdout, said.stderr) == ('Diff2in1Inferencer\n', '')
