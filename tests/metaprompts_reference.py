"""MetaPrompts written out: functions of tensors under the names of its published files, one step after the other.

After the paper (Wan et al., 2023, Sec. 3) and the published code's behaviour; independent of diffusers and of the
package. Slow and plain. B images, N prompts of width D, P passes.
"""

import torch
import torch.nn.functional as F
from ldm_names import unet_names, vae_names
from torch import Tensor
from vpd_reference import State, Unet, latent_mode

GROUPS = 16


def in_metaprompts_names(segmentor, task: str) -> State:
    """What MetaPrompts' training would have saved of the segmentor: written by hand, not by the converter."""
    backbone, start = segmentor.backbone, 'encoder.' if task == 'depth' else ''
    prompts, passes = backbone.prompts, len(backbone.prompts)
    unet = {name.removeprefix('model.'): value for name, value in unet_names(backbone.diffusion.unet).items()}
    out = {name.removeprefix('diffusion_model.out.'): value for name, value in unet.items() if '_model.out.' in name}
    if task == 'depth':
        unet = {name: value for name, value in unet.items() if 'time_embed' not in name}
    vae = {name.removeprefix('first_stage_model.'): value for name, value in vae_names(backbone.diffusion.vae).items()}
    state = {f'{start}unet.unet.{name}': value for name, value in unet.items()}
    state |= {f'{start}encoder_vq.{name}': value for name, value in vae.items() if not name.startswith('decoder.')}
    for i in range(passes):
        state[f'{start}t{i + 1}'] = prompts.times[i].data
        if i:
            state |= {f'{start}cross_unet_conv{i + 1}.{name}': value for name, value in out.items()}
    layers = [layer.state_dict() for layer in backbone.rearrangement.layers]
    head = segmentor.decode_head.head
    if task == 'segmentation':
        state['meta_prompts'] = prompts.tokens[0].data
        for i, layer in enumerate(layers, 1):
            state |= {f'upconv{i}.{name}': value for name, value in layer.items()}
        state |= {f'decode_head.{name}': value for name, value in head.state_dict().items()}
        state |= {f'auxiliary_head.{name}': value for name, value in segmentor.auxiliary_head.state_dict().items()}
        return state | {f'sd_model.{name}': torch.rand(1000) for name in ('betas', 'alphas_cumprod')}
    for i in range(passes):
        state[f'encoder.meta_prompts{i + 1}'] = prompts.tokens[i].data
        adapter = prompts.adapters[i].state_dict()
        state |= {f'encoder.text_adapter{i + 1}.fc.{name}': value for name, value in adapter.items()}
    for i, layer in enumerate(layers, 1):
        state |= {f'encoder.layer{i}.{name}': value for name, value in layer.items()}
    join = backbone.rearrangement.join.state_dict()
    state |= {f'encoder.out_layer.{name}': value for name, value in join.items()}
    state |= {f'decoder.{name}': value for name, value in head.head.decoder.state_dict().items()}
    for place, layer in ((0, head.head.smooth[0]), (2, head.head.conv_seg)):
        state |= {f'last_layer_depth.{place}.{name}': value for name, value in layer.state_dict().items()}
    return state


def refined(state: State, start: str, images: Tensor, heads, taps: list[int]) -> tuple[list[Tensor], Tensor]:
    """Features of the last pass, fine to coarse, and the prompts (N, D) that it was shown.

    Args:
        state: A published file.
        start: Of its names.
        images: (B, 3, H, W) in [-1, 1], of a size that the U-Net takes.
        heads: Channels → heads.
        taps: Output blocks that are read, in their order; the last one is always read.
    """
    original = {
        name.replace(f'{start}unet.unet.', 'model.', 1).replace(f'{start}encoder_vq.', 'first_stage_model.', 1): value
        for name, value in state.items()
    }
    x, finest, number = latent_mode(original, images), None, 1
    while f'{start}t{number}' in state:
        if finest is not None:
            own = f'{start}cross_unet_conv{number}'
            normed = F.group_norm(finest, 32, state[f'{own}.0.weight'], state[f'{own}.0.bias'], 1e-5)
            x = F.conv2d(F.silu(normed), state[f'{own}.2.weight'], state[f'{own}.2.bias'], padding=1)
        prompts = shown(state, start, number)
        outputs = Unet(original, heads).under(
            x, state[f'{start}t{number}'].repeat(len(x), 1), prompts.repeat(len(x), 1, 1)
        )
        finest, number = outputs[-1], number + 1
    return [outputs[-1], *(outputs[i] for i in reversed(taps))], prompts


def shown(state: State, start: str, number: int) -> Tensor:
    """(N, D): of pass `number`, counted from 1."""
    if f'{start}meta_prompts' in state:
        return state[f'{start}meta_prompts']
    own = f'{start}text_adapter{number}.fc'
    hidden = state[f'{start}meta_prompts{number}'] @ state[f'{own}.0.weight'].T + state[f'{own}.0.bias']
    return F.gelu(hidden) @ state[f'{own}.2.weight'].T + state[f'{own}.2.bias']


def segmentation_maps(state: State, images: Tensor, heads, taps: list[int]) -> list[Tensor]:
    """What the heads are given, (B, N, 2h, 2w) and so on, fine to coarse."""
    features, prompts = refined(state, '', images, heads, taps)
    maps = []
    for i, x in enumerate(features, 1):
        x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        x = _projected(state, f'upconv{i}', x)
        maps.append(torch.stack([(x * prompt[:, None, None]).sum(1) for prompt in prompts], 1))
    return maps


def depth(state: State, images: Tensor, heads, taps: list[int], multiple: int, downscale: int) -> Tensor:
    """Metres (B, 1, H, W) in eval mode; sides multiples of `downscale`, of which the U-Net needs `multiple`."""
    height, width = images.shape[-2:]
    larger = ((height // multiple + 1) * multiple, (width // multiple + 1) * multiple)
    x = F.interpolate(images, larger, mode='bilinear', align_corners=False)
    features, prompts = refined(state, 'encoder.', x, heads, taps)
    brought = [_projected(state, 'encoder.layer1', features[0])]
    brought += [_decoded(state, f'encoder.layer{i}', x, 1) for i, x in enumerate(features[1:], 2)]
    x = _projected(state, 'encoder.out_layer', torch.cat(brought, 1))
    x = torch.stack([(x * prompt[:, None, None]).sum(1) for prompt in prompts], 1)
    x = F.interpolate(x, (height // downscale, width // downscale), mode='bilinear', align_corners=False)
    x = _conv(state, 'last_layer_depth.0', _decoded(state, 'decoder', x, 0))
    return 10 * _conv(state, 'last_layer_depth.2', x.relu()).sigmoid()


def _projected(state: State, name: str, x: Tensor) -> Tensor:
    x = _conv(state, f'{name}.0', x)
    return F.group_norm(x, GROUPS, state[f'{name}.1.weight'], state[f'{name}.1.bias'], 1e-5).relu()


def _decoded(state: State, name: str, x: Tensor, padding: int) -> Tensor:
    i = 0
    while f'{name}.deconv_layers.{i}.weight' in state:
        x = F.conv_transpose2d(x, state[f'{name}.deconv_layers.{i}.weight'], stride=2, padding=padding)
        x, i = _batch_norm(state, f'{name}.deconv_layers.{i + 1}', x).relu(), i + 3
    return _batch_norm(state, f'{name}.conv_layers.1', _conv(state, f'{name}.conv_layers.0', x)).relu()


def _conv(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], padding=1)


def _batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        state[f'{name}.{each}'][:, None, None] for each in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias
