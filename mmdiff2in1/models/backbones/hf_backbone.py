"""HFBackbone: any backbone of transformers as a plain mmseg backbone; no other file of models/ imports transformers.

B, 3, H, W: images as the model's authors normalise them.
"""

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoBackbone, AutoConfig, EfficientNetModel, SegformerModel

from mmdiff2in1.core.names import some
from mmdiff2in1.generators.model_files import variant_in
from mmdiff2in1.generators.reading import loading

from .efficientnet_levels import level_ends, level_maps, prepare
from .frozen_features import FrozenFeatures
from .segformer_stages import stage_maps

PROBE_SIDE = 448
"""A multiple of every usual patch size and stride (14, 16, 32, 64)."""
NO_SHAPE = ('architectures', 'transformers_version', 'dtype', 'torch_dtype', 'id2label', 'label2id', 'problem_type')
"""Fields of a transformers config that say nothing of feature maps."""


@dataclass(frozen=True)
class _Family:
    """A family without a backbone class in transformers: its model, the number of its maps, how they are read."""

    build: Callable[[Any], nn.Module]
    count: Callable[[nn.Module], int]
    maps: Callable[[nn.Module, Tensor, list[int]], list[Tensor]]
    prepare: Callable[[nn.Module], None] = lambda model: None


FAMILIES = dict(
    efficientnet=_Family(EfficientNetModel, lambda model: len(level_ends(model)), level_maps, prepare),
    segformer=_Family(SegformerModel, lambda model: model.config.num_encoder_blocks, stage_maps),
)


@MODELS.register_module()
class HFBackbone(BaseModule):
    """Feature maps of Swin, ConvNeXt, DINOv2, DINOv3, … (`AutoBackbone`), EfficientNet and SegFormer, fine to coarse.

    Nothing is downloaded. The data preprocessor normalises, and must do so as the model was trained: for most of them
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True. Parameters that the maps do not depend
    on (DINOv2's mask token, Swin's last norm …) get no gradient, so that DDP needs no search for them.

    EfficientNet gives the five levels at strides 2 to 32 (:mod:`.efficientnet_levels`); for B5 they have 24, 40, 64,
    176 and 2048 channels. Its config's `batch_norm_momentum` is read in Keras's sense: the share that is kept.

    Args:
        model: `dict(model_type='swin', …)`, the fields of a transformers config, for random weights; or a folder as
            `save_pretrained` writes it and the Hugging Face Hub keeps it, for its weights.
        pretrained: A folder whose weights are loaded into the `model` of a dict.
        out_indices: Which maps to give. EfficientNet: levels 0 to 4; SegFormer: stages 0 to 3; others: as transformers
            counts its stages, 0 being the stem; an image that is handed through is none. None: of every stride the
            last one.
        frozen: Nothing is trained, norms keep their statistics, and θ_C and θ_E share its maps.

    Attributes:
        out_channels: Widths of the maps.
        strides: Their strides; a map has H / stride rows, rounded as the model does it.

    Raises:
        FileNotFoundError: A folder without weights, or with some of its shards.
        ValueError: Not a folder, damaged files, an unknown family, field or index, or a checkpoint that lacks
            parameters.
    """

    def __init__(
        self,
        model: str | dict,
        pretrained: str | None = None,
        out_indices: Sequence[int] | None = None,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        folder = pretrained if isinstance(model, Mapping) else model
        if folder is not None and not (Path(folder).expanduser() / 'config.json').is_file():
            raise ValueError(
                f'found {str(folder)!r}, which is no folder with a config.json, expected one as save_pretrained writes '
                'it. Nothing is downloaded: fetch a model of the Hub with `hf download NAME --local-dir FOLDER` and '
                'name the folder, or give dict(model_type=…) for random weights'
            )
        folder = folder and str(Path(folder).expanduser())
        if folder:
            variant_in(Path(folder), safetensors_only=True)
        self.config = _config(model) if isinstance(model, Mapping) else _config_in(folder)
        wanted = None if out_indices is None else tuple(out_indices)
        found = _probe(self.config.to_json_string(use_diff=False), wanted)
        self.out_indices, self.out_channels, self.strides = (list(each) for each in found[:3])
        self.model = _model(self.config, self.out_indices, folder)
        self.model.is_init = True  # else mmengine calls transformers' init_weights on top of what was loaded
        self.frozen = frozen
        if frozen:
            self.model.requires_grad_(False)
        for name, parameter in self.model.named_parameters():
            if name not in found[3]:
                parameter.requires_grad_(False)
        self.train()

    def described(self) -> dict[str, Any]:
        """A `model` of the same architecture without a folder; its weights are random until others are loaded."""
        fields = self.config.to_diff_dict()
        kept = {name: value for name, value in fields.items() if not name.startswith('_') and name not in NO_SHAPE}
        return {'model_type': self.config.model_type} | kept

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that no training changes; θ_C and θ_E hold the same objects."""
        return [self.model] if self.frozen else []

    def frozen_features(self, images: Tensor | FrozenFeatures) -> Tensor | FrozenFeatures:
        """The maps of a frozen model, which θ_C and θ_E share, as they are if given; else the images, (B, 3, H, W)."""
        if not self.frozen or isinstance(images, FrozenFeatures):
            return images
        size = (int(images.shape[-2]), int(images.shape[-1]))
        with torch.no_grad():
            return FrozenFeatures(size, pyramid=_maps(self.model, images, self.out_indices))

    def forward(self, inputs: Tensor | FrozenFeatures) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), or what :meth:`frozen_features` made of them → one map per index."""
        found = self.frozen_features(inputs)
        if isinstance(found, FrozenFeatures) and found.pyramid is not None:
            return found.pyramid
        return _maps(self.model, found, self.out_indices)

    def train(self, mode: bool = True) -> 'HFBackbone':
        """As every module; a frozen one stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self


def _config(fields: Mapping[str, Any]) -> Any:
    fields = dict(fields)
    family = fields.pop('model_type', None)
    if family not in CONFIG_MAPPING:
        raise ValueError(f'unknown model_type {family!r}; known are those of transformers: swin, convnext, dinov2, '
                         'dinov3_vit, efficientnet, segformer, …')  # fmt: skip
    known = CONFIG_MAPPING[family]()
    unknown = [name for name in fields if not hasattr(known, name)]
    if unknown:
        raise ValueError(f'{family}: unknown config fields {unknown}; known: {", ".join(sorted(known.to_dict()))}')
    return CONFIG_MAPPING[family](**fields)


def _config_in(folder: Any) -> Any:
    with loading(Path(folder)):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _backbone(config: Any) -> nn.Module:
    return AutoBackbone.from_config(config, trust_remote_code=False)


def _model(config: Any, out_indices: list[int], folder: str | None = None) -> nn.Module:
    """The transformers model, with the weights of a folder or random ones, in float32."""
    config = copy.deepcopy(config)
    config.dtype = torch.float32
    family = FAMILIES.get(config.model_type)
    if family is None:
        config.out_indices = out_indices
    build = _backbone if family is None else family.build
    if folder is None:
        model = build(config)
    else:
        with torch.device('meta'):
            kind = type(build(config))
        variant = variant_in(Path(folder), safetensors_only=True)
        with loading(Path(folder)):
            model, found = kind.from_pretrained(
                folder,
                config=config,
                variant=variant,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are an error below, which says so in one line
                output_loading_info=True,
            )
        # Norms of the maps are made by the backbone class; classifiers have none.
        missing = [name for name in found['missing_keys'] if not name.startswith('hidden_states_norms.')]
        missing = sorted({*missing, *(name for name, *_ in found['mismatched_keys'])})
        if missing:
            raise ValueError(
                f'{folder}: {len(missing)} parameters of {kind.__name__} are missing or of another shape: '
                f'{some(missing)}; is it a checkpoint of that model, and does `model` describe it?'
            )
        new, unused = (sorted(found[key]) for key in ('missing_keys', 'unexpected_keys'))
        print_log(f'{folder}: loaded; new, from initialisation: {new}; not used: {unused}', 'current')
    if family is not None:
        family.prepare(model)
    return model


def _maps(model: nn.Module, images: Tensor, out_indices: list[int]) -> tuple[Tensor, ...]:
    family = FAMILIES.get(model.config.model_type)
    return tuple(model(images).feature_maps if family is None else family.maps(model, images, out_indices))


@functools.lru_cache(maxsize=16)
def _probe(fields: str, out_indices: tuple[int, ...] | None) -> tuple[list[int], list[int], list[int], set[str]]:
    """Indices, channels, strides and the parameters that the maps depend on, of a config as JSON.

    Found by a run on the meta device, without memory or arithmetic; once, as a chain builds its model for every stage.
    """
    values = json.loads(fields)
    config = CONFIG_MAPPING[values['model_type']].from_dict(values)
    with torch.device('meta'), torch.enable_grad():
        family = FAMILIES.get(config.model_type)
        if family is not None:
            count = family.count(_model(config, []))
        else:
            try:
                count = len(_backbone(config).stage_names)
            except ValueError as error:
                raise ValueError(
                    f'{config.model_type}: transformers has no backbone of this family; take an encoder of DINOv2, '
                    'DINOv3, ConvNeXt, Swin, BEiT, ResNet, PVTv2, FocalNet, SegFormer or EfficientNet'
                ) from error
        model = _model(config, list(range(count)))
        found = _maps(model, _probe_images(config), list(range(count)))
        # DINOv3's ConvNeXt counts the image itself as its stem: no weight has seen it.
        every = [i for i, x in enumerate(found) if x.requires_grad]
        wrong = [i for i in out_indices or () if i not in every]
        if wrong or out_indices is not None and not out_indices:
            raise ValueError(f'{config.model_type}: out_indices={list(out_indices)}, expected some of {every}')
        strides = [_stride(x) for x in found]
        indices = sorted(out_indices or (i for i in every if strides[i] not in strides[i + 1 :]))
        maps = [found[i] for i in indices]
        sum(x.sum() for x in maps).backward()
    read = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    return indices, [x.shape[1] for x in maps], [strides[i] for i in indices], read


def _probe_images(config: Any) -> Tensor:
    return torch.empty(1, getattr(config, 'num_channels', 3), PROBE_SIDE, PROBE_SIDE)


def _stride(maps: Tensor) -> int:
    return PROBE_SIDE // maps.shape[-1]
