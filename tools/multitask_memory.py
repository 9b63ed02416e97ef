"""What a training step of TaskPrompter keeps for its backward pass, beside the same model written plainly.

    python tools/multitask_memory.py

One image at full size, all published tasks, float32, counted exactly on tensors without memory: no weights, no data, a
minute. "plain" holds the raw scores and the shares of attention of every block, as the published code does. "again" is
the most that one piece of ours computes a second time while the backward pass runs through it, on top of "ours".
"""

from pathlib import Path

import mmseg.models  # noqa: F401  registers mmseg's parts
import torch
from benchmarks.plain_taskprompter import Setup, forward
from benchmarks.saved import saved_bytes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import mmdiff2in1.components  # noqa: F401  registers the models
from mmdiff2in1.converters.taskprompter import TASKS, TaskPrompter

CONFIGS = Path(__file__).parents[1] / 'configs' / '_base_' / 'models'
VARIANTS = {
    'NYUD-MT, ViT-L': 'taskprompter_vit-l.py',
    'PASCAL-Context, ViT-L': 'taskprompter_vit-l_pascal-context.py',
    'PASCAL-Context, ViT-B': 'taskprompter_vit-b.py',
}
MB = 1e6


def published(name: str) -> Config:
    """The config of a model with edges, as it was published."""
    config = Config.fromfile(CONFIGS / name).model
    for part in (config.task, config.backbone.tasks, config.decode_head.tasks):
        part.edge = dict(type='Edges')
    return config


def measured(config: Config) -> dict[str, float]:
    """Megabytes of one training step, by what they are."""
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(config).train()
    height, width = config.backbone.img_size
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device='cpu')
        images = torch.empty(1, 3, height, width)
        weights = [*model.parameters(), *model.buffers(), images]
        state, setup = _plainly(model)
        plain = saved_bytes(lambda: forward(state, images, setup, training=True), [*state.values(), images])
        found: dict[str, float] = dict(plain=plain)
        found['ours'] = saved_bytes(lambda: model.decode_head(model.backbone(images)), weights)
        found['blocks and fusions'] = saved_bytes(lambda: model.backbone(images), weights)
    found['heads'] = found['ours'] - found['blocks and fusions']
    # Of one head: what its norm and its GELU give, at a quarter of the image.
    found['again'] = 2 * 4 * config.decode_head.channels * (height // 4) * (width // 4)
    return {name: number / MB for name, number in found.items()}


def _plainly(model: nn.Module) -> tuple[dict[str, torch.Tensor], Setup]:
    """The model for the plain writing: its tensors in the published names, and what they do not tell."""
    state = TaskPrompter().to_theirs(model.state_dict()).state
    for name, tensor in state.items():
        if tensor.is_floating_point() and 'running' not in name:
            tensor.requires_grad_()
    names = [theirs for theirs, ours in TASKS.items() if ours in model.tasks]
    backbone = model.backbone
    return state, Setup(names, backbone.blocks[0].attn.heads, backbone.taps, backbone.channel_windows)


def main() -> None:
    """Prints the table, in megabytes (10⁶ bytes)."""
    columns = ('plain', 'ours', 'blocks and fusions', 'heads', 'again')
    print('| model | ' + ' | '.join(columns) + ' | ours / plain |\n|---|' + '---:|' * (len(columns) + 1))
    for title, name in VARIANTS.items():
        found = measured(published(name))
        numbers = ' | '.join(f'{found[column]:,.0f}' for column in columns)
        print(f'| {title} | {numbers} | {found["ours"] / found["plain"]:.2f} |')


if __name__ == '__main__':
    main()
