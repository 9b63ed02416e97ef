"""One file in the layout of the original latent-diffusion code → the parts of a Stable Diffusion 1.x or 2.x model.

Configurations are read off the shapes of the tensors; what shapes do not say (heads, betas, scale of the latent) is the
same in every model of a family. Source of names and constants: the v1 and v2 inference configurations of
CompVis/stable-diffusion and Stability-AI/stablediffusion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from .schedule import NoiseSchedule
from .tokenizer import CLIP_VOCABULARY, clip_tokenizer
from .weight_files import WeightFile

UNET, VAE, TEXT = 'model.diffusion_model.', 'first_stage_model.', 'cond_stage_model.'
CLIP, OPEN_CLIP = f'{TEXT}transformer.', f'{TEXT}model.'
OTHERS = {
    'conditioner.embedders.': 'SDXL, which creates (through a diffusers pipeline) but does not perceive here',
    'control_model.': 'a ControlNet',
    'lora_': 'a LoRA',
    'down_blocks.': 'one bare diffusers model; give the folder of the whole pipeline',
    'model_ema.': 'averaged weights without the model that they belong to',
}
BETAS = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Parts:
    """What :class:`~mmdiff2in1.diffusion.LatentDiffusion` is made of; ``scheduler`` is a diffusers configuration."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: object
    scheduler: dict


def check_ldm_file(path: Path) -> WeightFile:
    """The opened file, if it holds a Stable Diffusion 1.x or 2.x model; its values have not been read.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or holds something else.
    """
    file = WeightFile(path)
    missing = [prefix for prefix in (UNET, VAE, TEXT) if not any(name.startswith(prefix) for name in file.shapes)]
    if missing:
        kinds = (kind for start, kind in OTHERS.items() if any(name.startswith(start) for name in file.shapes))
        tops = sorted({name.split('.')[0] for name in file.shapes})
        shown = ', '.join(tops[:6]) + (', …' if len(tops) > 6 else '')
        raise ValueError(
            f'{path} has no tensors under {", ".join(missing)}; found {next(kinds, "tensors of another layout")} '
            f'({shown}). Expected one file of Stable Diffusion 1.x or 2.x (U-Net, VAE and text encoder), or a '
            'diffusers folder'
        )
    _prediction_type(file)
    return file


def read_ldm_file(path: Path, dtype: torch.dtype = torch.float32) -> Parts:
    """Loads the parts; every tensor of them is accounted for.

    Args:
        path: ``.safetensors`` or ``.ckpt``. Averaged weights in it (``model_ema.``) are left alone.
        dtype: Type of the parameters.

    Raises:
        FileNotFoundError, ValueError: As :func:`check_ldm_file`; or shapes that fit no model, or missing tensors.
    """
    file = check_ldm_file(path)
    open_clip = any(name.startswith(OPEN_CLIP) for name in file.shapes)
    try:
        unet_config = _unet_config(_below(file.shapes, UNET), open_clip)
        vae_config = _vae_config(_below(file.shapes, VAE))
        text_config = (_open_clip_config if open_clip else _clip_config)(_text_shapes(file, open_clip))
    except (KeyError, IndexError) as error:
        raise ValueError(f'{path}: a tensor that Stable Diffusion has is missing: {error}') from error
    if text_config.vocab_size != CLIP_VOCABULARY:
        raise ValueError(f"{path}: {text_config.vocab_size} words; Stable Diffusion has CLIP's {CLIP_VOCABULARY}")
    with torch.device('meta'):
        unet, vae = UNet2DConditionModel(**unet_config), AutoencoderKL(**vae_config)
    text = CLIPTextModel(text_config)
    convert: dict[str, tuple[nn.Module, Callable[[], dict[str, Tensor]]]] = {
        'U-Net': (unet, lambda: convert_ldm_unet_checkpoint(file.read(UNET), unet_config)),
        'VAE': (vae, lambda: convert_ldm_vae_checkpoint(file.read(VAE), vae_config)),
        'text encoder': (text, lambda: _text_state(file, open_clip, text_config.num_hidden_layers)),
    }
    for name, (model, state) in convert.items():
        _fill(model, state(), dtype, f'{path}, {name}')
    scheduler = BETAS | dict(
        prediction_type=_prediction_type(file), clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    _check_betas(file)
    padding = '!' if open_clip else '<|endoftext|>'
    return Parts(vae, unet, text, clip_tokenizer(padding, text_config.max_position_embeddings), scheduler)


def _prediction_type(file: WeightFile) -> str:
    """From the original configuration beside the file (STEM.yaml), the marker ``v_pred``, or the family."""
    beside = file.path.with_suffix('.yaml')
    if beside.is_file():
        params = ((yaml.safe_load(beside.read_text()) or {}).get('model') or {}).get('params') or {}
        return {'v': 'v_prediction', 'eps': 'epsilon', 'x0': 'sample'}[params.get('parameterization', 'eps')]
    if 'v_pred' in file.shapes:
        return 'v_prediction'
    if any(name.startswith(OPEN_CLIP) for name in file.shapes):
        raise ValueError(
            f'{file.path} is of Stable Diffusion 2.x, and its tensors do not say what its U-Net predicts. Put the '
            f'original configuration beside it as {beside.name}: v2-inference-v.yaml for 768-v, v2-inference.yaml for '
            'base; or give a diffusers folder'
        )
    return 'epsilon'


def _check_betas(file: WeightFile) -> None:
    stored, expected = file.read('alphas_cumprod').get('alphas_cumprod'), NoiseSchedule(BETAS).alphas_cumprod
    if stored is not None and not (
        stored.shape == expected.shape and torch.allclose(stored.float(), expected, atol=1e-3)
    ):
        raise ValueError(f"{file.path} was trained with another noise schedule than Stable Diffusion's")


def _below(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _unet_config(shapes: Shapes, open_clip: bool) -> dict:
    levels: list[list[int]] = [[]]
    attends: list[bool] = []
    i = 1
    while any(name.startswith(f'input_blocks.{i}.') for name in shapes):
        if f'input_blocks.{i}.0.op.weight' in shapes:
            levels.append([])
        else:
            levels[-1].append(shapes[f'input_blocks.{i}.0.in_layers.2.weight'][0])
            if len(levels) > len(attends):
                attends.append(f'input_blocks.{i}.1.norm.weight' in shapes)
        i += 1
    channels = [level[-1] for level in levels]
    keys = [name for name in shapes if name.endswith('transformer_blocks.0.attn2.to_k.weight')]
    projection = keys[0].split('transformer_blocks')[0] + 'proj_in.weight'
    return dict(
        in_channels=shapes['input_blocks.0.0.weight'][1],
        out_channels=shapes['out.2.weight'][0],
        block_out_channels=channels,
        layers_per_block=len(levels[0]),
        down_block_types=['CrossAttnDownBlock2D' if attend else 'DownBlock2D' for attend in attends],
        up_block_types=['CrossAttnUpBlock2D' if attend else 'UpBlock2D' for attend in reversed(attends)],
        cross_attention_dim=shapes[keys[0]][1],
        use_linear_projection=len(shapes[projection]) == 2,
        # diffusers' name for the number of heads: 8 in version 1, heads of 64 channels in version 2.
        attention_head_dim=[max(1, width // 64) for width in channels] if open_clip else 8,
    )


def _vae_config(shapes: Shapes) -> dict:
    depth = 0
    while f'encoder.down.{depth}.block.0.conv1.weight' in shapes:
        depth += 1
    layers = len({name for name in shapes if name.startswith('encoder.down.0.block.') and name.endswith('.conv1.bias')})
    return dict(
        block_out_channels=[shapes[f'encoder.down.{level}.block.0.conv1.weight'][0] for level in range(depth)],
        down_block_types=['DownEncoderBlock2D'] * depth,
        up_block_types=['UpDecoderBlock2D'] * depth,
        layers_per_block=layers,
        latent_channels=shapes['quant_conv.weight'][0] // 2,
        mid_block_add_attention='encoder.mid.attn_1.q.weight' in shapes,
        scaling_factor=0.18215,
    )


def _text_shapes(file: WeightFile, open_clip: bool) -> dict[str, tuple[int, ...]]:
    shapes = _below(file.shapes, OPEN_CLIP if open_clip else CLIP)
    return {name.removeprefix('text_model.'): shape for name, shape in shapes.items()}


def _clip_config(shapes: Shapes) -> CLIPTextConfig:
    vocabulary, width = shapes['embeddings.token_embedding.weight']
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes['encoder.layers.0.mlp.fc1.weight'][0],
        num_hidden_layers=len([name for name in shapes if name.endswith('layer_norm1.weight')]),
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=shapes['embeddings.position_embedding.weight'][0],
        hidden_act='quick_gelu',
        **_ends(),
    )


def _open_clip_config(shapes: Shapes) -> CLIPTextConfig:
    vocabulary, width = shapes['token_embedding.weight']
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes['transformer.resblocks.0.mlp.c_fc.weight'][0],
        # The U-Net attends to the state before the last block.
        num_hidden_layers=len([name for name in shapes if name.endswith('ln_1.weight')]) - 1,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=shapes['positional_embedding'][0],
        hidden_act='gelu',
        **_ends(),
    )


def _ends() -> dict[str, int]:
    return dict(bos_token_id=CLIP_VOCABULARY - 2, eos_token_id=CLIP_VOCABULARY - 1, pad_token_id=CLIP_VOCABULARY - 1)


def _text_state(file: WeightFile, open_clip: bool, layers: int) -> dict[str, Tensor]:
    if not open_clip:
        state = {name.removeprefix(CLIP).removeprefix('text_model.'): value for name, value in file.read(CLIP).items()}
        state.pop('embeddings.position_ids', None)  # stored by older versions of transformers
        return state
    state = {}
    for name, value in file.read(OPEN_CLIP).items():
        name = name.removeprefix(OPEN_CLIP)
        if name in OPEN_CLIP_NAMES:
            state[OPEN_CLIP_NAMES[name]] = value
        elif name.startswith('transformer.resblocks.'):
            number, rest = name.removeprefix('transformer.resblocks.').split('.', 1)
            if int(number) < layers:
                state |= {f'encoder.layers.{number}.{new}': part for new, part in _open_clip_block(rest, value)}
    return state


OPEN_CLIP_NAMES = {
    'token_embedding.weight': 'embeddings.token_embedding.weight',
    'positional_embedding': 'embeddings.position_embedding.weight',
    'ln_final.weight': 'final_layer_norm.weight',
    'ln_final.bias': 'final_layer_norm.bias',
}
OPEN_CLIP_PARTS = {
    'ln_1': 'layer_norm1',
    'ln_2': 'layer_norm2',
    'mlp.c_fc': 'mlp.fc1',
    'mlp.c_proj': 'mlp.fc2',
    'attn.out_proj': 'self_attn.out_proj',
}


def _open_clip_block(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """Queries, keys and values are one tensor there, in this order."""
    if name.startswith('attn.in_proj_'):
        kind = name.removeprefix('attn.in_proj_')
        return [(f'self_attn.{each}_proj.{kind}', part) for each, part in zip('qkv', value.chunk(3), strict=True)]
    part, kind = name.rsplit('.', 1)
    return [(f'{OPEN_CLIP_PARTS[part]}.{kind}', value)]


def _fill(model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype, where: str) -> None:
    """Gives ``model`` the tensors of ``state``, each in memory of its own."""
    expected, found = ({name: tensor.shape for name, tensor in each.items()} for each in (model.state_dict(), state))
    both = sorted(expected.keys() & found.keys())
    wrong = {
        'missing': sorted(expected.keys() - found.keys()),
        'unexpected': sorted(found.keys() - expected.keys()),
        # A linear layer may have been stored as a 1×1 convolution.
        'of another shape': [name for name in both if _sides(expected[name]) != _sides(found[name])],
    }
    if any(wrong.values()):
        listed = '; '.join(f'{kind} {len(names)}: {", ".join(names[:5])}' for kind, names in wrong.items() if names)
        raise ValueError(f'{where}: the tensors are not those of Stable Diffusion: {listed}')
    state = {name: value.to(dtype, copy=True).reshape(expected[name]) for name, value in state.items()}
    model.load_state_dict(state, assign=True)


def _sides(shape: torch.Size) -> list[int]:
    return [side for side in shape if side != 1]
