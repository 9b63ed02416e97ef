"""A recipe: what it wraps and what it leaves, its presets, what it refuses."""

from pathlib import Path

import pytest
from mmengine.config import Config
from plain_config import base

from mmdiff2in1.synthesis import SynthesisSettings
from mmdiff2in1.training.recipes import OF_CREATION, OF_UNLABELLED, PRESETS, make_self_improving
from mmdiff2in1.training.stages import warmup_config

ROOT = Path(__file__).parents[2]
SURE = dict(type='TeacherLabel', min_confidence=0.9)


def made(cfg: Config, **settings) -> Config:
    make_self_improving(cfg, **dict(diffusion='weights', samples_per_image=1) | settings)
    return cfg


def test_what_is_wrapped_and_what_stays():
    before = base().to_dict()
    after = made(base(), preset='paper', captions='captions.jsonl', T=400, store='samples').to_dict()
    assert after == before | dict(
        custom_imports=dict(imports=['mmdiff2in1.components'], allow_failed_imports=False),
        model=dict(type='SelfImprovingSegmentor', segmentor=before['model'], normalize_by='pooled'),
        train_dataloader=before['train_dataloader']
        | dict(
            dataset=dict(
                type='SyntheticSampleDataset',
                dataset=before['train_dataloader']['dataset'],
                store='samples',
                mix='uniform',
            )
        ),
        optim_wrapper=before['optim_wrapper'] | dict(constructor='ExploiterOptimWrapperConstructor'),
        val_cfg=dict(type='SelfImprovingValLoop', fp16=True),
        test_cfg=dict(type='SelfImprovingTestLoop', exploiter=True),
        custom_hooks=[dict(type='SelfImprovingHook', alpha=0.998, samples_per_update=40)],
        stages=dict(
            synthesis=dict(
                diffusion='weights',
                captions='captions.jsonl',
                samples_per_image=1,
                T=400,
                num_calls=50,
                grid='even',
                solver='ddim',
                guidance_scale=1.0,
                seed=0,
            )
        ),
    )


def test_what_the_base_says_of_such_things_is_kept():
    cfg = base(
        custom_imports=dict(imports='mine', allow_failed_imports=True),
        custom_hooks=[dict(type='MyHook'), dict(type='SelfImprovingHook', alpha=0.5)],
        stages=dict(warmup=dict(carry_optimizer=True)),
        val_cfg=None,
        test_cfg=dict(type='MyLoop'),
    )
    cfg.optim_wrapper.constructor = 'LearningRateDecayOptimizerConstructor'
    made(cfg)
    assert cfg.custom_imports == dict(imports=['mine', 'mmdiff2in1.components'], allow_failed_imports=True)
    assert [hook.type for hook in cfg.custom_hooks] == ['MyHook', 'SelfImprovingHook']
    assert cfg.custom_hooks[1].get('alpha') is None and cfg.custom_hooks[1].remaining == 0.05
    assert cfg.stages.warmup == dict(carry_optimizer=True)
    assert cfg.val_cfg is None and cfg.test_cfg == dict(type='MyLoop')
    assert cfg.optim_wrapper.constructor == 'ExploiterOptimWrapperConstructor'
    assert cfg.optim_wrapper.base_constructor == 'LearningRateDecayOptimizerConstructor'


def test_a_warm_up_is_the_base_as_it_was():
    cfg, plain = made(base(), warmup=True), base()
    cfg.train_cfg.max_iters, cfg.param_scheduler[0].end, cfg.default_hooks.checkpoint.interval = 5, 5, 1
    assert cfg.stages.warmup.keys() == {'train_cfg', 'param_scheduler', 'default_hooks'}
    warmup = warmup_config(cfg, Path('x'))
    for key in ('model', 'train_cfg', 'param_scheduler', 'default_hooks', 'optim_wrapper'):
        assert warmup[key] == plain[key], key


def test_drop_last_goes_with_the_batch_sampler():
    """torch refuses it beside one."""
    for asked, expected in ((True, dict(drop_last=True)), (False, {})):
        cfg = base()
        cfg.train_dataloader.drop_last = asked
        loader = made(cfg, preset='careful').train_dataloader
        assert loader.batch_sampler == dict(type='MixedBatchSampler', **expected) and 'drop_last' not in loader


@pytest.mark.parametrize('preset', [name for name in PRESETS if name != 'distil'])
def test_presets(preset):
    model, loader, hook = (lambda cfg: (cfg.model, cfg.train_dataloader, cfg.custom_hooks[0]))(
        made(base(), preset=preset)
    )
    ours = preset in ('careful', 'paste')
    weights = dict(
        careful=dict(normalize_by='real', synthetic_weight=0.3, label_rule=SURE),
        paste=dict(normalize_by='batch', synthetic_weight=1.0, label_rule=dict(type='GivenLabel')),
        paper=dict(normalize_by='pooled'),
        released=dict(normalize_by='pooled', share_draws=False),
    )[preset]
    assert {key: model[key] for key in model if key not in ('type', 'segmentor')} == weights
    assert loader.dataset.mix == (dict(added='equal') if ours else 'uniform')
    assert loader.dataset.get('labels') == ('stored' if preset == 'paste' else None)
    assert loader.get('batch_sampler') == (dict(type='MixedBatchSampler') if ours else None)
    assert hook.get('alpha') == (None if ours else 0.998)
    assert hook.get('remaining') == dict(careful=0.05, paste=0.001).get(preset)
    assert hook.samples_per_update == (80 if preset == 'released' else 40)


def test_new_layouts_need_no_generator():
    cfg = made(base(), preset='paste', diffusion=None, samples_per_image=30)
    assert cfg.stages.synthesis == dict(layout=dict(type='ObjectPaste'), T=0, seed=0, samples_per_image=30)
    assert not SynthesisSettings.from_cfg(cfg).draws
    redrawn = made(base(), preset='paste', T=100, layout=dict(type='ObjectPaste', redraw='all'))
    settings = SynthesisSettings.from_cfg(redrawn)
    assert settings.draws and settings.layout.redraw == 'all' and settings.diffusion == 'weights'
    with pytest.raises(ValueError, match='T=100 redraws what the layout composes, but there is no diffusion'):
        SynthesisSettings.from_cfg(made(base(), preset='paste', diffusion=None, T=100))
    stored = made(base(), preset='paste', diffusion=None, samples_per_image=None, layout=None, store='there')
    assert 'stages' not in stored and stored.train_dataloader.dataset.labels == 'stored'


TEACHER = dict(config='teacher.py', checkpoint='teacher.pth')


def test_a_teacher_labels_once_or_in_every_step():
    once = made(base(), preset='distil', teacher=TEACHER, soft=True, temperature=2.0)
    assert once.model == dict(
        type='SelfImprovingSegmentor',
        segmentor=base().model,
        normalize_by='batch',
        synthetic_weight=1.0,
        label_rule=dict(type='GivenLabel'),
    )
    assert once.stages.labelling == dict(teacher=TEACHER, soft=True, temperature=2.0)
    dataset = once.train_dataloader.dataset
    assert dataset.labels == 'stored' and dataset.mix == dict(added='equal') and 'warmup' not in once.stages
    step = made(base(), preset='distil', teacher=[TEACHER, 'creator'], per_step=True, mirrored=True)
    assert step.model.label_rule == dict(type='TeacherLabel', teacher=[TEACHER, 'creator'], mirrored=True)
    assert 'labelling' not in step.stages and 'labels' not in step.train_dataloader.dataset
    # In the place of the rule of a preset.
    # What the preset asks of θ_C is asked of the teacher, unless it is taken away.
    sure, any_of_them = (made(base(), teacher=TEACHER, per_step=True, **own) for own in ({}, dict(min_confidence=None)))
    assert sure.model.label_rule == dict(type='TeacherLabel', teacher=TEACHER, min_confidence=0.9)
    assert any_of_them.model.label_rule == dict(type='TeacherLabel', teacher=TEACHER)
    assert made(base(), teacher=TEACHER).stages.labelling == dict(teacher=TEACHER, min_confidence=0.9)
    assert made(base(), preset='paste', teacher=TEACHER).stages.labelling == dict(teacher=TEACHER)


def test_settings_replace_those_of_the_preset():
    cfg = made(base(global_batch_size=16), alpha=0.9, label_rule=None, synthetic_weight=1.0, mix=dict(ratio=(3, 1)))
    assert cfg.custom_hooks == [dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=40)]
    assert 'label_rule' not in cfg.model and cfg.model.synthetic_weight == 1.0
    assert cfg.train_dataloader.dataset.mix == dict(ratio=(3, 1))
    assert made(base(global_batch_size=16), mix=dict(added=3)).train_dataloader.dataset.mix == dict(added=3)
    assert 'stages' not in made(base(), diffusion=None, samples_per_image=None, store='samples')


def test_settings_of_creation_are_those_that_creation_knows():
    names = (*OF_CREATION, *OF_UNLABELLED)
    cfg = made(base(), **{key: 1 for key in names} | dict(diffusion='weights'))
    assert set(cfg.stages.synthesis) == set(names)
    cfg.stages.synthesis.update(layout=None, scenes=None)  # beside a condition they are refused
    SynthesisSettings.from_cfg(cfg)


def test_new_scenes_and_unlabelled_images():
    scenes = dict(type='recombined')
    settings = dict(samples_per_image=None, num_samples=600, T='noise')
    both = made(base(), scenes=scenes, unlabelled='photos', **settings).stages.synthesis
    assert (both.scenes, both.unlabelled, both.T, both.num_samples) == (scenes, 'photos', 'noise', 600)
    cfg = made(base(), diffusion=None, samples_per_image=None, unlabelled=['a', 'b'], copy_unlabelled=True)
    assert cfg.stages.synthesis == dict(unlabelled=['a', 'b'], copy_unlabelled=True)
    settings = SynthesisSettings.from_cfg(cfg)
    assert settings.diffusion is None and settings.unlabelled == ['a', 'b']
    with pytest.raises(ValueError, match='got scenes but no diffusion'):
        made(base(), diffusion=None, samples_per_image=None, unlabelled='a', scenes=scenes)


@pytest.mark.parametrize(
    ('entries', 'settings', 'message'),
    [
        (
            {},
            dict(preset='careless'),
            r"unknown preset 'careless'; did you mean careful\?; known: paper, released, careful",
        ),
        (
            {},
            dict(Tt=3, batch_size=2),
            r'unknown settings Tt \(did you mean T\?\), batch_size; known: normalize_by, .*stages = dict\(synthesis',
        ),
        ({}, dict(sample_per_image=3), r'unknown settings sample_per_image \(did you mean samples_per_image\?\)\. All'),
        ({}, dict(diffusion=None, T=3), 'got samples_per_image, T but no diffusion'),
        ({}, dict(diffusion=None, samples_per_image=None), 'got neither diffusion nor unlabelled nor store'),
        ({}, dict(mix='half'), "unknown mix 'half'"),
        ({}, dict(preset='distil'), "preset='distil' and no teacher; give teacher="),
        ({}, dict(soft=True), 'got soft, but no teacher'),
        ({}, dict(teacher=TEACHER, label_rule=SURE), 'drop one of them'),
        ({}, dict(teacher=TEACHER, balanced=True), 'set per_step=True as well'),
        ({}, dict(teacher=TEACHER, per_step=True, topk=3), 'topk=3 is of labels that are written'),
        (dict(custom_hooks=[dict(type='mmengine.EMAHook')]), {}, 'θ_C is the moving average here'),
        (dict(model=dict(type='SelfImprovingSegmentor')), {}, 'self-improving already'),
        (
            dict(train_dataloader=dict(batch_size=2, batch_sampler=dict(type='Mine'), dataset={})),
            {},
            r"batch_sampler, Mine, .* choose mix='uniform'",
        ),
    ],
)
def test_refusals(entries, settings, message):
    with pytest.raises(ValueError, match=message):
        made(base(**entries), **settings)


def test_what_stands_below_the_call_is_merged_over_it(tmp_path):
    base().dump(tmp_path / 'base.py')
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['base.py']\n"
        'from mmdiff2in1.training.recipes import make_self_improving\n'
        "make_self_improving(_base_, diffusion='weights', num_samples=3)\n"
        'model = dict(synthetic_weight=0.5)\n'
        'stages = dict(synthesis=dict(batch_size=2))\n'
        'optim_wrapper = dict(optimizer=dict(lr=0.2))\n'
    )
    cfg = Config.fromfile(tmp_path / 'mine.py')
    expected = made(base(), samples_per_image=None, num_samples=3)
    expected.model.synthetic_weight = 0.5
    expected.stages.synthesis.batch_size = 2
    expected.optim_wrapper.optimizer.lr = 0.2
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize('name', ['vpd_ade20k', 'bae_nyuv2-normal-released', 'vpd_scenes'])
def test_a_dumped_config_is_the_config(name, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/diff2in1' / f'{name}.py')
    cfg.dump(tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == cfg.to_dict()
