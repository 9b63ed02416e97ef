"""One short chain on tiny weights, and its page, shared by the tests of this folder."""

import copy

import pytest


@pytest.fixture(scope='session')
def chain(tmp_path_factory, tiny_diffusion_config):
    """Config, work dir and results of a finished chain that creates at two T."""
    from tiny_chain import chain_config, prepare

    from mmdiff2in1.training.chain import train

    folder = prepare(tmp_path_factory.mktemp('report'), tiny_diffusion_config)
    cfg = chain_config(folder)
    cfg.merge_from_dict(
        {
            'stages.warmup.train_cfg': dict(max_iters=4, val_interval=2),
            'train_cfg': dict(max_iters=4, val_interval=2),
            'stages.synthesis.T': [300, 900],
        }
    )
    cfg.model.label_rule = dict(type='TeacherLabel', min_confidence=0.05)
    (average,) = (hook for hook in cfg.custom_hooks if hook.type == 'SelfImprovingHook')
    average.samples_per_update = 12
    work_dir = folder / 'run'
    return cfg, work_dir, train(copy.deepcopy(cfg), work_dir)


@pytest.fixture(scope='session')
def page(chain):
    """The page of the chain, as it is written without further arguments."""
    from html_page import Page

    from mmdiff2in1.reporting import write_report

    cfg, work_dir, _ = chain
    return Page(write_report(cfg, work_dir, images=3).read_text())
