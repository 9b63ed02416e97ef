"""One file of SDXL in its original layout → diffusers' image-to-image pipeline.

As in :mod:`.ldm_file`, configurations are read off the shapes; what shapes do not say is the same in every model of the
family. Source of names and constants: the SDXL base configuration of Stability-AI/generative-models
(``sd_xl_base.yaml``), and for the scheduler the one that is published with the weights.
"""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from .ldm_account import tell_left_out
from .ldm_file import (
    BETAS,
    UNET,
    VAE,
    Shapes,
    below,
    check_betas,
    converted,
    fill,
    prediction_type_of,
    unet_config_of,
    vae_config_of,
)
from .ldm_names import LdmFile
from .ldm_text import SDXL_TEXT, text_encoder_config, text_encoder_state
from .tokenizer import CLIP_VOCABULARY, tokenizer_of

CLIP, OPEN_CLIP = f'{SDXL_TEXT}0.transformer.', f'{SDXL_TEXT}1.model.'
PROJECTION = f'{OPEN_CLIP}text_projection'
LINEAR = f'{PROJECTION}.weight'
"""As transformers has it, and exporters that leave it as it is; OpenCLIP multiplies the pooled text from the left."""
VAE_SCALE = 0.13025
TIME_NUMBERS = 6
"""Original size, crop and target size, two numbers each, are embedded like timesteps beside the pooled text."""


def read_sdxl_file(path: Path, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Loads the pipeline; every tensor below the prefixes of its parts has a place in it, or is told to be left out.

    Args:
        path: Safetensors or a PyTorch checkpoint, see :class:`.LdmFile`. A VAE other than the
            original one must lie in the file.
        dtype: Type of the parameters.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or is no SDXL base model: tensors are missing, have no place, or do not fit.
    """
    file = LdmFile(path)
    missing = [each for each in (UNET, VAE, CLIP, OPEN_CLIP) if not any(name.startswith(each) for name in file.shapes)]
    if missing:
        raise ValueError(
            f'{path} has no tensors under {", ".join(missing)}; expected the SDXL base model (U-Net, VAE and both text '
            'encoders); a refiner, or a U-Net alone, must be given as the diffusers folder of a whole pipeline'
        )
    edm = [name for name in file.shapes if name.startswith('edm_')]
    if edm:
        raise ValueError(f'{path} is trained in the EDM way ({", ".join(edm)}), not as SDXL; give a diffusers folder')
    try:
        text_1, text_2 = text_encoder_config(file, CLIP), text_encoder_config(file, OPEN_CLIP, whole=True)
        text_2.projection_dim = (file.shapes.get(LINEAR) or file.shapes[PROJECTION][::-1])[0]
        unet_config = sdxl_unet_config(below(file.shapes, UNET), text_2.projection_dim)
        vae_config = vae_config_of(below(file.shapes, VAE)) | dict(scaling_factor=VAE_SCALE, force_upcast=True)
    except (KeyError, IndexError) as error:
        raise ValueError(f'{path}: a tensor that SDXL has is missing: {error}') from error
    _check_fit(path, unet_config, vae_config, text_1, text_2)
    check_betas(file)
    encoders = {CLIP: text_1.num_hidden_layers, OPEN_CLIP: text_2.num_hidden_layers}
    tell_left_out(file, (UNET, VAE, PROJECTION), encoders)
    with torch.device('meta'):
        unet, vae = UNet2DConditionModel(**unet_config), AutoencoderKL(**vae_config)
    encoder_1, encoder_2 = CLIPTextModel(text_1), CLIPTextModelWithProjection(text_2)
    for name, model, convert in (
        ('U-Net', unet, lambda: converted(convert_ldm_unet_checkpoint, file.read(UNET), unet_config)),
        ('VAE', vae, lambda: converted(convert_ldm_vae_checkpoint, file.read(VAE), vae_config)),
        ('first text encoder', encoder_1, lambda: text_encoder_state(file, text_1.num_hidden_layers, CLIP)),
        ('second text encoder', encoder_2, lambda: _open_clip_state(file, text_2.num_hidden_layers)),
    ):
        try:
            fill(model, convert(), dtype)
        except ValueError as error:
            raise ValueError(f'{path}, {name}: the tensors are not those of SDXL: {error}') from None
    return StableDiffusionXLImg2ImgPipeline(
        vae=vae,
        text_encoder=encoder_1,
        text_encoder_2=encoder_2,
        tokenizer=tokenizer_of('clip', text_1.max_position_embeddings),
        tokenizer_2=tokenizer_of('open_clip', text_2.max_position_embeddings),
        unet=unet,
        scheduler=_scheduler(file),
        add_watermarker=False,
    )


def sdxl_unet_config(shapes: Shapes, pooled: int) -> dict:
    """Of SDXL: the blocks of each attention layer are counted, the pooled text and sizes are embedded with time."""
    config = unet_config_of(shapes, open_clip=True)
    first, levels = 1, len(config['block_out_channels'])
    depths = []
    for _ in range(levels):
        start = f'input_blocks.{first}.1.transformer_blocks.'
        depths.append(max(1, len({name.split('.')[4] for name in shapes if name.startswith(start)})))
        first += config['layers_per_block'] + 1
    embedded = shapes['label_emb.0.0.weight'][1]
    return config | dict(
        transformer_layers_per_block=depths,
        addition_embed_type='text_time',
        addition_time_embed_dim=(embedded - pooled) // TIME_NUMBERS,
        projection_class_embeddings_input_dim=embedded,
    )


def _check_fit(path: Path, unet: dict, vae: dict, text_1, text_2) -> None:
    expected = text_1.hidden_size + text_2.hidden_size
    if unet['cross_attention_dim'] != expected:
        raise ValueError(
            f'{path}: the U-Net attends to tokens of {unet["cross_attention_dim"]} numbers, the two text encoders give '
            f'{expected}; expected the SDXL base model'
        )
    if unet['in_channels'] != vae['latent_channels']:
        raise ValueError(
            f'{path}: the U-Net takes {unet["in_channels"]} channels, the latent has {vae["latent_channels"]}; an '
            'inpainting model does not fit'
        )
    for text in (text_1, text_2):
        if text.vocab_size != CLIP_VOCABULARY:
            raise ValueError(f"{path}: {text.vocab_size} words; SDXL has CLIP's {CLIP_VOCABULARY}, twice")


def _open_clip_state(file: LdmFile, layers: int) -> dict[str, Tensor]:
    state = text_encoder_state(file, layers, OPEN_CLIP)
    found = file.read(PROJECTION)
    projection = found[LINEAR] if LINEAR in found else found[PROJECTION].T.contiguous()
    return {f'text_model.{name}': value for name, value in state.items()} | {'text_projection.weight': projection}


def _scheduler(file: LdmFile) -> EulerDiscreteScheduler:
    """Models that were trained with zero terminal SNR carry the marker ``ztsnr``, as others ``v_pred``."""
    to_zero = 'ztsnr' in file.shapes
    return EulerDiscreteScheduler(
        **BETAS,
        prediction_type=prediction_type_of(file),
        rescale_betas_zero_snr=to_zero,
        timestep_spacing='trailing' if to_zero else 'leading',
        steps_offset=1,
    )
