"""Stable Diffusion 3 and 3.5 as a perceiver: a joint transformer over latents and text, trained by flow matching.

B, 3, H, W: RGB in [-1, 1]; B, c, h, w: latents; B, L, D: tokens; B, P: pooled text; N patches of p × p latent cells.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from mmdiff2in1.core.digest import add_tensors

from .diffusers_folder import read_model
from .flow_schedule import FlowSchedule
from .interfaces import Features, Tap
from .latent_model import LatentModel
from .model_files import variant_in
from .scheduler_config import read_scheduler
from .tokenizer_folder import check_tokenizer_files, foreign_vocabulary, read_tokenizer
from .weights import find_weights, pipeline_parts

T5_LENGTH = 256
"""Tokens of the T5, its own padding included: diffusers' default."""
CONTEXT_ONLY = ('attn.add_q_proj', 'attn.norm_added_q', 'attn.to_add_out', 'norm2_context', 'ff_context')
"""Parts of a block that give the next block's text, and nothing to the image."""


class JointText(nn.Module):
    """The text of Stable Diffusion 3: two CLIPs side by side, a T5 behind them.

    Args:
        clips: Two text encoders with projection, each with its tokenizer.
        t5: A T5 encoder and its tokenizer; None as in diffusers: zeros in its place.
        width: D.
    """

    def __init__(self, clips: list[tuple[nn.Module, Any]], t5: tuple[nn.Module, Any] | None, width: int):
        super().__init__()
        self.clips = nn.ModuleList([encoder for encoder, _ in clips])
        self.t5 = None if t5 is None else t5[0]
        self.tokenizers = [tokenizer for _, tokenizer in (*clips, *([] if t5 is None else [t5]))]
        self.width = width

    @torch.no_grad()
    def forward(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions → tokens (B, L, D), the CLIPs' last but one states and the T5's last, and pooled text (B, P)."""
        device = next(self.parameters()).device
        states, pooled = [], []
        for encoder, tokenizer in zip(self.clips, self.tokenizers, strict=False):
            seen = encoder(_ids(tokenizer, captions, tokenizer.model_max_length, device), output_hidden_states=True)
            states.append(seen.hidden_states[-2])
            pooled.append(seen.text_embeds)
        clip = torch.cat(states, -1)
        if self.t5 is None:
            t5 = clip.new_zeros(len(captions), T5_LENGTH, self.width)
        else:
            t5 = self.t5(_ids(self.tokenizers[-1], captions, T5_LENGTH, device)).last_hidden_state.to(clip.dtype)
        return torch.cat([F.pad(clip, (0, self.width - clip.shape[-1])), t5], 1), torch.cat(pooled, -1)


def _ids(tokenizer: Any, captions: list[str], length: int, device: torch.device) -> Tensor:
    batch = tokenizer(captions, padding='max_length', truncation=True, max_length=length, return_tensors='pt')
    return batch.input_ids.to(device)


class StableDiffusion3(LatentModel):
    """Shows the image half of chosen transformer blocks as maps; see :class:`.Perceiver`.

    Its taps are ``block.0`` …, all of one level, the patches'. It attends to tokens of text and image together, so
    there are no attention maps of classes, and no tokens of classes. Build one with :meth:`from_pretrained`.

    Args:
        vae: Image autoencoder.
        transformer: Denoiser.
        text: Text encoders.
        schedule: Noise schedule.

    Raises:
        ValueError: The latents of VAE and transformer differ.
    """

    class_text = None

    def __init__(self, vae: AutoencoderKL, transformer: SD3Transformer2DModel, text: JointText, schedule: FlowSchedule):
        super().__init__()
        if transformer.config.in_channels != vae.config.latent_channels:
            raise ValueError(
                f'the transformer takes {transformer.config.in_channels} channels, but the VAE has latents of '
                f'{vae.config.latent_channels}'
            )
        self.vae, self.transformer, self.text, self.schedule = vae, transformer, text, schedule
        self.eval()

    @staticmethod
    def reads(place: Path) -> bool:
        """True if ``place`` is a diffusers folder with this transformer."""
        return pipeline_parts(place).get('transformer') == 'SD3Transformer2DModel'

    @staticmethod
    def check(path: str | Path) -> Path:
        """The folder, complete: the parts that its ``model_index.json`` names, with weights, vocabularies and schedule.

        Raises:
            FileNotFoundError: One is missing.
            ValueError: The scheduler is not one of flow matching.
        """
        folder = find_weights(path)
        needed = ('vae', 'transformer', 'scheduler', 'text_encoder', 'text_encoder_2', 'tokenizer', 'tokenizer_2')
        t5 = [part for part in ('text_encoder_3', 'tokenizer_3') if pipeline_parts(folder).get(part)]
        missing = [part for part in (*needed, *t5) if not (folder / part).is_dir()]
        if missing:
            found = ', '.join(sorted(p.name for p in folder.iterdir()))
            raise FileNotFoundError(f'{folder} is not a complete folder: missing {", ".join(missing)}; found {found}')
        for part in (*needed, *t5):
            if part.startswith('tokenizer'):
                check_tokenizer_files(folder / part)
            elif part != 'scheduler':
                variant_in(folder / part)
        read_scheduler(folder / 'scheduler' / 'scheduler_config.json', flow=True)
        return folder

    @classmethod
    def from_pretrained(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> 'StableDiffusion3':
        """Loads a diffusers folder (``transformer/ vae/ scheduler/ text_encoder*/ tokenizer*/``).

        Args:
            path: The folder; without ``text_encoder_3`` zeros stand in for the T5, as the model was trained to take.
            dtype: Type of the parameters.

        Raises:
            FileNotFoundError: The path, or a part of the folder, does not exist.
            ValueError: A file is damaged; keys are missing from a part, or do not belong to it; the parts do not fit
                each other.
        """
        folder = cls.check(path)

        def text(kind: Any, number: str) -> tuple[nn.Module, Any]:
            encoder = read_model(kind, folder / f'text_encoder{number}', dtype)
            return encoder, read_tokenizer(folder / f'tokenizer{number}', encoder)

        transformer = read_model(SD3Transformer2DModel, folder / 'transformer', dtype)
        clips = [text(CLIPTextModelWithProjection, number) for number in ('', '_2')]
        t5 = text(T5EncoderModel, '_3') if pipeline_parts(folder).get('text_encoder_3') else None
        return cls(
            read_model(AutoencoderKL, folder / 'vae', dtype),
            transformer,
            JointText(clips, t5, transformer.config.joint_attention_dim),
            FlowSchedule(read_scheduler(folder / 'scheduler' / 'scheduler_config.json', flow=True)),
        )

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""
        return self.downscale * self.transformer.config.patch_size

    @property
    def taps(self) -> dict[str, Tap]:
        """``block.i`` → the image half of block i; p = 2^level."""
        level, width = self.transformer.config.patch_size.bit_length() - 1, self.transformer.inner_dim
        names = [f'block.{i}' for i in range(len(self.transformer.transformer_blocks))]
        return {name: Tap(name, level, width) for name in names}

    @property
    def tap_presets(self) -> dict[str, tuple[str, ...]]:
        """``all``."""
        return {'all': tuple(self.taps)}

    @property
    def denoiser(self) -> SD3Transformer2DModel:
        """The transformer."""
        return self.transformer

    def check_wanted(self, taps: Collection[str], map_levels: Collection[int]) -> None:
        """Raises ValueError for blocks that there are not, and for any attention maps."""
        known = self.taps
        unknown = [name for name in taps if name not in known]
        if unknown:
            raise ValueError(f'unknown taps {unknown}; this transformer has {", ".join(known)}')
        if map_levels:
            raise ValueError(
                f'attention maps of levels {sorted(map_levels)} asked for; text and image attend to each other '
                'together in Stable Diffusion 3, so there are none: set map_levels=()'
            )

    def train_read(self, taps: Collection[str], map_levels: Collection[int]) -> None:
        """Gives the gradient to the transformer up to the last tap, and takes it from what nothing reads."""
        net, last = self.transformer.requires_grad_(True), self._last(taps)
        behind = [net.norm_out, net.proj_out, *net.transformer_blocks[last + 1 :]]
        # What the last block says to the text of the next is heard by nobody.
        text_only = [m for name, m in net.transformer_blocks[last].named_modules() if name in CONTEXT_ONLY]
        for module in (*behind, *text_only):
            module.requires_grad_(False)

    def encode_prompt(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions → tokens (B, L, D) and pooled text (B, P)."""
        self.check_creates()
        return self.text(captions)

    def features(
        self,
        z: Tensor,
        t: Tensor,
        context: Tensor,
        pooled: Tensor | None = None,
        *,
        taps: Collection[str] = (),
        map_levels: Collection[int] = (),
    ) -> Features:
        """One forward pass up to the last tap; taps are (B, C, h / p, w / p).

        Raises:
            ValueError: No pooled text, no taps, or one that there is not, or attention maps.
        """
        self.check_wanted(taps, map_levels)
        if pooled is None or not taps:
            raise ValueError('Stable Diffusion 3 needs the pooled text of its prompt, and taps to be read at')
        net, last = self.transformer, self._last(taps)
        size = [side // net.config.patch_size for side in z.shape[-2:]]
        x = net.pos_embed(z.to(net.dtype)).contiguous()
        conditions = net.time_text_embed(self.schedule.told(t), pooled.to(net.dtype))
        text = net.context_embedder(context.to(net.dtype))
        recompute = torch.is_grad_enabled() and net.is_gradient_checkpointing
        features = Features()
        for i, block in enumerate(net.transformer_blocks[: last + 1]):
            args = (x, text, conditions)
            text, x = checkpoint(block, *args, use_reentrant=False) if recompute else block(*args)
            if f'block.{i}' in taps:
                features.taps[f'block.{i}'] = x.transpose(1, 2).unflatten(-1, size)
        return features

    def denoising_errors(self, z0: Tensor, noise: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """Squared errors (B, c, h, w) of the predicted velocity; differentiable."""
        context, pooled = self.encode_prompt(captions)
        told = self.schedule.told(t)
        output = self.transformer(self.add_noise(z0, noise, t), context, pooled, told).sample.float()
        return (output - self.schedule.target(z0, noise)).square()

    def weights_hash(self) -> str:
        """SHA-256 over all parameters and buffers, the noise levels, the latent's scale, and foreign vocabularies."""
        scale = [self.vae.config[name] for name in ('scaling_factor', 'shift_factor')]
        digest = hashlib.sha256(json.dumps(scale).encode())
        add_tensors(digest, self.state_dict() | {'sigmas': self.schedule.sigmas})
        if self.creates:
            digest.update(''.join(map(foreign_vocabulary, self.text.tokenizers)).encode())
        return digest.hexdigest()

    def _last(self, taps: Collection[str]) -> int:
        return max(int(name.removeprefix('block.')) for name in taps)
