"""What Bae et al.'s published checkpoints call their tensors, and what these are called in our segmentor.

Their encoder is geffnet's EfficientNet, whose blocks are counted within seven stages; transformers counts them through.
"""

import re
from collections.abc import Iterable

ENCODER, DECODER = 'encoder.original_model.', 'decoder.'
BACKBONE, HEAD = 'backbone.model.', 'decode_head.'

_STEM_AND_TOP = {
    f'{ENCODER}conv_stem': f'{BACKBONE}embeddings.convolution',
    f'{ENCODER}bn1': f'{BACKBONE}embeddings.batchnorm',
    f'{ENCODER}conv_head': f'{BACKBONE}encoder.top_conv',
    f'{ENCODER}bn2': f'{BACKBONE}encoder.top_bn',
}
_EXCITE = {'se.conv_reduce': 'squeeze_excite.reduce', 'se.conv_expand': 'squeeze_excite.expand'}
_WITHOUT_EXPANSION = _EXCITE | {
    'conv_dw': 'depthwise_conv.depthwise_conv',
    'bn1': 'depthwise_conv.depthwise_norm',
    'conv_pw': 'projection.project_conv',
    'bn2': 'projection.project_bn',
}
_WITH_EXPANSION = _EXCITE | {
    'conv_pw': 'expansion.expand_conv',
    'bn1': 'expansion.expand_bn',
    'conv_dw': 'depthwise_conv.depthwise_conv',
    'bn2': 'depthwise_conv.depthwise_norm',
    'conv_pwl': 'projection.project_conv',
    'bn3': 'projection.project_bn',
}
_DECODER = (
    {f'{DECODER}conv2': f'{HEAD}bottleneck', f'{DECODER}out_conv_res8': f'{HEAD}coarse_output'}
    | {f'{DECODER}up{i + 1}._net': f'{HEAD}fusions.{i}' for i in range(4)}
    | {f'{DECODER}out_conv_res{scale}': f'{HEAD}point_heads.{i}' for i, scale in enumerate((4, 2, 1))}
)
_BLOCK = re.compile(rf'{re.escape(ENCODER)}blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)')


def our_names(names: Iterable[str]) -> dict[str, str | None]:
    """Each of their names → ours, None where there is none. Which stages expand, and how long they are, is seen."""
    names = list(names)
    blocks = {name: (int(found[1]), int(found[2])) for name in names if (found := _BLOCK.fullmatch(name))}
    order = {place: i for i, place in enumerate(sorted(set(blocks.values())))}
    expanding = {place for name, place in blocks.items() if '.conv_pwl.' in name}
    return {name: _our_name(name, order, expanding) for name in names}


def _our_name(name: str, order: dict[tuple[int, int], int], expanding: set[tuple[int, int]]) -> str | None:
    found = _BLOCK.fullmatch(name)
    if found:
        place = int(found[1]), int(found[2])
        layer = (_WITH_EXPANSION if place in expanding else _WITHOUT_EXPANSION).get(found[3])
        return layer and f'{BACKBONE}encoder.blocks.{order[place]}.{layer}.{found[4]}'
    for table in (_STEM_AND_TOP, _DECODER):
        for old, new in table.items():
            if name.startswith(f'{old}.'):
                return new + name.removeprefix(old)
    return None


STARTS = {
    'encoder.original_model.': 'another decoder on this encoder (AdaBins, or the baseline without point heads?)',
    'original_model.': 'the encoder alone',
    'conv_stem.': 'an EfficientNet alone',
    f'{HEAD}point_heads.': 'a checkpoint of mmdiff2in1, which needs no conversion',
    'exploiter.': 'a self-improving checkpoint of mmdiff2in1, which needs no conversion',
}
"""Beginnings of names → what a file with such tensors is, for an error."""
