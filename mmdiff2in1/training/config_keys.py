"""Keys of a config: a misspelt one is read by nobody, and what it should have said does not happen."""

from collections.abc import Iterable
from difflib import get_close_matches

from mmengine.config import Config

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
        meant = get_close_matches(key, READ, n=1, cutoff=NEAR)
        if key not in READ and meant:
            raise ValueError(f'the config has a key {key!r}, which nothing reads; did you mean {meant[0]!r}?')
    known = (*OF_STAGE, *of_warmup)
    for key in (cfg.get('stages') or {}).get('warmup') or {}:
        if key not in known:
            meant = get_close_matches(key, known, n=1)
            near = f'; did you mean {meant[0]!r}?' if meant else f'; known: {", ".join(sorted(known))}'
            raise ValueError(f'stages.warmup has a key {key!r}, which nothing reads{near}')
