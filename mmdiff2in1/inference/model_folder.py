"""A trained model as a folder that can be handed on: `config.json`, `model.safetensors`, `README.md`; for some class
tokens beside them.

The folder stands alone, apart from a diffusion model that the backbone reads, which the card names. Frozen weights of
that are not in the folder, see `left_out`.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.generators.class_embeddings import copy_class_embeddings
from mmdiff2in1.models.checkpoints import write_state
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.tasks import TaskSet

from .folder_config import CONFIG, read_folder_config, write_folder_config
from .frozen_weights import left_out
from .model_card import CARD, Claims, model_card

WEIGHTS = 'model.safetensors'
EMBEDDINGS = 'class_embeddings.safetensors'
"""Only of a model whose config reads its class tokens from a file."""
BUILT_IN = Path(__file__).parent / 'builtin'
GENERATION = ('T', 'num_calls', 'grid', 'solver', 'guidance_scale', 'size')
"""Settings of `stages.synthesis` that creating goes by."""


def write_model_folder(
    folder: Path,
    cfg: Config,
    segmentor: nn.Module,
    tasks: TaskSet,
    dataset_meta: Mapping[str, Any],
    claims: Claims,
    half: bool = False,
) -> None:
    """Writes the files.

    Args:
        folder: New, empty, or one that this function has written.
        cfg: The config that the model was built from, with its data preprocessor in `model`.
        segmentor: θ_C or θ_E of it, or the one model.
        tasks: What it predicts.
        dataset_meta: `classes`, `palette`, `reduce_zero_label`.
        claims: What the card says besides.
        half: Store parameters as float16, buffers as they are; they are read as float32.

    Raises:
        FileExistsError: The folder holds something else.
        ValueError: A config that JSON cannot hold.
    """
    ours = {CONFIG, WEIGHTS, CARD, EMBEDDINGS}
    others = sorted(each.name for each in folder.iterdir() if each.name not in ours) if folder.is_dir() else []
    if others or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f'{folder} holds {", ".join(others[:5]) or "no folder"}; name a new or an empty folder')
    folder.mkdir(parents=True, exist_ok=True)
    handed_on = config_to_hand_on(cfg, segmentor, tasks, dataset_meta)
    tokens = _backbone(handed_on).get('class_embeddings')
    if tokens:
        copy_class_embeddings(tokens, folder / EMBEDDINGS)
        _backbone(handed_on)['class_embeddings'] = EMBEDDINGS
    elsewhere = left_out(segmentor)
    if elsewhere is not None:
        _backbone(handed_on)['diffusion_sha256'] = elsewhere.sha256
    write_folder_config(folder, handed_on)
    without = elsewhere.names if elsewhere else frozenset()
    halved = {name for name, tensor in segmentor.named_parameters() if half and tensor.is_floating_point()}
    # Tensors that share memory, which safetensors refuses, are stored each for itself.
    state = {
        name: tensor.detach().to('cpu', torch.float16 if name in halved else tensor.dtype, copy=True).contiguous()
        for name, tensor in segmentor.state_dict().items()
        if name not in without
    }
    write_state(folder / WEIGHTS, state)
    card = model_card(folder.resolve().name, segmentor, tasks, dataset_meta, needed_diffusion(handed_on), claims)
    write_atomically(folder / CARD, card.encode())


def config_to_hand_on(cfg: Config, segmentor: nn.Module, tasks: TaskSet, dataset_meta: Mapping[str, Any]) -> Config:
    """What perceiving and creating need of a config: the plain model, how images reach it, classes, how to create."""
    model = copy.deepcopy(cfg.model)
    if model.get('segmentor'):
        plain = model.segmentor
        plain.setdefault('data_preprocessor', model.get('data_preprocessor'))
        # Tasks that the segmentor does not tell by itself are told by the wrapper.
        same = repr(build_tasks(None, segmentor)) == repr(build_tasks(tasks, segmentor))
        told = {} if same else dict(task=model.get('task'))
        model = plain if same else dict(type='SelfImprovingSegmentor', segmentor=plain, **told)
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = dataset.get('pipeline') or cfg.get('test_pipeline') or [dict(type='PackSegInputs')]
    meta = {key: dataset_meta[key] for key in ('classes', 'palette') if dataset_meta.get(key)}
    numbering = dict(reduce_zero_label=True) if dataset_meta.get('reduce_zero_label') else {}
    creation = (cfg.get('stages') or {}).get('synthesis') or {}
    handed_on = dict(
        default_scope=cfg.get('default_scope') or 'mmseg',
        custom_imports=dict(imports=_imports(cfg), allow_failed_imports=False),
        model=_without_pretrained(model),
        test_pipeline=pipeline,
        test_dataloader=dict(dataset=dict(metainfo=meta, **numbering)),
    )
    creation = {key: creation[key] for key in GENERATION if key in creation}
    if creation:
        handed_on['stages'] = dict(synthesis=creation)
    result = Config(handed_on)
    if isinstance(_backbone(result).get('model'), str) and hasattr(segmentor.backbone, 'described'):
        _backbone(result)['model'] = segmentor.backbone.described()  # the weights lie beside the config
    path = needed_diffusion(result)
    if path:
        _backbone(result)['diffusion'] = Path(path).name
    return result


def read_model_folder(folder: Path, diffusion: str | Path | None) -> tuple[Config, Path]:
    """The config and the weights of a folder; nothing in it is run.

    Args:
        folder: See `write_model_folder`.
        diffusion: The diffusion model that the backbone reads, for a model that needs one that is not in the folder.

    Raises:
        FileNotFoundError: A file of it is missing.
        ValueError: See `read_folder_config`; or a diffusion model is needed and none given.
    """
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        found = ', '.join(sorted(each.name for each in folder.iterdir())[:10]) or 'nothing'
        raise FileNotFoundError(
            f'{folder}: missing {" and ".join(missing)}, found {found}; expected a folder that `mmdiff2in1 export '
            'CHECKPOINT --config CONFIG --folder FOLDER` wrote'
        )
    cfg = read_folder_config(folder)
    if _backbone(cfg).get('class_embeddings') == EMBEDDINGS:
        _backbone(cfg)['class_embeddings'] = str(folder / EMBEDDINGS)
    needed = needed_diffusion(cfg)
    if needed:
        if diffusion is None:
            raise ValueError(
                f'{folder}: this model perceives with the diffusion model {needed!r}, which is not in the folder; name '
                'its own folder by diffusion=…'
            )
        _backbone(cfg)['diffusion'] = str(diffusion)
    return cfg, folder / WEIGHTS


def needed_diffusion(cfg: Config) -> str | None:
    """The diffusion model that the backbone of a config reads from a place outside of package and folder."""
    asked = _backbone(cfg).get('diffusion')
    return asked if isinstance(asked, str) and not asked.startswith('builtin:') else None


def _backbone(cfg: Config) -> dict:
    model = cfg.model.get('segmentor') or cfg.model
    return model.get('backbone') or {}


def _imports(cfg: Config) -> list[str]:
    asked = (cfg.get('custom_imports') or {}).get('imports') or []
    return list(dict.fromkeys(['mmdiff2in1.components', *([asked] if isinstance(asked, str) else asked)]))


def _without_pretrained(part: Any) -> Any:
    """Without the checkpoints that a training began from: the weights lie beside the config."""
    if isinstance(part, dict):
        kept = {key: value for key, value in part.items() if key != 'pretrained' and not _begins(key, value)}
        return {key: _without_pretrained(value) for key, value in kept.items()}
    return type(part)(map(_without_pretrained, part)) if isinstance(part, list | tuple) else part


def _begins(key: str, value: Any) -> bool:
    return key == 'init_cfg' and isinstance(value, Mapping) and value.get('type') == 'Pretrained'
