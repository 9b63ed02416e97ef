"""One file in the layout of the original latent-diffusion code → the parts of a Stable Diffusion 1.x or 2.x model.

Configurations are read off the shapes of the tensors; what shapes do not say (heads, betas, scale of the latent) is the
same in every model of a family. Source of names and constants: the v1 and v2 inference configurations of
CompVis/stable-diffusion and Stability-AI/stablediffusion.

Not by diffusers' ``from_single_file``: without a network it wants a folder of configurations, random weights stay where
tensors are missing, others are passed over, and a text encoder alone or a checkpoint with callbacks it does not read.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn
from transformers import CLIPTextModel

from mmdiff2in1.core.names import listed, some

from .architectures import BETAS
from .finite import all_finite
from .ldm_account import tell_left_out
from .ldm_names import LdmFile
from .ldm_text import SDXL_TEXT, TEXT, is_open_clip, text_encoder_config, text_encoder_state, text_prefix
from .parts import Parts
from .schedule import NoiseSchedule
from .tokenizer import CLIP_VOCABULARY, tokenizer_of

UNET, VAE = 'model.diffusion_model.', 'first_stage_model.'
OTHERS = {
    SDXL_TEXT: 'SDXL, which creates (stages.synthesis.diffusion) but does not perceive here',
    'control_model.': 'a ControlNet',
    'lora_': 'a LoRA',
    f'{UNET}joint_blocks.': 'Stable Diffusion 3; give its diffusers folder',
    f'{UNET}double_blocks.': 'FLUX; give its diffusers folder',
    'double_blocks.': 'the transformer of FLUX alone; give the diffusers folder of the whole pipeline',
    'down_blocks.': 'one bare diffusers model; give the folder of the whole pipeline',
    'model_ema.': 'averaged weights without the model that they belong to',
}
PARAMETERIZATIONS = {'eps': 'epsilon', 'v': 'v_prediction', 'x0': 'sample'}
Shapes = Mapping[str, tuple[int, ...]]


def check_ldm_file(path: Path) -> LdmFile:
    """The opened file, if it holds a Stable Diffusion 1.x or 2.x model; its values have not been read.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or holds something else.
    """
    file = LdmFile(path)
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
    prediction_type_of(file)
    return file


def read_ldm_file(path: Path, dtype: torch.dtype = torch.float32) -> Parts:
    """Loads the parts; every tensor below their prefixes has a place in them, or is told to be left out.

    Args:
        path: Safetensors or a PyTorch checkpoint, see :class:`.LdmFile`. Averaged weights in it
            (``model_ema.``) are left alone.
        dtype: Type of the parameters.

    Raises:
        FileNotFoundError, ValueError: As :func:`check_ldm_file`; or shapes that fit no model, or missing tensors.
    """
    file = check_ldm_file(path)
    open_clip = is_open_clip(file)
    try:
        unet_config = unet_config_of(below(file.shapes, UNET), open_clip)
        vae_config = vae_config_of(below(file.shapes, VAE))
        text_config = text_encoder_config(file)
    except (KeyError, IndexError) as error:
        raise ValueError(f'{path}: a tensor that Stable Diffusion has is missing: {error}') from error
    if unet_config['use_linear_projection'] != open_clip:
        raise ValueError(
            f'{path}: the U-Net is of one version of Stable Diffusion and the names of the text encoder are of the '
            'other, so it cannot be told how many heads there are; give a diffusers folder'
        )
    if text_config.vocab_size != CLIP_VOCABULARY:
        raise ValueError(f"{path}: {text_config.vocab_size} words; Stable Diffusion has CLIP's {CLIP_VOCABULARY}")
    if unet_config['in_channels'] != vae_config['latent_channels']:
        raise ValueError(
            f'{path}: the U-Net takes {unet_config["in_channels"]} channels, the latent has '
            f'{vae_config["latent_channels"]}; an inpainting or depth-guided model does not fit'
        )
    check_betas(file)
    tell_left_out(file, (UNET, VAE), {text_prefix(file): text_config.num_hidden_layers})
    with torch.device('meta'):
        unet, vae = UNet2DConditionModel(**unet_config), AutoencoderKL(**vae_config)
    text = CLIPTextModel(text_config)
    for name, model, convert in (
        ('U-Net', unet, lambda: converted(convert_ldm_unet_checkpoint, file.read(UNET), unet_config)),
        ('VAE', vae, lambda: converted(convert_ldm_vae_checkpoint, file.read(VAE), vae_config)),
        ('text encoder', text, lambda: text_encoder_state(file, text_config.num_hidden_layers)),
    ):
        try:
            fill(model, convert(), dtype)
        except ValueError as error:
            raise ValueError(f'{path}, {name}: the tensors are not those of Stable Diffusion: {error}') from None
    scheduler = BETAS | dict(
        prediction_type=prediction_type_of(file), clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    tokenizer = tokenizer_of('open_clip' if open_clip else 'clip', text_config.max_position_embeddings)
    return Parts(vae, unet, text, tokenizer, scheduler)


def converted(convert: Callable[..., dict[str, Tensor]], state: dict[str, Tensor], config: dict) -> dict[str, Tensor]:
    """The tensors under the names of diffusers, whose ``convert`` moves numbers in their places.

    Raises:
        ValueError: Names that ``convert`` passes over, or asks for in vain; they are listed.
    """
    names = list(state)
    numbers = {name: torch.full([1] * state[name].ndim, i, dtype=torch.float64) for i, name in enumerate(names)}
    try:
        moved = {new: names[int(i)] for new, i in convert(numbers, config).items() if i is not None}
    except KeyError as error:
        raise ValueError(f'missing 1: {error.args[0]}') from error
    left = sorted(state.keys() - set(moved.values()))
    if left:
        raise ValueError(f'{len(left)} of {len(state)} have no place in it: {some(left)}')
    return {new: state[name] for new, name in moved.items()}


def prediction_type_of(file: LdmFile) -> str:
    """From the original configuration beside the file (STEM.yaml), the marker ``v_pred``, or the family."""
    beside = file.path.with_suffix('.yaml')
    if beside.is_file():
        try:
            params = yaml.safe_load(beside.read_text())['model'].get('params') or {}
            return PARAMETERIZATIONS[params.get('parameterization', 'eps')]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{beside}: expected model.params.parameterization to be one of {", ".join(PARAMETERIZATIONS)}, or not '
                f'to be there (eps), as in the original configurations; found {error!r}'
            ) from error
    if 'v_pred' in file.shapes:
        return 'v_prediction'
    if is_open_clip(file):
        raise ValueError(
            f'{file.path} is of Stable Diffusion 2.x, and its tensors do not say what its U-Net predicts. Put the '
            f'original configuration beside it as {beside.name}: v2-inference-v.yaml for 768-v, v2-inference.yaml for '
            'base; or give a diffusers folder'
        )
    return 'epsilon'


def check_betas(file: LdmFile) -> None:
    stored, expected = file.read('alphas_cumprod').get('alphas_cumprod'), NoiseSchedule(BETAS).alphas_cumprod
    if stored is None:
        return
    near = max(1e-3, torch.finfo(stored.dtype).eps) if stored.is_floating_point() else 0  # bfloat16 keeps two digits
    if stored.shape != expected.shape or not torch.allclose(stored.float(), expected, atol=near):
        raise ValueError(f"{file.path} was trained with another noise schedule than Stable Diffusion's")


def below(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def unet_config_of(shapes: Shapes, open_clip: bool) -> dict:
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


def vae_config_of(shapes: Shapes) -> dict:
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


def fill(model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Gives ``model`` the tensors of ``state``, each in memory of its own; raises ValueError where they differ."""
    expected, found = ({name: tensor.shape for name, tensor in each.items()} for each in (model.state_dict(), state))
    both = sorted(expected.keys() & found.keys())
    wrong = {
        'missing': sorted(expected.keys() - found.keys()),
        'unexpected': sorted(found.keys() - expected.keys()),
        # A linear layer may have been stored as a 1×1 convolution.
        'of another shape': [name for name in both if _sides(expected[name]) != _sides(found[name])],
        'not finite': [name for name in both if state[name].is_floating_point() and not all_finite(state[name])],
    }
    if any(wrong.values()):
        raise ValueError(listed(wrong))
    state = {name: value.to(dtype, copy=True).reshape(expected[name]) for name, value in state.items()}
    model.load_state_dict(state, assign=True)


def _sides(shape: torch.Size) -> list[int]:
    return [side for side in shape if side != 1]
