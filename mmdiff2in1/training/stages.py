"""The stages of a run as ordinary mmengine configs: warm-up and self-improving.

θ_C is `creator`, θ_E `exploiter`.
"""

import copy
import logging
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmdiff2in1.core.names import type_name
from mmdiff2in1.datasets import BatchMix
from mmdiff2in1.models.checkpoints import still_to_learn
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER
from mmdiff2in1.synthesis.settings import CREATOR

from .config_keys import check_keys
from .drop_last import into_batch_sampler, without_batch_sampler
from .global_batch import split_global_batch
from .labelling_stage import check_labels, rule_of
from .view_settings import FOLDER, KEY

CHAIN_KEYS = ('carry_optimizer', 'work_dir')
"""Settings of the warm-up that are no keys of its config."""
AVERAGE = 'SelfImprovingHook'
"""The one hook that a plain segmentor cannot have."""


def check_chain(cfg: Config, processes: int = 1) -> None:
    """Refuses a config that so many processes cannot run as a chain, before anything starts.

    Raises:
        ValueError: No self-improving model, unknown stages, samples without the wrapper that mixes them in, a batch
            without size or sampler, or that the processes cannot share, a mix that the batch size does not allow, or no
            last checkpoint.
    """
    if type_name(cfg.model) != 'SelfImprovingSegmentor':
        raise ValueError(
            f'model.type is {cfg.model.get("type")!r}; the chain trains a SelfImprovingSegmentor. Wrap yours: '
            "model = dict(_delete_=True, type='SelfImprovingSegmentor', segmentor=_base_.model)"
        )
    if 'stages' not in cfg:
        raise ValueError('the config has no stages = dict(warmup=…, synthesis=…); see configs/diff2in1/vpd_scenes.py')
    unknown = set(cfg.stages) - {'warmup', 'synthesis', 'labelling'}
    if unknown:
        known = 'warmup, synthesis, labelling (the config itself is the last)'
        raise ValueError(f'unknown stages {sorted(unknown)}; known: {known}')
    check_keys(cfg, CHAIN_KEYS)
    check_labels(cfg)
    _check_average(cfg)
    if (cfg.stages.get('synthesis') or {}).get('unet') == CREATOR and not cfg.stages.get('warmup'):
        raise ValueError(
            "stages.synthesis.unet='creator' is the U-Net of the warm-up, but there is no stages.warmup; name a "
            "checkpoint instead, or unet='pretrained'"
        )
    _check_scenes(cfg)
    _check_checkpoints(cfg)
    if cfg.stages.get('warmup'):
        warmup = warmup_config(cfg, Path())
        _check_checkpoints(warmup)
        split_global_batch(warmup, processes)
    own = copy.deepcopy(cfg)
    split_global_batch(own, processes)
    loader = own.train_dataloader
    for key in ('batch_size', 'sampler'):
        if loader.get(key) is None:
            raise ValueError(f'train_dataloader.{key} is {loader.get(key)}; a chain needs one, to mix real and created')
    if type_name(loader.dataset) == 'SyntheticSampleDataset':
        mix = BatchMix.parse(loader.dataset.get('mix', 'uniform'))
        mix.composition(loader.batch_size)
        if cfg.model.get('normalize_by') == 'real' and not mix.exact and store_of(cfg, Path()) is not None:
            raise ValueError(
                "model.normalize_by='real' and mix='uniform' of the training set: a batch of created samples alone, "
                "which comes sooner or later, has nothing to be normalised by; set mix=dict(added='equal'), or "
                "normalize_by='batch'"
            )
    elif cfg.stages.get('synthesis'):
        raise ValueError(
            f'stages.synthesis makes samples, but train_dataloader.dataset is a {loader.dataset.get("type")}; wrap it: '
            "dataset = dict(_delete_=True, type='SyntheticSampleDataset', dataset=_base_.train_dataloader.dataset)"
        )
    trained = cfg.get('load_from') and not still_to_learn(cfg.load_from)
    untrained = not (cfg.stages.get('warmup') or trained or cfg.stages.get('labelling'))
    if cfg.stages.get('synthesis') and untrained and _reads_creator(cfg.model):
        print_log(
            'neither stages.warmup nor load_from: θ_C labels the created images before it has learned anything; name a '
            'trained checkpoint in load_from, or give stages.warmup=dict(train_cfg=…, param_scheduler=…)',
            'current',
            logging.WARNING,
        )


def _reads_creator(model: Config) -> bool:
    """True if the label rule of a self-improving model asks what θ_C predicts."""
    rule = rule_of(model)
    return rule.reads_outputs and (rule.teachers is None or rule.teachers.asks_creator)


def _check_average(cfg: Config) -> None:
    """θ_C is what the average makes of θ_E: without it the first weights would be the result, and twice is too fast."""
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    found = sum(type_name(hook) == AVERAGE for hook in hooks if hook)
    if found != 1:
        raise ValueError(
            f'the config has {found} hooks {AVERAGE}, expected one, which makes θ_C out of θ_E: '
            f"custom_hooks=[dict(type='{AVERAGE}', alpha=0.998, samples_per_update=40), …]"
        )


def _check_scenes(cfg: Config) -> None:
    """A model that is told the kind of scene of each image cannot learn from images of which it is not known."""
    asked = [name for name in ('scenes', 'unlabelled') if (cfg.stages.get('synthesis') or {}).get(name)]
    if asked and type_name(cfg.model.segmentor) == 'SceneConditionedEstimator':
        raise ValueError(
            f'stages.synthesis.{asked[0]} gives images without a kind of scene, but a SceneConditionedEstimator must '
            'be told that of each image; leave it out, or train a model that is not'
        )


def _check_checkpoints(stage: Config) -> None:
    """A stage without its last checkpoint would be found out when it is finished."""
    hook = (stage.get('default_hooks') or {}).get('checkpoint', {})
    if hook is None or not hook.get('save_last', True):
        raise ValueError(
            f'default_hooks.checkpoint is {hook}, but a stage goes on from the last checkpoint of the one before, and '
            "the test reads it; expected dict(type='AtomicCheckpointHook', …) without save_last=False"
        )


def store_of(cfg: Config, work_dir: Path) -> Path | None:
    """Where the synthetic samples of a run are: the dataset's own ``store``, else a folder of the work dir; or None."""
    store = ((cfg.get('train_dataloader') or {}).get('dataset') or {}).get('store')
    if store is not None:
        return Path(store)
    return work_dir / 'synthetic' if (cfg.get('stages') or {}).get('synthesis') else None


def warmup_config(cfg: Config, work_dir: Path) -> Config:
    """The plain segmentor on the real samples: the config without what is self-improving, plus ``stages.warmup``.

    Dictionaries of ``stages.warmup`` are merged into those of the config, lists (hooks, schedules) take their place.
    """
    plain = copy.deepcopy(cfg)
    wrapper, plain.model = plain.model, plain.model.segmentor
    for key in ('data_preprocessor', 'init_cfg'):
        if plain.model.get(key) is None and wrapper.get(key) is not None:
            plain.model[key] = wrapper[key]
    _without_samples(plain)
    changes = {k: v for k, v in cfg.stages.warmup.items() if k not in CHAIN_KEYS}
    plain.merge_from_dict({k: v for k, v in changes.items() if not isinstance(v, list)})
    for key, value in changes.items():
        if isinstance(value, list):
            plain[key] = value
    _without_self_improving(plain)
    plain.pop('stages')
    plain.work_dir = str(work_dir)
    _place_views(plain)
    return plain


def _without_self_improving(plain: Config) -> None:
    """Takes out the parts that need θ_C beside θ_E, wherever they come from; all other settings and hooks stay."""
    for key, plain_loop in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        if type_name(plain.get(key) or {}) == f'SelfImproving{plain_loop}':
            plain[key].type = plain_loop
            plain[key].pop('exploiter', None)
    plain.custom_hooks = [hook for hook in plain.get('custom_hooks') or [] if type_name(hook) != AVERAGE]
    default_hooks = plain.get('default_hooks') or {}
    for name in [name for name, hook in default_hooks.items() if hook and type_name(hook) == AVERAGE]:
        default_hooks.pop(name)
    wrapper = plain.optim_wrapper
    constructor = wrapper.get('constructor')
    if constructor and type_name(dict(type=constructor)) == 'ExploiterOptimWrapperConstructor':
        base = wrapper.pop('base_constructor', None)
        wrapper.pop('constructor')
        if base:
            wrapper.constructor = base


def self_improving_config(cfg: Config, work_dir: Path, warmup: Path | None, store: Path | None) -> Config:
    """The config itself, over a store, starting from the warm-up's checkpoint."""
    stage = copy.deepcopy(cfg)
    if store is None:
        _without_samples(stage)
    else:
        stage.train_dataloader.dataset.store = str(store)
        into_batch_sampler(stage.train_dataloader)
    if warmup is not None:
        stage.load_from = str(warmup)
        stage.pop(MAY_DIFFER, None)  # that was said of the warm-up's start
    stage.pop('stages')
    stage.work_dir = str(work_dir)
    _place_views(stage)
    return stage


def _place_views(stage: Config) -> None:
    """Beside the folders of the stages, which share what they have in common."""
    if stage.get(KEY) and not stage[KEY].get('folder'):
        stage[KEY].folder = str(Path(stage.work_dir).parent / FOLDER)


def _without_samples(cfg: Config) -> None:
    """Keeps the wrapper, which seeds the augmentation, but without store and mix: the wrapped set, bit for bit."""
    dataset = cfg.train_dataloader.dataset
    if type_name(dataset) == 'SyntheticSampleDataset':
        seed = dataset.get('seed', 0)
        cfg.train_dataloader.dataset = ConfigDict(type=dataset.type, dataset=dataset.dataset, seed=seed)
        without_batch_sampler(cfg.train_dataloader)
