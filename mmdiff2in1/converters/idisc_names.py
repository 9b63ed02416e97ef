"""What iDisc's published checkpoints call their tensors, and what these are called in our segmentor.

Their decoder counts resolutions and layers from 1, ours from 0; both count resolutions from the coarsest.
"""

import re

from .idisc_settings import HEAD, SWIN

LEFT_OUT = re.compile(r'pixel_encoder\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index')
"""Indices, which follow from the size of the window."""

# Name there: name here; `@` is a number. The first that fits counts.
_BLOCK, _OUR_BLOCK = 'pixel_encoder.layers.@.blocks.@', f'{SWIN}swin.encoder.layers.@.blocks.@'
_LAYER, _OUR_LAYER = 'pixel_decoder.transformer.encoder.layer_@', f'{HEAD}pixel_decoder.layers.@'
_ATTENTION = dict(norm='norm', norm_context='context_norm', to_q='query', to_kv='key_value', to_out='output')
_SWIN = {
    'pixel_encoder.patch_embed.proj': f'{SWIN}swin.embeddings.patch_embeddings.projection',
    'pixel_encoder.patch_embed.norm': f'{SWIN}swin.embeddings.norm',
    f'{_BLOCK}.norm1': f'{_OUR_BLOCK}.layernorm_before',
    f'{_BLOCK}.attn.relative_position_bias_table': (
        f'{_OUR_BLOCK}.attention.relative_position_bias.relative_position_bias_table'
    ),
    f'{_BLOCK}.attn.qkv': f'{_OUR_BLOCK}.attention.qkv',
    f'{_BLOCK}.attn.proj': f'{_OUR_BLOCK}.attention.o_proj',
    f'{_BLOCK}.norm2': f'{_OUR_BLOCK}.layernorm_after',
    f'{_BLOCK}.mlp': f'{_OUR_BLOCK}.mlp',
    'pixel_encoder.layers.@.downsample': f'{SWIN}swin.encoder.layers.@.downsample',
}
_DECODER = {
    'pixel_decoder.input_adapter_@': f'{HEAD}pixel_decoder.project.@',
    'pixel_decoder.transformer.level_embed': f'{HEAD}pixel_decoder.level_embedding',
    f'{_LAYER}.self_attn.sampling_offsets': f'{_OUR_LAYER}.attention.offsets',
    f'{_LAYER}.self_attn.attention_weights': f'{_OUR_LAYER}.attention.scores',
    f'{_LAYER}.self_attn.value_proj': f'{_OUR_LAYER}.attention.value',
    f'{_LAYER}.self_attn.output_proj': f'{_OUR_LAYER}.attention.output',
    f'{_LAYER}.norm1': f'{_OUR_LAYER}.norm',
    f'{_LAYER}.norm2': f'{_OUR_LAYER}.mlp.0',
    f'{_LAYER}.linear1': f'{_OUR_LAYER}.mlp.1',
    f'{_LAYER}.linear2': f'{_OUR_LAYER}.mlp.3',
    'afp.mu_@': f'{HEAD}partitioning.priors.@',
    'isd.head_@.proj_output': f'{HEAD}decoders.@.output',
    'isd.head_@.mlp_@': f'{HEAD}decoders.@.mlp.@',
    'afp.mlp_cross_@_d1': f'{HEAD}partitioning.mlp.@',
}
_DECODER |= {f'afp.cross_attn_@_d1.{old}': f'{HEAD}partitioning.attention.@.{new}' for old, new in _ATTENTION.items()}
_DECODER |= {f'isd.head_@.cross_attn_@.{old}': f'{HEAD}decoders.@.attention.@.{new}' for old, new in _ATTENTION.items()}
for _old, _new in (('lateral_fpn_conv', 'lateral'), ('out_conv', 'encoded'), ('fpn_conv', 'smooth')):
    _DECODER |= {
        f'pixel_decoder.{_old}_@.norm': f'{HEAD}pixel_decoder.{_new}.@.bn',
        f'pixel_decoder.{_old}_@': f'{HEAD}pixel_decoder.{_new}.@.conv',
    }
_TABLES = (
    (_SWIN, 0),
    ({'pixel_encoder.norm@': f'{SWIN}hidden_states_norms.stage@'}, 1),
    (_DECODER, -1),
)
_TO_OURS = [(old, new, shift) for table, shift in _TABLES for old, new in table.items()]
_TO_THEIRS = [(new, old, -shift) for old, new, shift in _TO_OURS]


def our_names(name: str) -> list[str]:
    """Ours for a tensor of theirs: none without a place, three for query, key and value in one."""
    found = _renamed(name, _TO_OURS)
    if found is None:
        return []
    return [found.replace('.qkv.', f'.{part}_proj.') for part in 'qkv'] if '.qkv.' in found else [found]


def their_name(name: str) -> str:
    """The tensor of theirs that one of ours comes from; itself where there is none."""
    return _renamed(re.sub(r'\.[qkv]_proj\.', '.qkv.', name), _TO_THEIRS) or name


def _renamed(name: str, rules: list[tuple[str, str, int]]) -> str | None:
    for old, new, shift in rules:
        found = re.match(re.escape(old).replace('@', r'(\d+)') + r'(?=\.|$)', name)
        if found:
            for number in found.groups():
                new = new.replace('@', str(int(number) + shift), 1)
            return new + name[found.end() :]
    return None


STARTS = {
    'pixel_encoder.layer1.': 'iDisc on a ResNet',
    'pixel_encoder.conv_stem.': 'iDisc on an EfficientNet',
    'pixel_encoder.original_model.': 'iDisc on an EfficientNet',
    'patch_embed.': 'a Swin transformer alone',
    f'{HEAD}partitioning.': 'a checkpoint of mmdiff2in1, which needs no conversion',
    'exploiter.': 'a self-improving checkpoint of mmdiff2in1, which needs no conversion',
}
"""Beginnings of names → what a file with such tensors is, for an error."""
