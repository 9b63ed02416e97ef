"""One call in a config turns its base, any mmseg config, into the whole self-improving config.

    _base_ = ['my_config.py']
    from mmdiff2in1.training.recipes import make_self_improving

    make_self_improving(_base_, diffusion='/path/to/weights', captions='captions.jsonl', samples_per_image=1)
    load_from = 'work_dirs/my_config/iter_20000.pth'

mmengine runs the call while it reads the file, so every tool that reads configs gets the whole of it, and the copy in
the work dir holds no call. ``_base_`` stands first: a file that begins with an import is one of mmengine's lazy
configs, in which nothing can be called.
"""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdiff2in1.core.names import did_you_mean, unknown_names
from mmdiff2in1.datasets import BatchMix

from .drop_last import into_batch_sampler
from .wrappable import check_wrappable

COMPONENTS = 'mmdiff2in1.components'
CONSTRUCTOR = 'ExploiterOptimWrapperConstructor'
EQUAL = dict(added='equal')
"""The batch of the base unchanged, and as many created samples as real ones in addition."""

CREATION = dict(T=600, num_calls=20, grid='even', solver='ddim', guidance_scale=1.0, seed=0)
"""Up to T = 600 further calls gained nothing (docs/evidence/generator.md)."""
OF_THE_PAPER = CREATION | dict(num_calls=50)
PRESETS: dict[str, dict[str, Any]] = dict(
    # The paper (arXiv 2411.05005): one shuffled list, one loss of all samples alike, α = 0.998 per 40 samples. How
    # images are created is not in its sources: T and the number of calls are those of the released code on NYUv2.
    paper=dict(mix='uniform', normalize_by='pooled', alpha=0.998, samples_per_update=40, **OF_THE_PAPER),
    # The released code: θ_C sees draws of its own, an update per ten steps of 8, its own grid of timesteps; images keep
    # the size of creation. What it does otherwise still: docs/released.md.
    released=dict(
        mix='uniform',
        normalize_by='pooled',
        share_draws=False,
        alpha=0.998,
        samples_per_update=80,
        **OF_THE_PAPER | dict(grid='released', restore_size=False),
    ),
    # What did no harm in docs/evidence/loop.md: the real batch unchanged, a small weight, only what θ_C is sure of; of
    # the first θ_C 5 % are left at the end, however short the training.
    careful=dict(
        mix=EQUAL,
        normalize_by='real',
        synthetic_weight=0.3,
        label_rule=dict(type='TeacherLabel', min_confidence=0.9),
        remaining=0.05,
        samples_per_update=40,
        **CREATION,
    ),
    # A teacher that knows more: the real batch and as many created images, all of which count alike. No warm-up, as θ_C
    # labels nothing; a student may start from random weights, of which nothing should be left.
    distil=dict(
        mix=EQUAL, normalize_by='batch', synthetic_weight=1.0, remaining=0.001, samples_per_update=40, **CREATION
    ),
    # New layouts with true labels (ObjectPaste): no generator, θ_C is the average and labels nothing; see `distil`.
    paste=dict(
        mix=EQUAL,
        normalize_by='batch',
        synthetic_weight=1.0,
        label_rule=dict(type='GivenLabel'),
        labels='stored',
        remaining=0.001,
        samples_per_update=40,
        layout=dict(type='ObjectPaste'),
        T=0,
        seed=0,
    ),
)

OF_MODEL = ('normalize_by', 'synthetic_weight', 'label_rule', 'share_draws')
OF_DATASET = ('mix', 'store', 'labels')
OF_TEACHER = ('teacher', 'per_step', 'soft', 'temperature', 'min_confidence', 'mirrored', 'scales', 'balanced', 'topk')
OF_HOOK = ('alpha', 'remaining', 'samples_per_update', 'batch_may_change')
OF_CREATION = (
    *('layout', 'diffusion', 'controlnet', 'unet', 'captions', 'caption_fallback', 'scenes'),
    *('samples_per_image', 'num_samples', 'size', 'restore_size', 'condition', 'resample'),
    *CREATION,
)
OF_UNLABELLED = ('unlabelled', 'copy_unlabelled')
SETTINGS = (*OF_MODEL, *OF_TEACHER, *OF_DATASET, *OF_HOOK, *OF_CREATION, *OF_UNLABELLED)
OF_WARMUP = ('train_cfg', 'param_scheduler', 'default_hooks')
LOOPS: dict[str, dict[str, Any]] = dict(
    ValLoop=dict(type='SelfImprovingValLoop'), TestLoop=dict(type='SelfImprovingTestLoop', exploiter=True)
)
HOOK = 'SelfImprovingHook'


def make_self_improving(
    base: ConfigDict | Config, preset: str = 'careful', warmup: bool = False, **settings: Any
) -> None:
    """Changes `base`, that is ``_base_``, in place; what the config says elsewhere is merged over the result as always.

    Model, training set, optimizer constructor and evaluation loops are wrapped; hooks and imports get ours in addition.

    Args:
        base: Config of a plain segmentor.
        preset: A name of `PRESETS`.
        warmup: Length, schedule and default hooks of the base become ``stages.warmup``. Without it the base's own
            ``stages`` stay, if it has any; otherwise `load_from` brings what θ_C has learned.
        **settings: Replace those of the preset; None takes one away. `normalize_by`, `synthetic_weight`,
            `label_rule`, `share_draws`: see `SelfImprovingSegmentor`. `teacher`, `soft`, `temperature`,
            `min_confidence`, `mirrored`, `scales`, `balanced`, `topk`: see `TeacherLabel`; the labels are written once
            (``stages.labelling``), or with `per_step` made anew for every crop. `store`, `mix`, `labels`: see
            `SyntheticSampleDataset`; `alpha` or `remaining`, `samples_per_update`, `batch_may_change`: see
            `SelfImprovingHook`. The others are keys of ``stages.synthesis``, see `SynthesisSettings`. Without
            `diffusion` and `layout` nothing is created: the samples are the `unlabelled` images alone, or `store` must
            name some that are there.

    Raises:
        ValueError: Unknown preset or setting, none of `diffusion`, `layout`, `unlabelled` and `store`, a teacher beside
            another label rule or other `labels`, `per_step` beside a layout, whose labels are true, settings of a
            teacher without one, a base that has a batch sampler where an exact mix needs its own, or one that cannot
            be wrapped, see `check_wrappable`.
    """
    chosen = _with_rule(_chosen(preset, settings), preset, settings)
    check_wrappable(base)
    stages = dict(base.get('stages') or {})
    if warmup:
        stages['warmup'] = {key: copy.deepcopy(base[key]) for key in OF_WARMUP if key in base}
    if 'diffusion' in chosen or 'layout' in chosen:
        stages['synthesis'] = _part(chosen, (*OF_CREATION, *OF_UNLABELLED))
    elif 'unlabelled' in chosen:
        stages['synthesis'] = _part(chosen, OF_UNLABELLED)
    if 'labelling' in chosen:
        stages['labelling'] = chosen['labelling']
    if stages:
        base.stages = stages
    base.custom_imports = _imports(base.get('custom_imports') or {})
    base.model = dict(type='SelfImprovingSegmentor', segmentor=base.model, **_part(chosen, OF_MODEL))
    _mix_samples_in(base, chosen)
    optimizer = base.optim_wrapper
    if optimizer.get('constructor') not in (None, CONSTRUCTOR):
        optimizer.base_constructor = optimizer.constructor
    optimizer.constructor = CONSTRUCTOR
    for loop in ('val_cfg', 'test_cfg'):
        if base.get(loop):
            # A loop of another kind tests θ_C, as it finds it in the model.
            base[loop] = {**base[loop], **LOOPS.get(base[loop].get('type'), {})}
    others = [each for each in base.get('custom_hooks') or [] if each.get('type') != HOOK]
    base.custom_hooks = [*others, dict(type=HOOK, **_part(chosen, OF_HOOK))]


def _chosen(preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The preset, with the settings in place of its own."""
    if preset not in PRESETS:
        raise ValueError(f'unknown preset {preset!r}{did_you_mean(preset, PRESETS)}; known: {", ".join(PRESETS)}')
    unknown = sorted(settings.keys() - set(SETTINGS))
    if unknown:
        raise ValueError(
            f'unknown settings {unknown_names(unknown, SETTINGS)}. All else stands below the call, as in any '
            'config, for example stages = dict(synthesis=dict(batch_size=8))'
        )
    if settings.get('diffusion') is None and {**PRESETS[preset], **settings}.get('layout') is None:
        useless = [key for key in OF_CREATION if settings.get(key) is not None]
        if useless or (settings.get('store') is None and settings.get('unlabelled') is None):
            found = (
                f'{", ".join(useless)} but no diffusion' if useless else 'neither diffusion nor unlabelled nor store'
            )
            raise ValueError(
                f'got {found}; give diffusion=… (what creates: a folder or file of weights), only unlabelled=… (a '
                'folder of your own images), or only store=… (a folder of samples that are there)'
            )
    inherited = dict(PRESETS[preset])
    if 'alpha' in settings or 'remaining' in settings:  # two ways to say one thing
        inherited = {key: value for key, value in inherited.items() if key not in ('alpha', 'remaining')}
    return {key: value for key, value in {**inherited, **settings}.items() if value is not None}


def _with_rule(chosen: dict[str, Any], preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a teacher is named: the label rule that asks it, or the stage that writes its labels and who reads them."""
    own, asked = _part(chosen, OF_TEACHER), settings.get('label_rule')
    rest = {key: value for key, value in chosen.items() if key not in OF_TEACHER}
    if 'teacher' not in own:
        if own or preset == 'distil' and 'label_rule' not in chosen:
            found = f'got {", ".join(own)}, but no teacher' if own else f'preset={preset!r} and no teacher'
            raise ValueError(f"{found}; give teacher=dict(config='….py', checkpoint='….pth'), or a list of such")
        given = dict(label_rule=dict(type='GivenLabel'), labels='stored')  # what a layout composes has true labels
        return chosen | given if 'layout' in chosen and asked is None else chosen
    if asked is not None:
        raise ValueError(f'teacher={own["teacher"]} and label_rule={asked}: drop one of them')
    # How sure θ_C must be in this preset is how sure the teacher must be.
    own = {key: value for key, value in rest.pop('label_rule', {}).items() if key not in ('type', *settings)} | own
    if own.pop('per_step', False):
        if 'layout' in chosen:
            raise ValueError(
                f'layout={chosen["layout"]} composes true labels, and with per_step=True the teacher would label in '
                'their place; without it they stay, and all other images get labels of the teacher'
            )
        if 'topk' in own:
            raise ValueError(f'topk={own["topk"]} is of labels that are written; with per_step=True they are not')
        return rest | dict(label_rule=dict(type='TeacherLabel', **own))
    if own.get('balanced'):
        raise ValueError('balanced=True looks at a whole batch of a training: set per_step=True as well')
    if rest.get('labels', 'stored') != 'stored':
        raise ValueError(
            f'labels={rest["labels"]!r} and a teacher, whose labels are stored: leave out one of them, or '
            'set per_step=True'
        )
    return rest | dict(label_rule=dict(type='GivenLabel'), labels='stored', labelling=own)


def _imports(given: Mapping[str, Any]) -> dict[str, Any]:
    modules = given.get('imports') or []
    modules = [modules] if isinstance(modules, str) else list(modules)
    return dict(allow_failed_imports=False) | dict(given, imports=list(dict.fromkeys([*modules, COMPONENTS])))


def _mix_samples_in(base: ConfigDict | Config, chosen: Mapping[str, Any]) -> None:
    loader, mix = base.train_dataloader, chosen.get('mix', 'uniform')
    if BatchMix.parse(mix).exact:
        if loader.get('batch_sampler'):
            raise ValueError(
                f'the base has a batch_sampler, {loader.batch_sampler.get("type")}, in place of which mix={mix} needs '
                "a MixedBatchSampler; take it out, or choose mix='uniform'"
            )
        loader.batch_sampler = dict(type='MixedBatchSampler')
        into_batch_sampler(loader)
    # No store: the stage chain's own, <work_dir>/synthetic.
    inner, labels = loader.dataset, _part(chosen, ('labels',))
    loader.dataset = dict(type='SyntheticSampleDataset', dataset=inner, store=chosen.get('store'), mix=mix, **labels)


def _part(chosen: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: chosen[name] for name in names if name in chosen}
