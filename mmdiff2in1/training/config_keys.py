"""Keys of a config: a misspelt one is read by nobody, and what it should have said does not happen."""

from collections.abc import Iterable

from mmengine.config import Config

from mmdiff2in1.core.names import did_you_mean, near
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER

OF_STAGE = (
    *('model', 'data_preprocessor', 'tta_model', 'load_from', 'resume', MAY_DIFFER),
    *('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'global_batch_size'),
    *('default_hooks', 'custom_hooks', 'visualizer', 'vis_backends', 'log_processor', 'log_level', 'experiment_name'),
    *('default_scope', 'custom_imports', 'env_cfg', 'launcher', 'randomness', 'work_dir', 'cached_views'),
    *('model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile'),
    *('activation_checkpointing', 'efficient_conv_bn_eval'),
)
"""Top-level keys that mmengine and this package read."""
READ = (*OF_STAGE, 'stages')
NEAR = 0.85
"""How alike two names are of which one is taken for the other misspelt; no config of mmseg has such a name."""


def check_keys(cfg: Config, of_warmup: Iterable[str]) -> None:
    """Refuses names that are almost one that is read, and keys of ``stages.warmup`` that no stage has.

    A config may hold any variables of its own, so only near misses are errors at the top level.

    Args:
        cfg: The whole config.
        of_warmup: Further keys that ``stages.warmup`` may have.

    Raises:
        ValueError: Such a key, with the one that was meant.
    """
    for key in cfg:
        if key not in READ and near(key, READ, alike=NEAR):
            meant = did_you_mean(key, READ, alike=NEAR)
            raise ValueError(f'the config has a key {key!r}, which nothing reads{meant}')
    known = (*OF_STAGE, *of_warmup)
    for key in (cfg.get('stages') or {}).get('warmup') or {}:
        if key not in known:
            meant = did_you_mean(key, known) or f'; known: {", ".join(sorted(known))}'
            raise ValueError(f'stages.warmup has a key {key!r}, which nothing reads{meant}')


def check_options(cfg: Config, keys: Iterable[str]) -> None:
    """Refuses changes to entries that neither the config has nor anything reads: they would be made, and do nothing.

    Args:
        cfg: Before the changes.
        keys: With dots, as they were typed.

    Raises:
        ValueError: The first part of a key is no key of either, with the nearest ones.
    """
    known = list(dict.fromkeys([*cfg, *READ, 'tta_pipeline']))
    for key in keys:
        first = key.partition('.')[0]
        if first not in known:
            meant = did_you_mean(first, known, 3, 0.7) or f'; the config has {", ".join(cfg)}'
            raise ValueError(f'--cfg-options {key}: the config has no {first!r}, and nothing reads it{meant}')
