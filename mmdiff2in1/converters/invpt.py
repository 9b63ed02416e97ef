"""The checkpoints of InvPT: what it calls its tensors, what these are called in our segmentor, and what it needs.

Theirs are counted by the position of a task among those of the file, in the order of `TASKS`; ours have its name.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.models.backbones.vit_levels import ViTLevels
from mmdiff2in1.models.multitask.invpt import InvPTHead

from .base import OURS, THEIRS, register
from .rules import Layout, Rule, below, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, arguments, module_shapes

TASKS = dict(
    semseg='semantic_segmentation',
    depth='depth',
    human_parts='human_parts',
    sal='saliency',
    normals='normal',
    edge='edge',
)
"""Their name → ours, in the order in which all multi-task checkpoints of these authors count them."""
TYPES = dict(
    semantic_segmentation='SemanticSegmentation',
    depth='Depth',
    human_parts='HumanParts',
    saliency='Saliency',
    normal='SurfaceNormal',
    edge='Edges',
)
DECODER, INVPT, HEAD = 'multi_task_decoder.', 'multi_task_decoder.invpt.', 'decode_head.'
GRIDS = {28 * 36: (28, 36)}
"""Patches of a published checkpoint → its grid, where that is no square."""
NO_EFFECT, OTHER_TASKS = 'without effect', 'of tasks that are left out'
_UNREAD = re.compile(
    rf'{DECODER}scale_embed\.2\..*|{INVPT}(redu_chan\.0\.|norm_mt\.|invpt_stages\.0\.blocks\.0\.attn\.fuse_attn\.).*'
)
_BLOCK = f'{INVPT}invpt_stages.@.blocks.0'
_SHARED = {
    'backbone': 'backbone',
    f'{DECODER}scale_embed.0': f'{HEAD}fine',
    f'{DECODER}scale_embed.1': f'{HEAD}middle',
    f'{_BLOCK}.norm1': f'{HEAD}stages.@.norm1',
    f'{_BLOCK}.norm2': f'{HEAD}stages.@.norm2',
    f'{_BLOCK}.mlp': f'{HEAD}stages.@.mlp',
    f'{_BLOCK}.attn.proj_q': f'{HEAD}stages.@.attention.query',
    f'{_BLOCK}.attn.proj_k': f'{HEAD}stages.@.attention.key',
    f'{_BLOCK}.attn.proj_v': f'{HEAD}stages.@.attention.value',
    f'{_BLOCK}.attn.proj': f'{HEAD}stages.@.attention.output',
    f'{_BLOCK}.attn.fuse_attn': f'{HEAD}stages.@.attention.fuse',
}


@dataclass(frozen=True)
class Slices(Rule):
    """Of `count` equal pieces along the first dimension of theirs, one for each task, ours has those at `kept`."""

    count: int = 1
    kept: tuple[int, ...] = ()

    def apart(self, tensor: Tensor) -> tuple[Tensor, ...]:
        pieces = tensor.tensor_split(self.count)
        return tuple(pieces[i] for i in self.kept)

    def together(self, tensors: Sequence[Tensor]) -> Tensor:
        pieces = dict(zip(self.kept, tensors, strict=True))
        return torch.cat([pieces.get(i, torch.zeros_like(tensors[0])) for i in range(self.count)])


@register('invpt')
class InvPT(TableConverter):
    """The checkpoints for NYUD-MT and PASCAL-Context.

    Settings: ``backbone``, arguments of ViTLevels; ``head``, of InvPTHead.

    Args:
        tasks: Our names of the tasks to keep, a list or one string with commas; None: all of the file.
    """

    whose = 'InvPT'
    marks = {INVPT: THEIRS, f'{HEAD}preliminary.': OURS}
    parts = {
        'ViT': ('backbone.',),
        'skips': (f'{HEAD}fine.', f'{HEAD}middle.'),
        'preliminary': (f'{HEAD}preliminary.',),
        'stages': (f'{HEAD}stages.',),
        'outputs': (f'{HEAD}norms.', f'{HEAD}outputs.'),
    }
    arguments = {
        '--tasks': dict(help=f'those to keep, with commas, of {", ".join(TYPES)} (default: all of CHECKPOINT)')
    }

    def __init__(self, tasks: str | Sequence[str] | None = None):
        self.tasks = tasks.split(',') if isinstance(tasks, str) else tasks
        unknown = [name for name in self.tasks or () if name not in TYPES]
        if unknown:
            raise ValueError(f'unknown tasks {", ".join(unknown)}; known: {", ".join(TYPES)}')

    def layout(self, names: Iterable[str]) -> Layout:
        there = tasks_of(names)
        kept = [task for task in there if self.tasks is None or TASKS[task] in self.tasks]
        absent = [name for name in self.tasks or () if name not in [TASKS[task] for task in there]]
        if absent:
            raise ValueError(f'it has no {", ".join(absent)}; its tasks are {", ".join(TASKS[t] for t in there)}')
        positions = tuple(there.index(task) for task in kept)
        table = rules(_SHARED)
        for kind, ours in (('weight', 'weights'), ('bias', 'biases')):
            places = tuple(f'{HEAD}norms.@.{ours}.{TASKS[task]}' for task in kept)
            table.append(Slices(f'{INVPT}norm_mts.@.{kind}', places, count=len(there), kept=positions))
        for task, position in zip(kept, positions, strict=True):
            table += _task_rules(task, position)
        unused = {NO_EFFECT: _UNREAD}
        if len(kept) < len(there):
            unused[OTHER_TASKS] = _of_tasks([(task, i) for i, task in enumerate(there) if task not in kept])
        return Layout(table, unused, key='model')

    def our_model(self, ours: Tensors) -> OurModel:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        backbone, head = backbone_settings(shapes), head_settings(shapes)
        with torch.device('meta'):
            needed = module_shapes({'backbone': ViTLevels(**backbone), 'decode_head': InvPTHead(**head)})
        return OurModel(dict(backbone=backbone, head=head), needed)

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        tasks, widths = tasks_of(shapes), _widths(shapes)
        layers = {
            f'{DECODER}scale_embed.2': (widths[0], shapes[f'{HEAD}middle.weight'][1], 3, 3),
            f'{INVPT}norm_mt': (len(tasks) * widths[2],),
            f'{INVPT}invpt_stages.0.blocks.0.attn.fuse_attn': shapes[f'{HEAD}stages.1.attention.fuse.weight'],
            **{f'{INVPT}redu_chan.0.{j}': (widths[0], widths[0], 1, 1) for j in range(len(tasks))},
        }
        zeros = {f'{name}.weight': torch.zeros(shape) for name, shape in layers.items()}
        return {NO_EFFECT: zeros | {f'{name}.bias': torch.zeros(shape[0]) for name, shape in layers.items()}}

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, {", ".join(settings["head"]["tasks"])}'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        backbone, head = dict(settings['backbone']), dict(settings['head'])
        return '\n'.join(
            [
                'data_preprocessor: mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True',
                f'tasks:    {head.pop("tasks")!r}',
                f"backbone: dict(type='ViTLevels', {arguments(backbone)})",
                f"head:     dict(type='InvPTHead', tasks=tasks, {arguments(head)})",
            ]
        )


def tasks_of(names: Iterable[str]) -> list[str]:
    """Their names of the tasks that a file, theirs or ours, has heads of, in their order."""
    names = list(names)
    theirs = {name.split('.')[1] for name in names if name.startswith('heads.')}
    ours = {name.split('.')[2] for name in names if name.startswith(f'{HEAD}outputs.')}
    return [task for task, own in TASKS.items() if task in theirs or own in ours]


def backbone_settings(shapes: Shapes) -> dict[str, Any]:
    """Arguments of ViTLevels; heads of 64 channels, as all published ViTs have.

    Raises:
        KeyError: A tensor that says how large it is is missing.
    """
    width, _, patch, _ = shapes['backbone.patch_embed.proj.weight']
    count = shapes['backbone.pos_embed'][1] - 1
    side = math.isqrt(count)
    grid = (side, side) if side * side == count else GRIDS.get(count, (1, count))
    return dict(
        img_size=(patch * grid[0], patch * grid[1]),
        width=width,
        depth=len({name.split('.')[2] for name in shapes if name.startswith('backbone.blocks.')}),
        heads=max(1, width // 64),
        patch=patch,
    )


def head_settings(shapes: Shapes) -> dict[str, Any]:
    """Arguments of InvPTHead that are seen from the tensors.

    Raises:
        KeyError: A tensor that says how large it is is missing.
    """
    tasks: dict[str, dict[str, Any]] = {TASKS[task]: dict(type=TYPES[TASKS[task]]) for task in tasks_of(shapes)}
    if not tasks:
        raise KeyError(f'{HEAD}outputs.{next(iter(TYPES))}.predict.weight')
    if 'semantic_segmentation' in tasks:
        tasks['semantic_segmentation']['num_classes'] = shapes[f'{HEAD}outputs.semantic_segmentation.predict.weight'][0]
    first = f'{HEAD}preliminary.{next(iter(tasks))}'
    return dict(
        tasks=tasks,
        in_channels=[
            shapes[f'{HEAD}fine.weight'][0],  # transposed
            shapes[f'{HEAD}middle.weight'][1],
            shapes[f'{first}.layers.0.0.weight'][1],
        ],
        channels=shapes[f'{first}.layers.1.0.weight'][0],
        widths=_widths(shapes),
    )


def _widths(shapes: Shapes) -> list[int]:
    return [shapes[f'{HEAD}stages.{i}.norm1.weight'][0] for i in range(3)]


def _task_rules(task: str, position: int) -> list[Rule]:
    """Of the layers that a task has of its own."""
    ours = TASKS[task]
    preliminary, output = f'{HEAD}preliminary.{ours}', f'{HEAD}outputs.{ours}'
    embedding = {'proj.1': '0.0', 'proj.2': '0.1', 'proj.4': '1.0', 'proj.5': '1.1'}
    return [
        *rules(
            {
                f'{DECODER}preliminary_decoder.{task}.@.conv': f'{preliminary}.layers.@.0',
                f'{DECODER}preliminary_decoder.{task}.@.bn1': f'{preliminary}.layers.@.1',
                f'{DECODER}intermediate_head.{task}': f'{preliminary}.predict',
                f'{INVPT}mix_proj.{task}.0': f'{preliminary}.mix',
                f'{_BLOCK}.attn.conv_proj_q.{position}.conv': f'{HEAD}stages.@.attention.query_convs.{ours}.0',
                f'{_BLOCK}.attn.conv_proj_q.{position}.bn': f'{HEAD}stages.@.attention.query_convs.{ours}.1',
                f'{INVPT}redu_chan.@.{position}': f'{output}.reduce.@',
                f'{INVPT}mt_proj.{task}': f'{output}.layers',
                f'heads.{task}.linear_pred': f'{output}.predict',
            }
        ),
        *below(
            rules(embedding),
            f'{INVPT}invpt_stages.@.patch_embed.{position}.',
            f'{HEAD}stages.@.embeddings.{ours}.',
        ),
    ]


def _of_tasks(tasks: Sequence[tuple[str, int]]) -> re.Pattern:
    """The tensors that these tasks, by name and position, have of their own."""
    names, positions = '|'.join(name for name, _ in tasks), '|'.join(str(i) for _, i in tasks)
    by_name = rf'(heads|{DECODER}(intermediate_head|preliminary_decoder|invpt\.(mix_proj|mt_proj)))\.({names})\..*'
    by_position = rf'{INVPT}(redu_chan\.\d+|invpt_stages\.\d+\..*(patch_embed|conv_proj_q))\.({positions})\..*'
    return re.compile(f'{by_name}|{by_position}')
