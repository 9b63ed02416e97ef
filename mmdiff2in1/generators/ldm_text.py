"""The text encoder in a file of the original latent-diffusion layout → transformers' CLIPTextModel.

Stable Diffusion 1.x holds transformers' own CLIP, 2.x OpenCLIP, whose state before the last block the U-Net attends to.
"""

from torch import Tensor
from transformers import CLIPTextConfig

from .ldm_names import LdmFile
from .tokenizer import CLIP_VOCABULARY

TEXT = 'cond_stage_model.'
SDXL_TEXT = 'conditioner.embedders.'
CLIP, OPEN_CLIP = f'{TEXT}transformer.', f'{TEXT}model.'
ENDS = dict(bos_token_id=CLIP_VOCABULARY - 2, eos_token_id=CLIP_VOCABULARY - 1, pad_token_id=CLIP_VOCABULARY - 1)
BLOCK = 'transformer.resblocks.'
NAMES = {
    'token_embedding.weight': 'embeddings.token_embedding.weight',
    'positional_embedding': 'embeddings.position_embedding.weight',
    'ln_final.weight': 'final_layer_norm.weight',
    'ln_final.bias': 'final_layer_norm.bias',
}
PARTS = {
    'ln_1': 'layer_norm1',
    'ln_2': 'layer_norm2',
    'mlp.c_fc': 'mlp.fc1',
    'mlp.c_proj': 'mlp.fc2',
    'attn.out_proj': 'self_attn.out_proj',
}
BEHIND = ('text_projection', 'text_projection.weight', 'logit_scale')
"""Tensors that CLIP applies after the text encoder."""


def is_open_clip(file: LdmFile) -> bool:
    """True if the file is of Stable Diffusion 2.x."""
    return any(name.startswith(OPEN_CLIP) for name in file.shapes)


def is_sdxl(file: LdmFile) -> bool:
    """True if the file is of SDXL or one of its relatives."""
    return any(name.startswith(SDXL_TEXT) for name in file.shapes)


def text_encoder_config(file: LdmFile, prefix: str | None = None, whole: bool = False) -> CLIPTextConfig:
    """Read off the shapes; raises KeyError for a tensor that is not there.

    Args:
        file: Where it is.
        prefix: Of its names, ``….transformer.`` (transformers' CLIP) or ``….model.`` (OpenCLIP); that of Stable
            Diffusion 1.x or 2.x if None.
        whole: Keep the last block of OpenCLIP.
    """
    prefix = prefix or text_prefix(file)
    open_clip = prefix.endswith('.model.')
    shapes = {
        name.removeprefix(prefix).removeprefix('text_model.'): shape
        for name, shape in file.shapes.items()
        if name.startswith(prefix)
    }
    if open_clip:
        tokens, positions = shapes['token_embedding.weight'], shapes['positional_embedding']
        inner, blocks = shapes[f'{BLOCK}0.mlp.c_fc.weight'][0], sum(name.endswith('ln_1.weight') for name in shapes)
        # The whole tower has a projection behind it and a block that is not used; exported files have neither.
        unused = not whole and ('text_projection' in shapes or blocks == 24)
        layers, activation = blocks - unused, 'gelu'
    else:
        tokens, positions = shapes['embeddings.token_embedding.weight'], shapes['embeddings.position_embedding.weight']
        inner = shapes['encoder.layers.0.mlp.fc1.weight'][0]
        layers, activation = sum(name.endswith('layer_norm1.weight') for name in shapes), 'quick_gelu'
    vocabulary, width = tokens
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=positions[0],
        hidden_act=activation,
        **ENDS,
    )


def text_encoder_state(file: LdmFile, layers: int, prefix: str | None = None) -> dict[str, Tensor]:
    """The tensors under the names of transformers, for an encoder of so many layers; ``prefix`` as above."""
    prefix = prefix or text_prefix(file)
    tensors = {name.removeprefix(prefix): value for name, value in file.read(prefix).items()}
    tensors = {name: value for name, value in tensors.items() if not is_left_out(name, layers)}
    if not prefix.endswith('.model.'):
        return {name.removeprefix('text_model.'): value for name, value in tensors.items()}
    state = {}
    for name, value in tensors.items():
        if name.startswith(BLOCK):
            number, rest = name.removeprefix(BLOCK).split('.', 1)
            state |= {f'encoder.layers.{number}.{new}': part for new, part in _block(rest, value)}
        else:
            state[NAMES.get(name, name)] = value
    return state


def is_left_out(name: str, layers: int) -> bool:
    """True for a tensor of a text encoder, by its name in it, that comes behind the state which the U-Net attends to.

    Args:
        name: Without the prefix.
        layers: Of the encoder that is read: OpenCLIP's last one may be unused.
    """
    number = name.removeprefix(BLOCK).split('.', 1)[0] if name.startswith(BLOCK) else ''
    return name in BEHIND or number.isdigit() and int(number) >= layers


def text_prefix(file: LdmFile) -> str:
    """What the names of the text encoder of Stable Diffusion 1.x or 2.x begin with."""
    return OPEN_CLIP if is_open_clip(file) else CLIP


def _block(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """Queries, keys and values are one tensor there, in this order."""
    part, _, kind = name.rpartition('.')
    if name.startswith('attn.in_proj_'):
        kind = name.removeprefix('attn.in_proj_')
        return [(f'self_attn.{each}_proj.{kind}', third) for each, third in zip('qkv', value.chunk(3), strict=True)]
    return [(f'{PARTS.get(part, part)}.{kind}', value)]
