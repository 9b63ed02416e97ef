"""Code that lies beside weights is never run, and nobody is asked whether it may."""

import ast
import json
from pathlib import Path

import hostile
import pytest
from tiny_captioner import save_captioner
from transformers import SwinBackbone, SwinConfig

from mmdiff2in1.captions.captioner import ImageCaptioner
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.models import HFBackbone

ROOT = Path(__file__).resolve().parents[1]
OURS = ('LatentDiffusion', 'Diff2in1Inferencer', 'StableDiffusion3', 'ImageCaptioner', '_perceiver_of(weights)', 'cls')
SCHEDULERS = ('DPMSolverMultistepScheduler', 'DDPMScheduler', 'FlowMatchEulerDiscreteScheduler')
"""Made from a dictionary; no file and no code."""


def loads(source: str) -> list[tuple[int, str]]:
    """Line and text of calls of transformers and diffusers that could run code, without ``trust_remote_code=False``."""
    found = []
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.Module)]
    for function in functions:
        # A dictionary of arguments, as `extra['trust_remote_code'] = False`, counts in its function.
        texts = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Assign)}
        beside = isinstance(function, ast.FunctionDef) and any(
            text.endswith("['trust_remote_code'] = False") for text in texts
        )
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            asked = name == 'from_pretrained' or (name == 'from_config' and owner not in SCHEDULERS)
            given = any(k.arg == 'trust_remote_code' and ast.unparse(k.value) == 'False' for k in node.keywords)
            if asked and owner not in OURS and not given:
                found.append((node.lineno, ast.unparse(node), beside))
    passed = {(line, text) for line, text, beside in found if beside}
    return sorted({(line, text) for line, text, _ in found} - passed)


@pytest.mark.parametrize(
    ('source', 'count'),
    [
        ('AutoTokenizer.from_pretrained(x)', 1),
        ('AutoTokenizer.from_pretrained(x, trust_remote_code=True)', 1),
        ('AutoTokenizer.from_pretrained(x, trust_remote_code=False)', 0),
        ('AutoBackbone.from_config(x)', 1),
        ("def f():\n    extra = {}\n    extra['trust_remote_code'] = False\n    kind.from_pretrained(x, **extra)", 0),
        ('def f():\n    extra = {}\n    kind.from_pretrained(x, **extra)', 1),
        ('LatentDiffusion.from_pretrained(x)', 0),
        ('DDPMScheduler.from_config(x)', 0),
    ],
)
def test_the_rule_sees_what_breaks_it(source, count):
    assert len(loads(source)) == count


def test_every_load_says_that_no_code_is_trusted():
    files = [file for place in ('mmdiff2in1', 'tools', 'projects') for file in (ROOT / place).rglob('*.py')]
    assert {file.name: found for file in files if (found := loads(file.read_text()))} == {}
    trusted = [file.name for file in files if 'trust_remote_code=True' in file.read_text()]
    assert not trusted


def add_code(folder: Path, file: str, watch: hostile.Watch, **fields) -> None:
    """Names classes of a module in ``folder`` that runs when it is imported."""
    (folder / 'evil.py').write_text(f'open({str(watch.marker)!r}, "w").close()\nclass Evil: pass\n')
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | fields))


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Whoever asks gets a yes."""
    monkeypatch.setenv('HF_MODULES_CACHE', str(tmp_path / 'modules'))
    monkeypatch.setattr('builtins.input', lambda *_: 'y')
    return hostile.Watch(tmp_path / 'ran')


def test_the_tokenizer_of_a_diffusers_folder(tiny_diffusion_config, tmp_path, watch):
    LatentDiffusion.from_config(tiny_diffusion_config).save_folder(tmp_path / 'weights')
    auto_map = dict(AutoTokenizer=['evil.Evil', 'evil.Evil'])
    fields = dict(tokenizer_class='EvilTokenizer', auto_map=auto_map)
    add_code(tmp_path / 'weights' / 'tokenizer', 'tokenizer_config.json', watch, **fields)
    try:  # what transformers knows without the code may be read
        LatentDiffusion.from_pretrained(tmp_path / 'weights')
    except ValueError as error:
        assert 'tokenizer cannot be loaded' in str(error)
    watch.assert_nothing_ran()


def test_a_backbone(tmp_path, watch):
    shape = dict(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2, image_size=32)
    SwinBackbone(SwinConfig(**shape)).save_pretrained(tmp_path / 'swin')
    auto_map = dict(AutoConfig='evil.Evil', AutoBackbone='evil.Evil')
    add_code(tmp_path / 'swin', 'config.json', watch, model_type='evil', auto_map=auto_map)
    with pytest.raises(ValueError, match='swin'):
        HFBackbone(str(tmp_path / 'swin'))
    watch.assert_nothing_ran()


@pytest.mark.parametrize(
    'file', ['processor_config.json', 'preprocessor_config.json', 'tokenizer_config.json', 'config.json']
)
def test_a_captioner(file, tmp_path, watch):
    save_captioner(tmp_path / 'model', 'git')
    if not (tmp_path / 'model' / file).is_file():
        (tmp_path / 'model' / file).write_text('{}')
    auto_map = dict.fromkeys(('AutoProcessor', 'AutoImageProcessor', 'AutoModelForImageTextToText'), 'evil.Evil')
    auto_map |= dict(AutoTokenizer=['evil.Evil', 'evil.Evil'])
    kinds = dict(processor_class='Evil', image_processor_type='Evil', tokenizer_class='Evil')
    add_code(tmp_path / 'model', file, watch, auto_map=auto_map, **({} if file == 'config.json' else kinds))
    try:
        ImageCaptioner.from_pretrained(tmp_path / 'model')
    except (ValueError, OSError) as error:
        assert 'model' in str(error)
    watch.assert_nothing_ran()
