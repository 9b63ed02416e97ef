"""Models at full size without memory, each distinct config built once."""

import functools
import json

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS


def on_meta(cfg: Config) -> torch.nn.Module:
    """The model of a config on the meta device; whoever gets it changes nothing that another test looks at."""
    return _built(json.dumps(cfg.model.to_dict(), sort_keys=True))


@functools.cache
def _built(model: str) -> torch.nn.Module:
    init_default_scope('mmseg')
    with torch.device('meta'):
        built = MODELS.build(ConfigDict(json.loads(model)))
    return built.to('meta')  # what was read from a file
