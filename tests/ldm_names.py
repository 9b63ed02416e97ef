"""The inverse of what the package reads: a diffusers model under the names of the original latent-diffusion code.

Written from the module trees of CompVis/stable-diffusion and open_clip, not from the reader.
"""

import re

import torch
from torch import Tensor

RESNET = {
    'norm1': 'in_layers.0',
    'conv1': 'in_layers.2',
    'time_emb_proj': 'emb_layers.1',
    'norm2': 'out_layers.0',
    'conv2': 'out_layers.3',
    'conv_shortcut': 'skip_connection',
}
UNET_ENDS = {
    'time_embedding.linear_1': 'time_embed.0',
    'time_embedding.linear_2': 'time_embed.2',
    'conv_in': 'input_blocks.0.0',
    'conv_norm_out': 'out.0',
    'conv_out': 'out.2',
}
OPEN_CLIP = {'ln_1': 'layer_norm1', 'ln_2': 'layer_norm2', 'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2'}
VAE_ATTENTION = {'group_norm': 'norm', 'to_q': 'q', 'to_k': 'k', 'to_v': 'v', 'to_out.0': 'proj_out'}


def unet_names(unet) -> dict[str, Tensor]:
    layers, state = unet.config.layers_per_block, {}
    for name, value in unet.state_dict().items():
        state[f'model.diffusion_model.{_unet_name(name, layers, unet)}'] = value
    return state


def _unet_name(name: str, layers: int, unet) -> str:
    module, kind = name.rsplit('.', 1)
    if module in UNET_ENDS:
        return f'{UNET_ENDS[module]}.{kind}'
    side, rest = name.split('.', 1)
    if side == 'mid_block':
        part, number, rest = rest.split('.', 2)
        return f'middle_block.{1 if part == "attentions" else 2 * int(number)}.{_inner(part, rest)}'
    block, part, number, rest = rest.split('.', 3)
    first = int(block) * (layers + 1)
    if part == 'downsamplers':
        return f'input_blocks.{first + layers + 1}.0.op.{kind}'
    if part == 'upsamplers':
        attends = hasattr(unet.up_blocks[int(block)], 'attentions')
        return f'output_blocks.{first + layers}.{2 if attends else 1}.conv.{kind}'
    column = 1 if part == 'attentions' else 0
    if side == 'down_blocks':
        return f'input_blocks.{1 + first + int(number)}.{column}.{_inner(part, rest)}'
    return f'output_blocks.{first + int(number)}.{column}.{_inner(part, rest)}'


def _inner(part: str, rest: str) -> str:
    if part == 'attentions':
        return rest
    module, kind = rest.rsplit('.', 1)
    return f'{RESNET[module]}.{kind}'


def vae_names(vae) -> dict[str, Tensor]:
    depth, state = len(vae.config.block_out_channels), {}
    for name, value in vae.state_dict().items():
        for part, old in VAE_ATTENTION.items():
            if f'attentions.0.{part}.' in name and value.ndim == 2:
                value = value[:, :, None, None]  # 1×1 convolutions there
            name = name.replace(f'mid_block.attentions.0.{part}.', f'mid.attn_1.{old}.')
        name = re.sub(r'mid_block\.resnets\.(\d)', lambda m: f'mid.block_{int(m[1]) + 1}', name)
        name = re.sub(r'down_blocks\.(\d+)\.resnets', r'down.\1.block', name)
        name = re.sub(r'down_blocks\.(\d+)\.downsamplers\.0', r'down.\1.downsample', name)
        name = re.sub(r'up_blocks\.(\d+)\.resnets', lambda m: f'up.{depth - 1 - int(m[1])}.block', name)
        name = re.sub(r'up_blocks\.(\d+)\.upsamplers\.0', lambda m: f'up.{depth - 1 - int(m[1])}.upsample', name)
        name = name.replace('conv_norm_out', 'norm_out').replace('conv_shortcut', 'nin_shortcut')
        state[f'first_stage_model.{name}'] = value
    return state


def clip_names(encoder) -> dict[str, Tensor]:
    return {f'cond_stage_model.transformer.text_model.{name}': value for name, value in encoder.state_dict().items()}


def open_clip_names(encoder) -> dict[str, Tensor]:
    """With the last block, which Stable Diffusion 2 does not use, and what follows the transformer."""
    state, layers = {}, encoder.config.num_hidden_layers
    ours = encoder.state_dict()
    for i in range(layers + 1):
        block = f'encoder.layers.{min(i, layers - 1)}.'
        theirs = f'transformer.resblocks.{i}.'
        for kind in ('weight', 'bias'):
            qkv = [ours[f'{block}self_attn.{each}_proj.{kind}'] for each in 'qkv']
            state[f'{theirs}attn.in_proj_{kind}'] = torch.cat(qkv)
            state[f'{theirs}attn.out_proj.{kind}'] = ours[f'{block}self_attn.out_proj.{kind}']
            for old, new in (
                ('ln_1', 'layer_norm1'),
                ('ln_2', 'layer_norm2'),
                ('mlp.c_fc', 'mlp.fc1'),
                ('mlp.c_proj', 'mlp.fc2'),
            ):
                state[f'{theirs}{old}.{kind}'] = ours[f'{block}{new}.{kind}']
    state['token_embedding.weight'] = ours['embeddings.token_embedding.weight']
    state['positional_embedding'] = ours['embeddings.position_embedding.weight']
    for kind in ('weight', 'bias'):
        state[f'ln_final.{kind}'] = ours[f'final_layer_norm.{kind}']
    width = encoder.config.hidden_size
    state |= {'text_projection': torch.zeros(width, width), 'logit_scale': torch.tensor(4.6)}
    return {f'cond_stage_model.model.{name}': value.clone() for name, value in state.items()}


def ldm_names(diffusion, open_clip: bool = False) -> dict[str, Tensor]:
    """All of a ``LatentDiffusion``, and the schedule that such files carry."""
    text = (open_clip_names if open_clip else clip_names)(diffusion.text.encoder)
    schedule = {'alphas_cumprod': diffusion.schedule.alphas_cumprod}
    return unet_names(diffusion.unet) | vae_names(diffusion.vae) | text | schedule
