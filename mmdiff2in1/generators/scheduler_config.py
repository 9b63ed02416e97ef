"""Noise settings of a diffusers scheduler configuration, checked before anything is built from it.

diffusers fills in what is missing and passes over what it does not know, so that a configuration of flow matching reads
as one of noise along its default betas. Here the betas must be there, and the class must be one that has them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler

from .reading import read_json

PREDICTION_TYPES = ('epsilon', 'v_prediction', 'sample')
"""The first is what all of :data:`NOISE` take where none is named."""
NOISE = tuple(
    f'{name}Scheduler'
    for name in (
        'DDIM', 'DDIMInverse', 'DDIMParallel', 'DDPM', 'DDPMParallel', 'DEISMultistep', 'DPMSolverMultistep',
        'DPMSolverMultistepInverse', 'DPMSolverSDE', 'DPMSolverSinglestep', 'EulerAncestralDiscrete', 'EulerDiscrete',
        'HeunDiscrete', 'KDPM2AncestralDiscrete', 'KDPM2Discrete', 'LCM', 'LMSDiscrete', 'PNDM', 'SASolver', 'TCD',
        'UniPCMultistep',
    )
)  # fmt: skip
"""Schedulers of diffusers that say by betas how much noise a timestep has, all alike."""
FLOW = ('FlowMatchEulerDiscreteScheduler', 'FlowMatchHeunDiscreteScheduler', 'FlowMatchLCMScheduler')
ENDS = ('beta_start', 'beta_end')
BETWEEN = ('linear', 'scaled_linear', 'sigmoid')
"""Kinds of ``beta_schedule`` that lie between the two ends."""
ALONE = ('squaredcos_cap_v2', 'laplace')
"""Kinds that need none; all that DDPMScheduler has."""
CURE = 'take scheduler/scheduler_config.json of the model that the weights come from'


def read_scheduler(path: Path, flow: bool = False) -> dict:
    """A ``scheduler_config.json``, see :func:`noise_config` and :func:`flow_config`, whose errors then name it.

    Raises:
        FileNotFoundError, ValueError: It is not there, damaged, or does not say what it must.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: found nothing, expected the scheduler of the pipeline; {CURE}')
    config = read_json(path)
    try:
        return flow_config(config) if flow else noise_config(config)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def noise_config(config: Mapping[str, Any]) -> dict:
    """``config`` with the ``prediction_type`` that its class takes where it names none.

    Args:
        config: Fields of one of :data:`NOISE`, its name as ``_class_name``; of DDPMScheduler without. Needed are betas:
            ``trained_betas``, or ``beta_schedule`` and, where it has them, both ends.

    Raises:
        ValueError: Another class, no betas, or values that are none.
    """
    kind = config.get('_class_name', DDPMScheduler.__name__)
    if kind not in NOISE:
        what = f'a flow-matching {kind}' if kind in FLOW or str(kind).startswith('Flow') else repr(kind)
        raise ValueError(
            f'found {what}, expected a scheduler with betas ({", ".join(NOISE)}), along which these models were '
            f'trained; {CURE}'
        )
    other = [name for name in ('use_flow_sigmas', 'timestep_type') if config.get(name) in (True, 'continuous')]
    if other:
        raise ValueError(f'found {other[0]}={config[other[0]]!r}: timesteps that are no steps along betas; {CURE}')
    found = {'prediction_type': PREDICTION_TYPES[0], **config}
    if found['prediction_type'] not in PREDICTION_TYPES:
        known = ', '.join(PREDICTION_TYPES)
        raise ValueError(f'unknown prediction_type {found["prediction_type"]!r}; known: {known}')
    steps = found.get('num_train_timesteps')
    if 'num_train_timesteps' in found and (type(steps) is not int or steps < 1):
        raise ValueError(f'num_train_timesteps={steps!r}, expected the number of training timesteps, usually 1000')
    trained = found.get('trained_betas')
    if trained is None:
        _check_ends(config)
        return found
    betas = list(trained) if isinstance(trained, list | tuple) or hasattr(trained, 'tolist') else [None]
    if not betas or not all(_is_beta(beta) for beta in betas):
        raise ValueError(f'trained_betas of {len(betas)} values are no betas, expected numbers in (0, 1]; {CURE}')
    if steps not in (None, len(betas)):
        raise ValueError(f'{len(betas)} trained_betas for num_train_timesteps={steps}, expected one each; {CURE}')
    return found | dict(num_train_timesteps=len(betas))


def flow_config(config: Mapping[str, Any]) -> dict:
    """``config`` as it is.

    Args:
        config: Fields of one of :data:`FLOW`, its name as ``_class_name``, or at least how it shifts timesteps.

    Raises:
        ValueError: Another class, no field of it, or a shift that is none.
    """
    kind = config.get('_class_name', FLOW[0] if {'shift', 'use_dynamic_shifting'} & set(config) else None)
    if kind not in FLOW:
        found = 'no scheduler' if kind is None else repr(kind)
        raise ValueError(f'found {found}, expected one of flow matching ({", ".join(FLOW)}); {CURE}')
    shift, steps = config.get('shift', 1.0), config.get('num_train_timesteps', 1000)
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise ValueError(f'shift={shift!r}, expected a number above 0, in Stable Diffusion 3 it is 3.0')
    if type(steps) is not int or steps < 1:
        raise ValueError(f'num_train_timesteps={steps!r}, expected the number of training timesteps, usually 1000')
    return dict(config)


def check_pipeline_scheduler(path: Path, kind: str, with_betas: bool) -> None:
    """Makes sure that a pipeline's scheduler is of a kind whose timesteps are understood, and is all there.

    Args:
        path: Its ``scheduler_config.json``.
        kind: Its class, as ``model_index.json`` says.
        with_betas: It must have betas, since a U-Net denoises; a transformer may have been trained by flow matching.

    Raises:
        FileNotFoundError, ValueError: See :func:`read_scheduler`; the two files name classes of different kinds.
    """
    flow = not with_betas and kind in FLOW
    if not flow and kind not in NOISE:
        expected = 'a scheduler with betas' if with_betas else 'one with betas, or of flow matching'
        raise ValueError(
            f'{path.parent.parent}: model_index.json names {kind} as scheduler, expected {expected}; {CURE}'
        )
    read_scheduler(path, flow)


def _check_ends(config: Mapping[str, Any]) -> None:
    schedule = config.get('beta_schedule')
    if schedule not in (None, *BETWEEN, *ALONE):
        raise ValueError(f'unknown beta_schedule {schedule!r}; known: {", ".join((*BETWEEN, *ALONE))}')
    needed = [name for name in ENDS if schedule is None or schedule in BETWEEN]
    missing = [name for name in ('beta_schedule', *needed) if config.get(name) is None]
    if missing:
        fields = ', '.join(name for name in config if not name.startswith('_')) or 'no fields'
        raise ValueError(f'found {fields}, without {", ".join(missing)}, so there are no betas; {CURE}')
    wrong = [f'{name}={config[name]!r}' for name in needed if not _is_beta(config[name])]
    if wrong or needed and config[ENDS[0]] > config[ENDS[1]]:
        wrong = wrong or [f'{name}={config[name]!r}' for name in ENDS]
        raise ValueError(f'found {", ".join(wrong)}, expected 0 < beta_start ≤ beta_end ≤ 1; {CURE}')


def _is_beta(value: Any) -> bool:
    try:
        return not isinstance(value, bool | str) and 0 < float(value) <= 1
    except (TypeError, ValueError):
        return False
