"""A recipe from outside: which presets need a warm-up, files of settings, and what the command line asks for."""

import argparse
from functools import partial

import pytest
from mmengine.config import Config
from plain_config import base

from mmdiff2in1.__main__ import main
from mmdiff2in1.commands.recipe_arguments import add_recipe_arguments, recipe_settings
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.training.recipes import make_self_improving
from mmdiff2in1.training.stages import check_chain
from mmdiff2in1.training.wrapping import changed_and_wrapped, read_recipe, wrap_config


def test_the_base_stays_and_the_result_is_that_of_a_config():
    mine, before = base(work_dir='mine'), base(work_dir='mine').to_dict()
    wrapped = wrap_config(mine, 'paper', 'mine.pth', diffusion='weights', T=400)
    by_hand = base()
    make_self_improving(by_hand, 'paper', diffusion='weights', T=400, samples_per_image=1)
    assert mine.to_dict() == before
    assert wrapped.to_dict() == by_hand.to_dict() | dict(load_from='mine.pth')


@pytest.mark.parametrize(
    ('preset', 'load_from', 'settings', 'warmup'),
    [
        ('careful', None, dict(diffusion='weights'), True),
        ('released', None, dict(diffusion='weights'), True),
        ('careful', 'mine.pth', dict(diffusion='weights'), False),
        ('careful', 'mine.pth', dict(diffusion='weights', warmup=True), True),
        ('paste', None, dict(samples_per_image=4), False),
    ],
)
def test_where_the_creator_labels_it_learns_first(preset, load_from, settings, warmup):
    wrapped = wrap_config(base(), preset, load_from, **settings)
    assert ('warmup' in wrapped.stages) is warmup
    assert wrapped.get('load_from') == load_from


def test_images_that_are_counted_otherwise():
    assert wrap_config(base(), diffusion='weights', num_samples=7).stages.synthesis.get('samples_per_image') is None
    assert wrap_config(base(), 'careful', 'mine.pth', unlabelled='photos').stages.synthesis == dict(unlabelled='photos')


def test_a_file_of_settings(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text("preset = 'paper'\nT = [200, 400]\nsynthetic_weight = 0.5\n")
    assert read_recipe(str(file)) == dict(preset='paper', T=[200, 400], synthetic_weight=0.5)
    wrapped = wrap_config(base(), str(file), diffusion='weights', T=300)
    assert wrapped.stages.synthesis['T'] == 300 and wrapped.model['synthetic_weight'] == 0.5
    assert wrapped.model['normalize_by'] == 'pooled'
    with pytest.raises(FileNotFoundError, match=r"'carefull' is neither a preset \(paper, released, careful, .*file"):
        read_recipe('carefull')


def test_flags_without_a_recipe_are_refused():
    parser = argparse.ArgumentParser()
    add_recipe_arguments(parser)
    assert recipe_settings(parser.parse_args([])) == {}
    asked = parser.parse_args('--self-improving paper --generator w --T 200 400 --size 64'.split())
    assert recipe_settings(asked) == dict(diffusion='w', T=[200, 400], size=64)
    with pytest.raises(ValueError, match='--generator, --load-from: of what[?] Add --self-improving careful'):
        recipe_settings(parser.parse_args('--generator w --load-from a.pth'.split()))


def test_wrap_says_in_one_line_what_is_wrong(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(base(custom_hooks=[dict(type='EMAHook')]).pretty_text)
    with pytest.raises(SystemExit, match='EMAHook among its custom_hooks') as caught:
        main(['wrap', str(file), '--generator', 'weights', '--out', str(tmp_path / 'new.py')])
    assert '\n' not in str(caught.value) and not (tmp_path / 'new.py').exists()


def test_wrap_writes_one_file_that_stands_alone(tmp_path, capsys):
    file, out = tmp_path / 'mine.py', tmp_path / 'new.py'
    file.write_text(base().pretty_text)
    main(['wrap', str(file), '--generator', 'weights', '--load-from', 'mine.pth', '--out', str(out)])
    assert Config.fromfile(out).to_dict() == wrap_config(base(), 'careful', 'mine.pth', diffusion='weights').to_dict()
    assert '_base_' not in out.read_text()
    printed = capsys.readouterr().out
    assert 'EncoderDecoder twice' in printed and 'from: load_from=mine.pth' in printed
    with pytest.raises(SystemExit, match='mine.py is there already; name another place, or add --overwrite'):
        main(['wrap', str(out), '--generator', 'weights', '--out', str(file)])
    assert file.read_text() == base().pretty_text


def test_changes_are_told_in_the_terms_of_the_plain_config():
    """What the recipe wraps or copies is changed before; what it makes, after."""
    plain = read_config('unet_scenes')
    before = plain.pretty_text
    changes = {
        'train_dataloader.dataset.data_root': 'elsewhere',
        'train_dataloader.dataset.indices': 3,
        'train_cfg.max_iters': 7,
        'custom_hooks.0.type': 'EmptyCacheHook',
        'train_dataloader.dataset.store': 'a/store',
        'stages.synthesis.num_calls': 9,
        'model.label_rule.type': 'SourceLabel',
        'my_own': 1,
    }
    wrap = partial(wrap_config, recipe='careful', diffusion='builtin:scenes', captions='captions.jsonl')
    cfg = changed_and_wrapped(plain, changes, wrap)
    dataset, synthesis = cfg.train_dataloader.dataset, cfg.stages.synthesis
    inner = dataset.dataset
    assert (inner.type, inner.data_root, inner.indices) == ('ScenesDataset', 'elsewhere', 3)
    assert (dataset.type, dataset.store, synthesis.num_calls) == ('SyntheticSampleDataset', 'a/store', 9)
    assert (cfg.stages.warmup.train_cfg.max_iters, cfg.model.label_rule.type, cfg.my_own) == (7, 'SourceLabel', 1)
    assert cfg.custom_hooks[0].type == 'EmptyCacheHook' and 'data_root' not in dataset
    assert plain.pretty_text == before


IMPORTED = ['colorsys', 'mmdiff2in1.components']
EMPTY = dict(type='EmptyCacheHook')


@pytest.mark.parametrize(
    ('key', 'value', 'place', 'expected'),
    [
        ('custom_hooks', [EMPTY], 'custom_hooks', [EMPTY, dict(type='SelfImprovingHook', samples_per_update=40)]),
        ('custom_imports', dict(imports=['colorsys']), 'custom_imports.imports', IMPORTED),
        ('custom_imports.imports', ['colorsys'], 'custom_imports.imports', IMPORTED),
        ('optim_wrapper.constructor', 'Mine', 'optim_wrapper.base_constructor', 'Mine'),
        ('optim_wrapper.constructor', None, 'optim_wrapper.constructor', 'ExploiterOptimWrapperConstructor'),
    ],
)
def test_what_the_recipe_adds_stays_beside_what_is_asked_for(key, value, place, expected):
    """A plain config that has no such entry yet: the change is not one of the recipe's own."""
    plain = base()
    for name in ('custom_hooks', 'custom_imports'):
        plain.pop(name, None)
    cfg = changed_and_wrapped(plain, {key: value}, partial(wrap_config, recipe='paste', remaining=None))
    found = cfg
    for step in place.split('.'):
        found = found[step]
    assert found == expected
    assert cfg.optim_wrapper.constructor == 'ExploiterOptimWrapperConstructor'


TO_NOWHERE = [
    ('custom_hooks.7.type=EmptyCacheHook', '--cfg-options custom_hooks.7.type: cannot be changed .*Index 7 exceeds'),
    ('custom_hooks.x.y=3', '--cfg-options custom_hooks.x.y: cannot be changed to 3'),
    ('train_cfg.max_iters.x=3', '--cfg-options train_cfg.max_iters.x: cannot be changed to 3'),
]
UNTRAINABLE = [
    ('model=None', 'the base has model=None, expected a dict'),
    ('train_dataloader=None', 'the base has train_dataloader=None'),
    ('optim_wrapper=3', 'the base has optim_wrapper=3'),
    ('stages=None', 'stages is None; expected a dictionary'),
    ('stages.warmup=3', 'stages.warmup is 3; expected a dictionary'),
    ('stages.synthesis=3', 'stages.synthesis is 3; expected a dictionary'),
]


@pytest.mark.parametrize(
    ('command', 'option', 'said'),
    [('check', *each) for each in TO_NOWHERE] + [('wrap', *each) for each in TO_NOWHERE + UNTRAINABLE],
)
def test_changes_that_cannot_be_made_are_told_in_one_line(command, option, said, tmp_path):
    flags = ['--self-improving', 'paste', '--out', str(tmp_path / 'new.py')] if command == 'wrap' else []
    with pytest.raises(SystemExit, match=said) as caught:
        main([command, 'unet_scenes', *flags, '--cfg-options', 'work_dir=here', option])
    assert '\n' not in str(caught.value)


def test_what_is_new_within_a_part_of_the_recipe_is_changed_after_it():
    changes = {
        'model.label_rule.temperature': 2.0,
        'model.segmentor.decode_head.dropout_ratio': 0.3,
        'train_dataloader.dataset.mix.real': 4,
        'custom_hooks.2.batch_may_change': True,
        'model.backbone.new': 1,
    }
    wrap = partial(wrap_config, recipe='careful', diffusion='builtin:scenes')
    cfg = changed_and_wrapped(read_config('unet_scenes'), changes, wrap)
    segmentor = cfg.model.segmentor
    assert (cfg.model.label_rule.temperature, segmentor.decode_head.dropout_ratio, segmentor.backbone.new) == (
        2,
        0.3,
        1,
    )
    assert cfg.train_dataloader.dataset.mix == dict(added='equal', real=4) and cfg.custom_hooks[2].batch_may_change
    assert (
        'label_rule' not in segmentor
        and 'segmentor' not in segmentor
        and 'mix' not in cfg.train_dataloader.dataset.dataset
    )


def test_one_layout_for_each_image_where_no_number_is_named():
    assert wrap_config(base(), 'paste').stages.synthesis['samples_per_image'] == 1
    assert wrap_config(base(), 'paste', num_samples=7).stages.synthesis.get('samples_per_image') is None
    assert 'samples_per_image' not in wrap_config(base(), 'careful', 'mine.pth', store='samples').get('stages', {})


@pytest.mark.parametrize('key', ['batch_size', 'sampler'])
def test_a_batch_without_size_or_sampler_is_refused(key):
    wrap = partial(wrap_config, recipe='paste')
    cfg = changed_and_wrapped(read_config('unet_scenes'), {f'train_dataloader.{key}': None}, wrap)
    with pytest.raises(ValueError, match=f'train_dataloader.{key} is None; a chain needs one'):
        check_chain(cfg)
