"""Misspelt keys are found, names of the user's own are not."""

import pytest
from mmengine.config import Config

from mmdiff2in1.training.config_keys import check_keys, check_options


def config(**entries):
    return Config(dict(model=dict(), stages=dict(warmup=dict(train_cfg=dict(max_iters=3))), **entries))


def test_own_variables_pass():
    own = 'train_pipeline test_pipeline val_pipeline tta_pipeline optimizer crop_size norm_cfg data_root num_stages'
    check_keys(config(**dict.fromkeys(own.split())), ())


@pytest.mark.parametrize(
    ('wrong', 'meant'),
    [
        ('param_schedular', 'param_scheduler'),
        ('optim_wraper', 'optim_wrapper'),
        ('train_dataloder', 'train_dataloader'),
        ('randomnes', 'randomness'),
        ('load_form', 'load_from'),
        ('custom_hook', 'custom_hooks'),
        ('val_evalutor', 'val_evaluator'),
    ],
)
def test_near_misses_name_what_was_meant(wrong, meant):
    with pytest.raises(ValueError, match=f"key '{wrong}', which nothing reads; did you mean {meant}\\?"):
        check_keys(config(**{wrong: None}), ())


def test_keys_of_the_warmup():
    cfg = config()
    cfg.stages.warmup.carry_optimizer = True
    check_keys(cfg, ('carry_optimizer',))
    cfg.stages.warmup.train_config = dict()
    with pytest.raises(ValueError, match="stages.warmup has a key 'train_config'.*did you mean train_cfg"):
        check_keys(cfg, ('carry_optimizer',))
    del cfg.stages.warmup['train_config']
    cfg.stages.warmup.bananas = 1
    with pytest.raises(ValueError, match="'bananas', which nothing reads; known: "):
        check_keys(cfg, ('carry_optimizer',))


def test_options_of_what_is_not_there():
    cfg = config(crop_size=(8, 8))
    check_options(cfg, ['crop_size', 'model.decode_head.channels', 'train_cfg.max_iters', 'tta_pipeline', 'resume'])
    with pytest.raises(ValueError, match=r"--cfg-options tain_cfg\.max_iters: .* no 'tain_cfg', .*; did you mean "):
        check_options(cfg, ['crop_size', 'tain_cfg.max_iters'])
    with pytest.raises(ValueError, match=r"no 'zzz', and nothing reads it; the config has model, stages, crop_size$"):
        check_options(cfg, ['zzz'])
