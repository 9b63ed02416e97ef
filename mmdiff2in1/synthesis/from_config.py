"""From a training config to finished samples: diffusion model, sources, captions, plan, store.

The settings stand in `cfg.stages.synthesis`, the sources are the images of `cfg.train_dataloader.dataset`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiff2in1.captions.lookup import captions_of, read_captions
from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.core.images import image_size

from .composing import Composing, NoGenerator, layout_of
from .conditions import ConditionPictures
from .filters import check_thresholds
from .labelled_set import LabelledSet
from .plan import Source, make_plan, timestep_choices
from .recipe import SampleRecipe
from .resampling import source_weights
from .run import synthesize
from .sources import build_real_dataset, label_files
from .store import SampleStore

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator

GONE = ('ignore_label',)
"""Keys of older configs that have nothing left to say: a sample has no label file any more."""

PRETRAINED, CREATOR = 'pretrained', 'creator'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """The keys of `stages.synthesis`, and nothing else.

    `layout`: what composes new images of the labelled ones first, a TASK_UTILS config of a `Layout`; then `T` is the
    noise level at which `diffusion` redraws them: 0, its default there, leaves them as they are and needs no
    `diffusion`. What is made has the size of its source and labels of its own.
    `diffusion`: what creates, see `load_generator`: a diffusers folder (Stable Diffusion, or any pipeline with an
    image-to-image form), one file of weights, 'builtin:scenes', or a dict of component configs (random weights, for
    trials).
    `unet`: which U-Net denoises. 'pretrained': that of `diffusion`; 'creator': that of the warm-up's result, in a chain
    (a U-Net that was tuned for perception alone forgets to denoise: see `DenoisingEncoderDecoder`); or a checkpoint.
    `captions`: JSONL file; `caption_fallback` stands in where it has none ('' = create without a caption).
    `T`, `num_calls`, `grid`, `solver`, `guidance_scale`: see `LatentDiffusion.create`, and `PipelineGenerator.create`
    for SDXL and beyond (solver 'pipeline'); `T` may be a list or a range, see `make_plan`, as are `samples_per_image`,
    `num_samples` (one of them) and `seed`. `size`: see `creation_size`.
    `controlnet`: folder of a ControlNet for `diffusion`; None: the one that it has in `controlnet/`, if any.
    `condition`: created images follow this label of their source, see `ConditionSettings`; then `T` may be T_max.
    `resample`: some sources are created from more often, see `resample_settings`.
    `filters`: {score: (lowest, highest)}. `restore_size`, `keep_others`, `batch_size`: see `synthesize`. `device`: None
    takes the GPU of this process if there is one. `dtype`: of the diffusion weights.
    """

    diffusion: str | Mapping | None = None
    unet: str = 'pretrained'
    captions: str | None = None
    caption_fallback: str | None = None
    T: int | Sequence[int] | Mapping[str, int] = 600
    num_calls: int = 20
    grid: str = 'even'
    solver: str = 'ddim'
    guidance_scale: float = 1.0
    samples_per_image: int | None = None
    num_samples: int | None = None
    seed: int = 0
    size: int | Sequence[int] | None = None
    batch_size: int = 4
    filters: Mapping = field(default_factory=dict)
    restore_size: bool = False
    keep_others: bool = False
    device: str | None = None
    dtype: str = 'float32'
    controlnet: str | None = None
    condition: str | Mapping[str, Any] | None = None
    resample: Mapping[str, Any] | None = None
    layout: Mapping | None = None

    @property
    def draws(self) -> bool:
        """Whether a generator is needed: not if a layout composes and nothing is redrawn."""
        return self.layout is None or any(level > 0 for level in timestep_choices(self.T))

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'SynthesisSettings':
        """Read `cfg.stages.synthesis`; ValueError if it is absent, lacks `diffusion` or holds unknown keys."""
        given = (cfg.get('stages') or {}).get('synthesis')
        if given is None:
            raise ValueError('the config has no stages.synthesis; expected dict(diffusion=…, captions=…, T=…, …) there')
        given = {key: value for key, value in given.items() if key not in GONE}
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f'unknown keys in stages.synthesis: {", ".join(unknown)}; known: {", ".join(known)}')
        if given.get('layout') is not None:
            given = dict(T=0) | given
        settings = cls(**given)
        if settings.diffusion is None and settings.draws:
            if settings.layout is not None:
                raise ValueError(
                    f'stages.synthesis.T={settings.T} redraws what the layout composes, but there is no diffusion; '
                    'expected what creates, or T=0 for plain layouts'
                )
            raise ValueError(
                "stages.synthesis lacks diffusion; expected a diffusers folder, a file of weights, or 'builtin:scenes'"
            )
        if settings.layout is not None and settings.condition is not None:
            raise ValueError(
                'stages.synthesis has both layout and condition: what a layout composes has labels of its own, and the '
                'condition would follow those of the source; leave one of them out'
            )
        if settings.dtype not in DTYPES:
            raise ValueError(f'unknown dtype {settings.dtype!r}; known: {", ".join(DTYPES)}')
        check_thresholds(settings.filters)
        return settings


@dataclass(frozen=True)
class Job:
    """All that a synthesis run needs, checked as far as it can be without creating anything.

    `rank` is the number of the GPU on this machine if the settings name no device. `composing`: of a layout, if one is
    asked for. `pictures` draws the conditions; `weights` of sources, None: all count alike.
    """

    settings: SynthesisSettings
    sources: list[Source]
    data_root: str | None
    source_labels: Mapping[str, Mapping[str, str]]
    rank: int = 0
    composing: Composing | None = None
    pictures: ConditionPictures | None = None
    weights: Mapping[str, float] | None = None

    @cached_property
    def diffusion(self) -> 'Generator':
        """What creates, loaded onto `device` when first asked for."""
        return build_diffusion(self.settings, self.rank)

    @property
    def device(self) -> str:
        """That of the settings, else the GPU of this process if there is one."""
        return device_of(self.settings, self.rank)

    @cached_property
    def weights_hash(self) -> str:
        """Of the diffusion model; reading gigabytes of weights takes seconds."""
        return self.diffusion.weights_hash()

    def with_unet(self, unet: str) -> 'Job':
        """The same job with another `SynthesisSettings.unet`; a generator that is loaded goes over to it.

        To be called while that holds its pretrained U-Net; this job creates with the new one from then on, too.
        """
        changed = replace(self, settings=replace(self.settings, unet=unet))
        if 'diffusion' in self.__dict__:
            if unet != PRETRAINED:
                _take_trained_unet(self.diffusion, unet)
            changed.__dict__['diffusion'] = self.diffusion
        return changed

    def plan(self, **changes) -> list[SampleRecipe]:
        """The recipes of this job; `changes` replace arguments of `make_plan`, e.g. T for a preview."""
        names = ('num_samples', 'samples_per_image', 'seed', 'T', 'num_calls', 'grid', 'solver', 'guidance_scale')
        options = {name: getattr(self.settings, name) for name in (*names, 'size')} | changes
        if 'weights_hash' not in options:
            options['weights_hash'] = self.weights_hash
        if self.composing is not None:
            options['layout'] = self.composing.identity
        if self.pictures is not None:
            options['condition_of'] = self.pictures.condition
        options['weights'] = self.weights
        return make_plan(self.sources, multiple=self.diffusion.multiple, **options)

    def marks(self) -> list:
        """What decides the samples besides settings, sources, captions and weights: label maps and shares."""
        return [*([self.pictures.digest] if self.pictures else []), *([dict(self.weights)] if self.weights else [])]


def prepare(cfg: Config, rank: int = 0) -> Job:
    """`job_of` the config, with the generator loaded; wrong input is found in that order."""
    job = job_of(cfg, rank)
    job.diffusion  # noqa: B018  loads it
    return job


def job_of(cfg: Config, rank: int = 0) -> Job:
    """Read the config, find sources and captions; the generator is loaded when it is first asked for.

    Raises FileNotFoundError or ValueError for wrong settings, images or captions.
    """
    settings = SynthesisSettings.from_cfg(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    dataset = build_real_dataset(cfg, with_pipeline=settings.layout is not None)
    data_root, paths = list_images(dataset)
    captions = read_captions(settings.captions) if settings.captions else {}
    # Nothing that is not redrawn needs a caption.
    fallback = settings.caption_fallback if settings.draws else settings.caption_fallback or ''
    texts = captions_of([Path(path).as_posix() for path in paths], captions, fallback)
    labels = {
        source_name(path, data_root): {key: source_name(file, data_root) for key, file in files.items()}
        for path, files in label_files(dataset).items()
    }
    sources = [
        Source(source_name(path, data_root), text, image_size(path)) for path, text in zip(paths, texts, strict=True)
    ]
    composing = pictures = weights = None
    if settings.layout is not None:
        samples = LabelledSet(dataset, data_root, {source.image: source.caption for source in sources if source.image})
        sources = [source for source in sources if source.image in samples]
        composing = Composing(layout_of(settings.layout), samples)
    names = [str(source.image) for source in sources]
    if settings.condition is not None:
        pictures = ConditionPictures.from_cfg(cfg, settings.condition)
        pictures.maps.check(names)
    if settings.resample is not None:
        weights = source_weights(cfg, settings.resample, names)
    return Job(settings, sources, data_root, labels, rank, composing, pictures, weights)


def build_diffusion(settings: SynthesisSettings, rank: int = 0) -> 'Generator':
    """Load what creates onto its device, if anything does; random weights depend on the seed of the settings only."""
    if not settings.draws:
        return NoGenerator()
    from mmdiff2in1.generators import LatentDiffusion
    from mmdiff2in1.generators.loading import load_generator

    dtype = DTYPES[settings.dtype]
    if isinstance(settings.diffusion, str):
        generator = load_generator(settings.diffusion, dtype, settings.controlnet)
    elif settings.controlnet is not None:
        raise ValueError('controlnet names weights on disk and diffusion random ones; give that dict a controlnet=…')
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            generator = LatentDiffusion.from_config(dict(settings.diffusion))
        for part in (generator.vae, generator.unet, generator.text, generator.controlnet):
            if part is not None:  # not the schedule, which needs float32
                part.to(dtype)
    if settings.unet != PRETRAINED:
        _take_trained_unet(generator, settings.unet)
    return generator.to(device_of(settings, rank))


def device_of(settings: SynthesisSettings, rank: int = 0) -> str:
    """Where process `rank` of this machine creates."""
    return settings.device or (f'cuda:{rank % torch.cuda.device_count()}' if torch.cuda.is_available() else 'cpu')


def check_unet(generator: 'Generator', unet: str) -> None:
    """ValueError if the U-Net of a checkpoint, or of a warm-up, has no place in what creates."""
    from mmdiff2in1.generators import LatentDiffusion

    if not isinstance(generator, LatentDiffusion):
        raise ValueError(
            f'stages.synthesis.unet={unet!r}, but {type(generator).__name__} has no U-Net that we train; set '
            "unet='pretrained'"
        )


def _take_trained_unet(generator: 'Generator', checkpoint: str) -> None:
    from mmdiff2in1.generators.trained_weights import load_trained_unet

    if checkpoint == CREATOR:
        raise ValueError(
            "stages.synthesis.unet='creator' is the U-Net of the warm-up, which tools/train.py alone knows; name "
            'its checkpoint: stages.synthesis.unet=work_dirs/…/warmup/iter_….pth'
        )
    check_unet(generator, checkpoint)
    load_trained_unet(generator, checkpoint)


def synthesize_from_config(
    cfg: Config, store_path: str | Path, rank: int = 0, world_size: int = 1, progress: bool = True
) -> SampleStore:
    """Create what `cfg.stages.synthesis` asks for and `store_path` does not hold yet; returns the store.

    Process `rank` of `world_size` makes its share and waits for nobody: the store is complete when all have returned.

    Raises whatever `prepare` and `synthesize` raise, before the first sample is created.
    """
    job = prepare(cfg, rank)
    return run_job(job, SampleStore(store_path), rank, world_size, progress)


def run_job(job: Job, store: SampleStore, rank: int = 0, world_size: int = 1, progress: bool = True) -> SampleStore:
    """`synthesize` with the settings of a job."""
    settings = job.settings
    return synthesize(
        job.diffusion,
        job.plan(),
        store,
        data_root=job.data_root,
        batch_size=settings.batch_size,
        source_labels=job.source_labels,
        thresholds=settings.filters,
        restore_size=settings.restore_size,
        keep_others=settings.keep_others,
        weights_hash=job.weights_hash,
        composing=job.composing,
        pictures=job.pictures,
        rank=rank,
        world_size=world_size,
        progress=progress,
    )
