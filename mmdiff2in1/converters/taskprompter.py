"""Checkpoints of TaskPrompter on ViT: what it calls its tensors, what these are called in our segmentor, what it needs.

T tasks, in an order that is always the same; C width; N positions of patches.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.models.multitask.taskprompter import TaskPrompterHead, TaskPrompterViT

from .base import OURS, THEIRS, Converted, register
from .invpt import OTHER_TASKS, TASKS, TYPES
from .rules import Layout, Pointwise, Rule, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, arguments, module_shapes

SIZES = {1008: (448, 576), 1024: (512, 512)}
"""Positions → (H, W) of NYUD-MT and PASCAL-Context."""
WINDOWS = {768: 4, 300: 1, 780: 4}
"""Channels of the embedded features → side of the grid of channel windows, which is not seen from shapes."""
HEAD_WIDTH = 64

BACKBONE, HEAD, PROMPTS = 'backbone.', 'decode_head.branches.', 'backbone.task_prompts'
_CLASSES = f'{HEAD}semantic_segmentation.output.2.bias'
_POSITION, _W2 = 'backbone.pos_embed', 'backbone.blocks.{}.attn.token_trans1'
_NO_EFFECT = 'of the last block, which nothing reads'
_OF_TASK = {
    'backbone.fea_decode_spa.@.{theirs}.0': 'backbone.fusions.@.features.{ours}.spatial',
    'backbone.fea_decode_chan.@.{theirs}.0': 'backbone.fusions.@.features.{ours}.channel',
    'backbone.fea_fuse.@.{theirs}.0': 'backbone.fusions.@.features.{ours}.join',
    'backbone.fea_fuse.@.{theirs}.1': 'backbone.fusions.@.features.{ours}.smooth',
    'backbone.fea_fuse.@.{theirs}.2': 'backbone.fusions.@.features.{ours}.refine.0',
    'backbone.fea_fuse.@.{theirs}.4': 'backbone.fusions.@.features.{ours}.refine.2',
    'heads.{theirs}.mt_proj.0': 'decode_head.branches.{ours}.conv',
    'heads.{theirs}.mt_proj.1': 'decode_head.branches.{ours}.output.0',
    'heads.{theirs}.linear_pred': 'decode_head.branches.{ours}.output.2',
}
_SHARED = {
    'backbone.blocks.@.attn.token_trans': 'backbone.blocks.@.link.to_grid',
    'backbone.blocks.@.attn.token_trans1': 'backbone.blocks.@.link.from_grid',
    **{name: name for name in ('backbone.patch_embed', 'backbone.norm')},
    **{f'backbone.blocks.@.{name}': f'backbone.blocks.@.{name}' for name in ('norm1', 'norm2', 'mlp')},
    **{f'backbone.blocks.@.attn.{name}': f'backbone.blocks.@.attn.{name}' for name in ('qkv', 'proj')},
}


class Positions(Rule):
    """(1, 1 + N, C) in theirs, (N, C) in ours: no token stands at the first one, which has no effect; written as 0."""

    def apart(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (tensor[0, 1:],) if tensor.ndim == 3 else (tensor,)

    def together(self, tensors: Sequence[Tensor]) -> Tensor:
        (tensor,) = tensors
        return torch.cat([torch.zeros_like(tensor[:1]), tensor])[None] if tensor.ndim == 2 else tensor


@register('taskprompter')
class TaskPrompter(TableConverter):
    """The checkpoints on a plain ViT: NYUD-MT (L), PASCAL-Context (L and B).

    Settings: ``backbone``, arguments of TaskPrompterViT; ``head``, of TaskPrompterHead; ``tasks``.

    Args:
        tasks: Our names of the tasks to keep, a list or one string with commas; None: all of the file. Prompts see each
            other, so the outputs of some tasks alone are not those they have among all: train on from such a model.
        size: (H, W) of the images that the file was trained on; None: 448 × 576 or 512 × 512, by the number of
            positions.
        head_width: Channels of a head of the attention.
    """

    whose, which = 'TaskPrompter', 'on a plain ViT'
    marks = {
        'backbone.layers.': 'TaskPrompter on a Swin transformer',
        PROMPTS: THEIRS,
        'blocks.': 'a ViT alone',
        f'{BACKBONE}prompts.': OURS,
    }
    parts = {
        'ViT': (f'{BACKBONE}patch_embed.', f'{BACKBONE}position', f'{BACKBONE}blocks.', f'{BACKBONE}norm.'),
        'prompts': (f'{BACKBONE}prompts.',),
        'fusions': (f'{BACKBONE}fusions.',),
        'heads': (HEAD,),
    }
    arguments = {
        '--tasks': dict(
            help=f'those to keep, with commas, of {", ".join(TASKS.values())} (default: all of CHECKPOINT)'
        ),
        '--size': dict(nargs=2, type=int, metavar=('H', 'W'), help='of the images that it was trained on'),
    }

    def __init__(
        self, tasks: str | Sequence[str] | None = None, size: Sequence[int] | None = None, head_width: int = HEAD_WIDTH
    ) -> None:
        self.tasks = tasks.split(',') if isinstance(tasks, str) else tasks
        unknown = [name for name in self.tasks or () if name not in TASKS.values()]
        if unknown:
            raise ValueError(f'unknown tasks {", ".join(unknown)}; known: {", ".join(TASKS.values())}')
        self.size, self.head_width = size, head_width

    def layout(self, names: Iterable[str]) -> Layout:
        names = list(names)
        tasks = {theirs: TASKS[theirs] for theirs in TASKS if _has(names, theirs)}
        of_tasks = [
            Rule(theirs.format(theirs=name), ours.format(ours=own))
            for name, own in tasks.items()
            for theirs, ours in _OF_TASK.items()
        ]
        mixing = [
            Pointwise(f'backbone.ctr_attn_conv.@.{name}', f'backbone.fusions.@.mixing.{own}')
            for name, own in tasks.items()
        ]
        prompts = Rule(PROMPTS, tuple(f'{BACKBONE}prompts.{own}' for own in tasks.values()))
        last = re.escape(_W2.format(_depth(names) - 1))
        return Layout(
            [*of_tasks, *mixing, prompts, Positions(_POSITION, f'{BACKBONE}position'), *rules(_SHARED)],
            unused={_NO_EFFECT: re.compile(rf'{last}\..*')},
            key='model',
        )

    def to_ours(self, state: Tensors) -> Converted:
        if self.tasks is None:
            return super().to_ours(state)
        found = [name for name in TASKS if _has(state, name)]
        lacking = sorted(set(self.tasks) - {TASKS[name] for name in found})
        if lacking:
            raise ValueError(
                f'it has no {", ".join(lacking)}; its tasks are {", ".join(TASKS[name] for name in found)}'
            )
        others = [name for name in found if TASKS[name] not in self.tasks]
        gone = [name for name in state if any(other in name.split('.') for other in others)]
        rows = [i for i, name in enumerate(found) if name not in others]
        kept = {name: tensor for name, tensor in state.items() if name not in gone}
        if PROMPTS in kept and len(kept[PROMPTS]) == len(found):
            kept[PROMPTS] = kept[PROMPTS][rows]
        converted = super().to_ours(kept)
        return replace(converted, left_out={**converted.left_out, OTHER_TASKS: gone})

    def our_model(self, ours: Tensors) -> OurModel:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        tasks = _tasks(shapes)
        positions, width = shapes[f'{BACKBONE}position']
        first = next(iter(tasks))
        feature = f'{BACKBONE}fusions.0.features.{first}'
        depth = _depth(shapes)
        levels = len({name.split('.')[2] for name in shapes if name.startswith(f'{BACKBONE}fusions.')})
        embed, channels = shapes[f'{feature}.spatial.weight'][0], shapes[f'{feature}.smooth.weight'][0]
        backbone = dict(
            img_size=self._size(positions),
            width=width,
            depth=depth,
            heads=max(1, width // self.head_width),
            taps=tuple(depth * (i + 1) // levels for i in range(levels)),
            embed_channels=embed,
            channels=channels,
            channel_windows=WINDOWS.get(embed, 1),
            reweighted=any('.mixing.' in name for name in shapes),
            mlp_ratio=shapes[f'{BACKBONE}blocks.0.mlp.fc1.weight'][0] / width,
        )
        with torch.device('meta'):
            needed = module_shapes(
                {
                    'backbone': TaskPrompterViT(tasks, **backbone),
                    'decode_head': TaskPrompterHead(tasks, channels=channels),
                }
            )
        return OurModel(dict(tasks=tasks, backbone=backbone, head=dict(channels=channels)), needed)

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        spread = ours[f'{BACKBONE}blocks.0.link.to_grid.weight']  # (N, C)
        last = _W2.format(_depth(ours) - 1)
        zeros = {f'{last}.weight': torch.zeros_like(spread.mT), f'{last}.bias': torch.zeros_like(spread[0])}
        return {_NO_EFFECT: zeros}

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, {", ".join(settings["tasks"])}'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        embed = settings['backbone']['embed_channels']
        unseen = 'channel_windows is not seen from the tensors: 4 for NYUD-MT and ViT-B, 1 for PASCAL-Context ViT-L'
        lines = [
            f'tasks = dict({arguments(settings["tasks"])})',
            f"backbone: dict(type='TaskPrompterViT', tasks=tasks, {arguments(settings['backbone'])})",
            f"head:     dict(type='TaskPrompterHead', tasks=tasks, {arguments(settings['head'])})",
            'images:   mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], RGB',
        ]
        return '\n'.join(lines if embed in WINDOWS else [*lines, unseen])

    def _size(self, positions: int) -> tuple[int, int]:
        if self.size is not None:
            height, width = self.size
            patches = (height // 16) * (width // 16)
            if patches != positions:
                raise ValueError(f'--size {height} {width} has {patches} patches, it has {positions} positions')
            return height, width
        if positions not in SIZES and isqrt(positions) ** 2 != positions:
            raise ValueError(f'it has {positions} positions; name the size of its training images: --size H W')
        return SIZES.get(positions, (16 * isqrt(positions), 16 * isqrt(positions)))


def _has(names: Iterable[str], theirs: str) -> bool:
    """True if a file, theirs or ours, has a task."""
    starts = (f'heads.{theirs}.', f'{HEAD}{TASKS[theirs]}.')
    return any(name.startswith(starts) for name in names)


def _depth(names: Iterable[str]) -> int:
    blocks = [int(name.split('.')[2]) for name in names if re.match(r'backbone\.blocks\.\d+\.', name)]
    return max(blocks, default=0) + 1


def _tasks(shapes: Shapes) -> dict[str, dict[str, Any]]:
    """The task set that the heads are of, in their order.

    Raises:
        ValueError: None, or another task than they have.
    """
    found = {name.split('.')[2] for name in shapes if name.startswith(HEAD)}
    if not found or found - set(TASKS.values()):
        raise ValueError(
            f'its heads are for {", ".join(sorted(found)) or "no task"}; known: {", ".join(TASKS.values())}'
        )
    tasks: dict[str, dict[str, Any]] = {name: dict(type=TYPES[name]) for name in TASKS.values() if name in found}
    if 'semantic_segmentation' in tasks:
        tasks['semantic_segmentation']['num_classes'] = shapes.get(_CLASSES, (1,))[0]
    return tasks
