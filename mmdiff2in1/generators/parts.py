"""Parts that a latent diffusion model is made of."""

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel


@dataclass(frozen=True)
class Parts:
    """The parts as the libraries have them; ``tokenizer`` is one of transformers, ``scheduler`` a diffusers config."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: Any
    scheduler: dict
    controlnet: ControlNetModel | None = None
