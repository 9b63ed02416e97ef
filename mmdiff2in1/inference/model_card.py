"""The card of a model's folder, `README.md`: what it is, how to use it, scores, classes, versions, licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from torch import nn

from mmdiff2in1 import __version__
from mmdiff2in1.tasks import TaskSet

CARD = 'README.md'
KINDS = {'semantic_segmentation': 'image-segmentation', 'depth': 'depth-estimation'}
"""Task → what hubs call it; others are `image-to-image`."""
NOT_SAID = 'not stated by who exported it'
VERSIONS = ('torch', 'onedl-mmsegmentation', 'onedl-mmengine')


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the one who exports says of a model, and nothing in it shows.

    Attributes:
        scores: Metric → value, as `mmdiff2in1 test` has written them.
        license: Of the weights, an SPDX name.
        note: What it was trained on, what the scores were measured on, with how many seeds.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    license: str = ''
    note: str = ''


def model_card(
    name: str,
    segmentor: nn.Module,
    tasks: TaskSet,
    dataset_meta: Mapping[str, Any],
    diffusion: str | None,
    claims: Claims,
) -> str:
    """The text, Markdown under the header that hubs read.

    Args:
        name: Of the folder.
        segmentor: The model.
        tasks: What it predicts.
        dataset_meta: `classes`, `palette`.
        diffusion: A diffusion model that it needs besides the folder.
        claims: What nothing in the model shows.
    """
    parameters = sum(each.numel() for each in segmentor.parameters())
    kinds = f'{type(segmentor).__name__} with {type(segmentor.backbone).__name__}'
    seen = ' and '.join(each.replace('_', ' ') for each in tasks)
    given = ', diffusion=FOLDER' if diffusion else ''
    lines = [
        '---',
        'library_name: mmdiff2in1',
        f'pipeline_tag: {KINDS.get(next(iter(tasks)), "image-to-image")}',
        *([f'license: {claims.license}'] if claims.license else []),
        '---',
        '',
        f'# {name}',
        '',
        f'{kinds}, {parameters / 1e6:.2f} M parameters, for {seen}.',
        *(['', claims.note] if claims.note else []),
        '',
        '```python',
        'from mmdiff2in1 import Diff2in1',
        '',
        f"model = Diff2in1.from_pretrained('{name}'{given})  # this folder",
        "seen = model('room.png')[0]",
        "seen.save('map.png')",
        '```',
    ]
    if diffusion:
        lines += [
            '',
            f'It perceives with the diffusion model `{diffusion}`, which is not in this folder: `diffusion=`.',
        ]
    lines += ['', '## Scores', '']
    if claims.scores:
        lines += ['| metric | value |', '| --- | --- |']
        lines += [f'| {metric} | {value:g} |' for metric, value in claims.scores.items()]
    else:
        lines.append('None given.')
    classes = dataset_meta.get('classes') or ()
    if classes:
        lines += ['', '## Classes', '', ', '.join(f'{index} {each}' for index, each in enumerate(classes))]
    versions = ', '.join(f'{each} {metadata.version(each)}' for each in VERSIONS)
    lines += ['', '## Versions', '', f'Written by mmdiff2in1 {__version__} with {versions}.']
    lines += ['', '## Licence', '', f'Of the weights: {claims.license or NOT_SAID}.', '']
    return '\n'.join(lines)
