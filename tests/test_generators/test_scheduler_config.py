"""Scheduler configurations: what says how noise grows is read as it stands, and nothing is made up."""

import json
import math
import re

import diffusers
import pytest
import torch

from mmdiff2in1.generators import LatentDiffusion, NoiseSchedule
from mmdiff2in1.generators.flow_schedule import FlowSchedule
from mmdiff2in1.generators.scheduler_config import NOISE, check_pipeline_scheduler, noise_config, read_scheduler

SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')


def without(*names: str, **changes) -> dict:
    return {name: value for name, value in SD.items() if name not in names} | changes


@pytest.mark.parametrize('kind', NOISE)
def test_every_scheduler_with_betas_means_the_same_by_them(kind):
    if kind == 'DPMSolverSDEScheduler':
        pytest.importorskip('torchsde')
    theirs = getattr(diffusers, kind)(**SD)
    ours = NoiseSchedule({'_class_name': kind, **SD})
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod.float(), rtol=1e-6, atol=0)
    assert ours.prediction_type == theirs.config.prediction_type


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({}, 'found no fields, without beta_schedule, beta_start, beta_end, so there are no betas'),
        (dict(_class_name='DDIMScheduler'), 'found no fields, without beta_schedule'),
        (without('beta_end'), 'found num_train_timesteps, beta_start, beta_schedule, without beta_end'),
        (without('beta_start', 'beta_schedule'), 'without beta_schedule, beta_start,'),
        (
            dict(_class_name='FlowMatchEulerDiscreteScheduler', shift=3.0),
            'found a flow-matching Flow',
        ),
        (SD | dict(_class_name='FlowMatchEulerDiscreteScheduler'), 'found a flow-matching'),
        (
            dict(_class_name='EDMEulerScheduler', sigma_min=0.002, sigma_max=80.0),
            "found 'EDMEulerScheduler'",
        ),
        (
            SD | dict(_class_name='UnknownScheduler'),
            r"found 'UnknownS.*expected .*DDIMS.*PNDMS",
        ),
        (SD | dict(_class_name='DPMSolverMultistepScheduler', use_flow_sigmas=True), 'found use_flow_sigmas=True'),
        (SD | dict(_class_name='EulerDiscreteScheduler', timestep_type='continuous'), "timestep_type='continuous'"),
        (SD | dict(trained_betas=[]), 'trained_betas of 0 values are no betas'),
        (without('num_train_timesteps', trained_betas=[0.1, math.nan]), 'trained_betas of 2 values are no betas'),
        (without('num_train_timesteps', trained_betas=[0.1, 1.5]), 'are no betas, expected numbers in'),
        (without('num_train_timesteps', trained_betas='abc'), 'are no betas'),
        (SD | dict(trained_betas=[0.1, 0.2]), '2 trained_betas for num_train_timesteps=1000'),
        (SD | dict(beta_start=math.nan), 'found beta_start=nan, expected 0 < beta_start'),
        (SD | dict(beta_end='0.012'), "found beta_end='0.012'"),
        (SD | dict(beta_start=0.02), 'found beta_start=0.02, beta_end=0.012'),
        (SD | dict(num_train_timesteps=0), 'num_train_timesteps=0, expected'),
        (SD | dict(num_train_timesteps='1000'), "num_train_timesteps='1000', expected"),
        (SD | dict(beta_schedule='cubic'), "unknown beta_schedule 'cubic'; known: linear, scaled_linear"),
        (SD | dict(prediction_type='flow_prediction'), "unknown prediction_type 'flow_prediction'; known: epsilon"),
        (SD | dict(prediction_type=None), 'unknown prediction_type None'),
    ],
)
def test_what_is_no_noise_schedule(config, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(config)


def test_trained_betas_and_a_schedule_without_ends():
    schedule = NoiseSchedule(dict(trained_betas=[0.1, 0.2, 0.3]))
    torch.testing.assert_close(schedule.alphas_cumprod, torch.tensor([0.9, 0.72, 0.504]))
    assert schedule.T_max == schedule.config['num_train_timesteps'] == 3
    assert NoiseSchedule(dict(beta_schedule='squaredcos_cap_v2', num_train_timesteps=10)).T_max == 10


def test_the_prediction_type_of_the_class_where_none_is_named():
    assert noise_config(SD | dict(_class_name='PNDMScheduler'))['prediction_type'] == 'epsilon'
    assert NoiseSchedule(SD | dict(prediction_type='v_prediction')).prediction_type == 'v_prediction'


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({}, 'found no scheduler, expected one of flow matching'),
        (SD | dict(_class_name='DDIMScheduler'), "found 'DDIMScheduler', expected one of flow matching"),
        (SD, 'found no scheduler'),
        (dict(shift=0), 'shift=0, expected a number above 0'),
        (dict(shift=math.nan), 'shift=nan'),
        (dict(shift='3'), "shift='3'"),
        (dict(shift=3.0, num_train_timesteps=-1), 'num_train_timesteps=-1'),
    ],
)
def test_what_is_no_flow_schedule(config, message):
    with pytest.raises(ValueError, match=message):
        FlowSchedule(config)


@pytest.mark.parametrize('flow', [False, True])
@pytest.mark.parametrize(
    ('text', 'message'),
    [('{}', r'found (no fields|no scheduler)'), ('[]', 'holds a list, expected an object'), ('{', 'is not valid JSON')],
)
def test_the_file_is_named(tmp_path, text, message, flow):
    path = tmp_path / 'scheduler_config.json'
    with pytest.raises(FileNotFoundError, match='scheduler_config.json: found nothing'):
        read_scheduler(path, flow)
    path.write_text(text)
    with pytest.raises(ValueError, match=rf'scheduler_config\.json:? .*{message}'):
        read_scheduler(path, flow)


@pytest.mark.parametrize(
    ('kind', 'config', 'with_betas', 'message'),
    [
        ('EulerDiscreteScheduler', SD, True, None),
        ('FlowMatchEulerDiscreteScheduler', dict(shift=3.0), False, None),
        ('DDPMScheduler', SD, False, None),  # transformers with betas
        ('FlowMatchEulerDiscreteScheduler', dict(shift=3.0), True, 'model_index.json names FlowMatch.*with betas'),
        ('EDMEulerScheduler', {}, True, 'model_index.json names EDMEulerScheduler'),
        ('EDMEulerScheduler', {}, False, 'expected one with betas, or of flow matching'),
        ('EulerDiscreteScheduler', {}, True, 'scheduler_config.json: found no fields, without beta_schedule'),
        ('EulerDiscreteScheduler', dict(_class_name='EDMEulerScheduler'), True, "found 'EDMEulerScheduler'"),
        ('FlowMatchEulerDiscreteScheduler', SD | dict(_class_name='DDIMScheduler'), False, "found 'DDIMScheduler'"),
    ],
)
def test_schedulers_of_pipelines(tmp_path, kind, config, with_betas, message):
    path = tmp_path / 'scheduler' / 'scheduler_config.json'
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    if message is None:
        check_pipeline_scheduler(path, kind, with_betas)
    else:
        with pytest.raises(ValueError, match=message):
            check_pipeline_scheduler(path, kind, with_betas)


def test_a_folder_with_the_scheduler_of_another_kind(_tiny_diffusion, tmp_path):
    """Before: read as noise prediction along diffusers' betas to 0.02."""
    _tiny_diffusion.save_folder(tmp_path / 'tiny')
    path = tmp_path / 'tiny' / 'scheduler' / 'scheduler_config.json'
    path.write_text(
        json.dumps(dict(_class_name='FlowMatchEulerDiscreteScheduler', num_train_timesteps=1000, shift=3.0))
    )
    for opened in (LatentDiffusion.check, LatentDiffusion.from_pretrained):
        with pytest.raises(ValueError, match=re.escape(f'{path}: found a flow-matching FlowMatchEuler')):
            opened(tmp_path / 'tiny')
