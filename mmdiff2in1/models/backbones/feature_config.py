"""Settings of perception, what a diffusion model is shown: the same in warm-up, pseudo-labelling and test."""

from dataclasses import dataclass, replace
from typing import Any

from mmdiff2in1.generators import POSTERIORS, Perceiver

PROMPTS = ('class_embeddings', 'class_names', 'empty', 'learned')
WITHOUT_CLASSES = ('empty', 'learned')
TOKENS = ('all', 'category')
PADDINGS = ('cropped', 'kept')


@dataclass(frozen=True)
class FeatureConfig:
    """One explicit description of a perception forward.

    Attributes:
        timestep: What the denoiser is told, 0 … T_max - 1. Several, [50, 200]: one call at all of them, of each tap the
            features of all timesteps one behind the other (n times the channels), of attention maps their mean.
        prompt: ``class_embeddings`` (one token per class, pooled and averaged over 80 sentences: VPD),
            ``class_names`` (one token per class, the state at its last word: for text encoders that know words but no
            sentences), ``empty`` (the empty caption), or ``learned`` (:class:`.MetaPromptBackbone` alone).
        noise: Whether noise of that timestep is added to the latent; the same draw for several timesteps.
        posterior: ``mode`` or ``sample`` of the VAE.
        latent_scale: Whether the latent is brought to the scale that the denoiser was trained on. VPD leaves the factor
            out, which a fine-tuned U-Net learns to live with.
        taps: Names of taps of the model (LDM block names of a U-Net, ``block.0`` … of a transformer), ``all``, or for a
            U-Net ``vpd`` (one per decoder level).
        map_levels: Levels (0 = latent resolution) whose cross-attention maps are appended to the features.
        tokens: ``all``: every image is shown the tokens of all classes. ``category``: only that of its own class, which
            must be known for it (VPD's depth model: the class of the scene, at test time too).
        padding: Where the model needs larger images. ``cropped``: their border is repeated, and the features are
            cropped back. ``kept``: zeros (mid-grey), and features of them, as VPD's depth model has them, whose head
            crops later (:class:`.VPDDepthDecodeHead`); other heads would take them for the image.
    """

    timestep: int | tuple[int, ...] = 1
    prompt: str = 'class_embeddings'
    noise: bool = False
    posterior: str = 'mode'
    latent_scale: bool = False
    taps: str | tuple[str, ...] = 'vpd'
    map_levels: tuple[int, ...] = (1, 2)
    tokens: str = 'all'
    padding: str = 'cropped'

    def __post_init__(self):
        choices = dict(prompt=PROMPTS, posterior=POSTERIORS, tokens=TOKENS, padding=PADDINGS)
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise ValueError(f'unknown {field} {getattr(self, field)!r}; known: {", ".join(known)}')
        if not self.timesteps:
            raise ValueError('timestep=[] names no timestep; expected one, or a list of them')
        if self.prompt in WITHOUT_CLASSES and self.tokens == 'category':
            which = f'the {self.prompt} prompt has no token of a class'
            raise ValueError(f"{which}; set tokens='all', or choose another prompt")
        if self.prompt in WITHOUT_CLASSES and self.map_levels:
            raise ValueError(f'the {self.prompt} prompt has no class maps; set map_levels=()')
        if self.tokens == 'category' and self.map_levels:
            raise ValueError("with tokens='category' every map is 1: all attend to the one token; set map_levels=()")

    @property
    def timesteps(self) -> tuple[int, ...]:
        """All that ``timestep`` names."""
        return (self.timestep,) if isinstance(self.timestep, int) else self.timestep


PRESETS = {
    # VPD, segmentation: unscaled posterior mode, no noise, t = 1, class embeddings.
    'vpd': FeatureConfig(),
    # The code released with Diff-2-in-1: sampled posterior, scaled, noised at t = 0, empty prompt, every block.
    'released': FeatureConfig(
        timestep=0, prompt='empty', noise=True, posterior='sample', latent_scale=True, taps='all', map_levels=()
    ),
    # VPD, depth: the token of the scene's class alone, no maps, padding that takes part.
    'vpd_depth': FeatureConfig(map_levels=(), tokens='category', padding='kept'),
    # MetaPrompts: VPD's latent; tokens and time embeddings are learned, no maps.
    'meta_prompts': FeatureConfig(prompt='learned', map_levels=()),
}


def feature_config(preset: str = 'vpd', **changes) -> FeatureConfig:
    """A preset with some fields changed.

    Raises:
        ValueError: Unknown preset or field.
    """
    if preset not in PRESETS:
        raise ValueError(f'unknown feature preset {preset!r}; known: {", ".join(PRESETS)}')
    known = FeatureConfig.__dataclass_fields__
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ValueError(f'unknown feature fields {unknown}; known: preset, {", ".join(known)}')
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    return replace(PRESETS[preset], **values)


def resolved_taps(feature: FeatureConfig, perceiver: Perceiver) -> tuple[str, ...]:
    """The names of the taps, everything that the model is to be asked for being checked.

    Raises:
        ValueError: A timestep, tap or level that the model does not have, or nothing to return.
    """
    taps, T_max = feature.taps, perceiver.T_max
    if isinstance(taps, str):
        presets = perceiver.tap_presets
        if taps not in presets:
            raise ValueError(f'unknown taps {taps!r}; known: {", ".join(presets)}, or a list of block names')
        taps = presets[taps]
    perceiver.check_wanted(taps, feature.map_levels)
    if not (taps or feature.map_levels):
        raise ValueError('the feature config names neither taps nor map_levels; the backbone would return nothing')
    for timestep in feature.timesteps:
        if not 0 <= timestep < T_max:
            raise ValueError(f'feature timestep {timestep} is outside 0 … {T_max - 1}')
    return taps
