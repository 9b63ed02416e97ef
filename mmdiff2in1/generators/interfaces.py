"""The two jobs of a model on the ground floor: a generator makes images, a perceiver gives features.

B, 3, H, W: RGB in [-1, 1]; B, c, h, w: latents; B, L, D: tokens of a prompt; B, P: one vector of a whole prompt.
Level l has spatial size (h / 2^l, w / 2^l), level 0 is the latent's own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from .caption_flaws import CaptionFlaws
from .text import CaptionEncoder


@dataclass(frozen=True)
class Tap:
    """A place where a denoiser can be read.

    Attributes:
        name: As in a feature config.
        level: Level of what is read there.
        channels: Channels of what is read there.
    """

    name: str
    level: int
    channels: int


@dataclass
class Features:
    """Features that one call of a denoiser showed.

    Attributes:
        taps: Name → (B, C, h_l, w_l).
        maps: Level → cross-attention probabilities (B, L, h_l, w_l) in [0, 1], mean over heads and over the layers of
            that level; they sum to 1 over L.
        output: The denoiser's own output (B, c, h, w), or None where the pass ended at the last tap.
    """

    taps: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[int, Tensor] = field(default_factory=dict)
    output: Tensor | None = None

    def __getitem__(self, index: Tensor | slice) -> 'Features':
        """The samples that ``index`` selects (indices, a mask or a slice over B)."""
        return Features(
            {name: tap[index] for name, tap in self.taps.items()},
            {level: maps[index] for level, maps in self.maps.items()},
            None if self.output is None else self.output[index],
        )


@dataclass
class Creation:
    """Created images and how they came about.

    Attributes:
        images: RGB in [-1, 1], (B, 3, H, W).
        latents: The final latents (B, c, h, w), scaled as the denoiser knows them.
        timesteps: The grid that was walked.
        last: Features of the last denoising call (under guidance: of its captioned half), where they were asked for.
    """

    images: Tensor
    latents: Tensor
    timesteps: list[int]
    last: Features | None = None

    @property
    def calls(self) -> int:
        """Calls of the denoiser per sample: the length of the grid."""
        return len(self.timesteps)


class Generator(Protocol):
    """Image-to-image under a caption, from a seed: :class:`.LatentDiffusion`, :class:`.PipelineGenerator`."""

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps; T = T_max is pure noise, whatever the source."""

    @property
    def denoiser(self) -> Any:
        """The module that is called once per timestep."""

    @property
    def takes_conditions(self) -> bool:
        """True if :meth:`create` can be shown conditions."""

    def planned_timesteps(self, T: int, num_calls: int, grid: str, solver: str) -> list[int]:
        """The timesteps that :meth:`create` is going to walk, one denoising call each; ValueError if it cannot."""

    def create(
        self,
        images: Tensor | None,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        T: int,
        num_calls: int,
        grid: str,
        solver: str,
        guidance_scale: float,
        size: tuple[int, int] | None,
        conditions: Tensor | None = None,
    ) -> Creation:
        """One image per caption and seed, from ``images`` (B, 3, H, W), or from pure noise of ``size`` (H, W).

        ``conditions``: pictures (B, 3, H, W) in [0, 1] that the images are to follow, such as label maps in colours;
        ValueError unless :attr:`takes_conditions`.
        """

    def caption_flaws(self, captions: Sequence[str]) -> CaptionFlaws:
        """Parts of the captions that never reach a text encoder."""

    def weights_hash(self) -> str:
        """Of all that decides the images besides the arguments of :meth:`create`."""

    def to(self, device: torch.device | str) -> Self:
        """Moves the weights to ``device``; returns itself."""


class Perceiver(Protocol):
    """A denoiser on latents that shows its inside: :class:`.LatentDiffusion`, :class:`.StableDiffusion3`.

    It is a torch module, built in eval mode. ``t`` are timesteps (B,), int64, of 0 … T_max - 1.
    """

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""

    @property
    def downscale(self) -> int:
        """Image pixels per latent cell, each direction."""

    @property
    def encoder_channels(self) -> tuple[int, ...]:
        """Channels of the levels of :meth:`encode_with_levels`, at strides 1, 2, … up to half of `downscale`."""

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps."""

    @property
    def taps(self) -> dict[str, Tap]:
        """All taps by name, in the order in which a forward pass reaches them."""

    @property
    def tap_presets(self) -> dict[str, tuple[str, ...]]:
        """Sets of taps that have a name; ``all`` is one."""

    @property
    def class_text(self) -> CaptionEncoder | None:
        """The encoder that makes the tokens of classes; None if this model cannot be shown one token per class."""

    @property
    def denoiser(self) -> nn.Module:
        """The part that a finetune regime trains."""

    @property
    def other_parts(self) -> list[nn.Module]:
        """Parts that no regime trains: everything but the denoiser."""

    def check_wanted(self, taps: Collection[str], map_levels: Collection[int]) -> None:
        """Raises ValueError for taps, or levels of attention maps, that there are not."""

    def train_read(self, taps: Collection[str], map_levels: Collection[int]) -> None:
        """Gives the gradient to all of the denoiser that these features depend on, and takes it from the rest.

        Raises:
            ValueError: Some of what is read would get no gradient.
        """

    def enable_gradient_checkpointing(self) -> None:
        """From now on the backward pass computes the denoiser's layers anew instead of keeping their inside."""

    def encode(
        self,
        images: Tensor,
        posterior: str = 'mode',
        scale: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Tensor:
        """Images (B, 3, H, W) → latents (B, c, h, w), see :meth:`.LatentModel.encode`."""

    def encode_with_levels(
        self,
        images: Tensor,
        posterior: str = 'mode',
        scale: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same latents, and the encoder's features before each downsampling, (B, C_i, H / 2^i, W / 2^i)."""

    def scaled(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents → as the denoiser was trained on them."""

    def unscaled(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`scaled`."""

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Scaled latents and standard normal noise, both (B, c, h, w) → latents at the noise level of ``t``."""

    def encode_prompt(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """Captions, '' is none → tokens (B, L, D) and pooled vectors (B, P), None where the denoiser takes none."""

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
        """One forward pass over latents (B, c, h, w) under tokens (B, L, D) and vectors (B, P), to the last tap."""

    def denoising_errors(self, z0: Tensor, noise: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """Squared errors (B, c, h, w) of the denoiser's own task on scaled latents; differentiable."""

    @property
    def creates(self) -> bool:
        """False once :meth:`keep_perception` has been called."""

    def keep_perception(self) -> None:
        """Lets go of what :meth:`features` does not need: no prompt can be encoded any more, nothing be decoded."""

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name, as of any torch module."""

    def weights_hash(self) -> str:
        """Of all that decides the features besides the arguments of the methods."""
