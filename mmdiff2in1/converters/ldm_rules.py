"""Names of the tensors of U-Net and VAE encoder in the original latent-diffusion code, and in diffusers.

The layout is that of Stable Diffusion 1.x and 2.x: two residual layers a level, of which all attend whose level has
attention; going up, all levels but the coarsest. A model of fewer levels has fewer names.
"""

from .rules import Pointwise, Rule, below, rules

LEVELS, LAYERS = 4, 2
_RESNET = {
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}


def _resnet(theirs: str, ours: str) -> list[Rule]:
    return below(rules(_RESNET), f'{theirs}.', f'{ours}.')


def _down(level: int) -> list[Rule]:
    first = 1 + level * (LAYERS + 1)
    table = [Rule(f'input_blocks.{first + LAYERS}.0.op', f'down_blocks.{level}.downsamplers.0.conv')]
    for i in range(LAYERS):
        table += _resnet(f'input_blocks.{first + i}.0', f'down_blocks.{level}.resnets.{i}')
        table += [Rule(f'input_blocks.{first + i}.1', f'down_blocks.{level}.attentions.{i}')]
    return table


def _up(level: int) -> list[Rule]:
    """Level 0 is the coarsest. The upsampling stands in the last layer's block, behind its attention."""
    first, last = level * (LAYERS + 1), level * (LAYERS + 1) + LAYERS
    table = [Rule(f'output_blocks.{last}.{2 if level else 1}.conv', f'up_blocks.{level}.upsamplers.0.conv')]
    for i in range(LAYERS + 1):
        table += _resnet(f'output_blocks.{first + i}.0', f'up_blocks.{level}.resnets.{i}')
        table += [Rule(f'output_blocks.{first + i}.1', f'up_blocks.{level}.attentions.{i}')]
    return table


UNET = [
    *rules(
        {
            'time_embed.0': 'time_embedding.linear_1',
            'time_embed.2': 'time_embedding.linear_2',
            'input_blocks.0.0': 'conv_in',
            'middle_block.1': 'mid_block.attentions.0',
            'out.0': 'conv_norm_out',
            'out.2': 'conv_out',
        }
    ),
    *_resnet('middle_block.0', 'mid_block.resnets.0'),
    *_resnet('middle_block.2', 'mid_block.resnets.1'),
    *(rule for level in range(LEVELS) for rule in (*_down(level), *_up(level))),
]
"""The whole U-Net."""
VAE = [
    Rule('encoder.down.@.block.@.nin_shortcut', 'encoder.down_blocks.@.resnets.@.conv_shortcut'),
    Rule('encoder.mid.block_@', 'encoder.mid_block.resnets.@', shift=-1),
    *(
        Pointwise(f'encoder.mid.attn_1.{theirs}', f'encoder.mid_block.attentions.0.{ours}')
        for theirs, ours in dict(q='to_q', k='to_k', v='to_v', proj_out='to_out.0').items()
    ),
    *rules(
        {
            'encoder.conv_in': 'encoder.conv_in',
            'encoder.down.@.block.@': 'encoder.down_blocks.@.resnets.@',
            'encoder.down.@.downsample': 'encoder.down_blocks.@.downsamplers.0',
            'encoder.mid.attn_1.norm': 'encoder.mid_block.attentions.0.group_norm',
            'encoder.norm_out': 'encoder.conv_norm_out',
            'encoder.conv_out': 'encoder.conv_out',
            'quant_conv': 'quant_conv',
            'post_quant_conv': 'post_quant_conv',
        }
    ),
]
"""The VAE without its decoder."""
