"""From a training config to finished samples: diffusion model, sources, captions, plan, store.

The settings stand in `cfg.stages.synthesis`, the sources are the images of `cfg.train_dataloader.dataset`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiff2in1.captions.lookup import captions_of, read_captions
from mmdiff2in1.captions.new_scenes import SceneCaptions, needs_captions, scene_captions
from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.core.images import image_size

from .filters import check_thresholds
from .plan import Source, make_plan, timestep_choices
from .recipe import SampleRecipe
from .run import check_others, others_of, synthesize
from .scene_plan import scene_plan
from .sources import build_real_dataset, label_files, scored_images
from .store import SampleStore
from .unlabelled import UnlabelledPool

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator

GONE = ('ignore_label',)
"""Keys of older configs that have nothing left to say: a sample has no label file any more."""

OF_CREATED = ('scenes', 'num_samples', 'samples_per_image')
"""Settings that ask for created images."""
PRETRAINED, CREATOR = 'pretrained', 'creator'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """The keys of `stages.synthesis`, and nothing else.

    `diffusion`: what creates, see `load_generator`: a diffusers folder (Stable Diffusion, or any pipeline with an
    image-to-image form), one file of weights, 'builtin:scenes', or a dict of component configs (random weights, for
    trials). None: nothing is created, there are `unlabelled` images alone.
    `unet`: which U-Net denoises. 'pretrained': that of `diffusion`; 'creator': that of the warm-up's result, in a chain
    (a U-Net that was tuned for perception alone forgets to denoise: see `DenoisingEncoderDecoder`); or a checkpoint.
    `scenes`: captions of new scenes in the place of the images' own, see `scene_captions` and `scene_plan`; None: each
    image under its own caption.
    `unlabelled`: folders, files or patterns of the user's own images without labels; with `copy_unlabelled` they are
    copied into the store. See `UnlabelledPool`.
    `captions`: JSONL file; `caption_fallback` stands in where it has none ('' = create without a caption).
    `T`, `num_calls`, `grid`, `solver`, `guidance_scale`: see `LatentDiffusion.create`, and `PipelineGenerator.create`
    for SDXL and beyond (solver 'pipeline'); `T` may be 'noise' (T_max), a list or a range, see `make_plan`, as are
    `samples_per_image`, `num_samples` (one of them) and `seed`. `size`: see `creation_size`.
    `filters`: {score: (lowest, highest)}. `restore_size`, `keep_others`, `batch_size`: see `synthesize`.
    `device`: None takes the GPU of this process if there is one. `dtype`: of the diffusion weights.
    """

    diffusion: str | Mapping | None = None
    unet: str = 'pretrained'
    captions: str | None = None
    caption_fallback: str | None = None
    scenes: Mapping | None = None
    unlabelled: str | Sequence[str] | None = None
    copy_unlabelled: bool = False
    T: int | str | Sequence[int] | Mapping[str, int] = 600
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

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'SynthesisSettings':
        """Read `cfg.stages.synthesis`.

        Raises ValueError if it is absent, holds unknown keys, or asks for created images without `diffusion`.
        """
        given = (cfg.get('stages') or {}).get('synthesis')
        if given is None:
            raise ValueError('the config has no stages.synthesis; expected dict(diffusion=…, captions=…, T=…, …) there')
        given = {key: value for key, value in given.items() if key not in GONE}
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f'unknown keys in stages.synthesis: {", ".join(unknown)}; known: {", ".join(known)}')
        settings = cls(**given)
        creating = [name for name in OF_CREATED if given.get(name) is not None]
        if settings.diffusion is None and (creating or settings.unlabelled is None or settings.unet != PRETRAINED):
            found = f' and asks for created images by {", ".join(creating)}' if creating else ''
            raise ValueError(
                f'stages.synthesis lacks diffusion{found}; expected a diffusers folder, a file of weights, or '
                "'builtin:scenes'; without one unlabelled=FOLDER alone"
            )
        if settings.dtype not in DTYPES:
            raise ValueError(f'unknown dtype {settings.dtype!r}; known: {", ".join(DTYPES)}')
        check_thresholds(settings.filters)
        return settings


@dataclass(frozen=True)
class Job:
    """All that a synthesis run needs, checked as far as it can be without creating anything.

    `scenes` gives the captions of new scenes, `pool` holds unlabelled images. `rank` is the number of the GPU on this
    machine if the settings name no device.
    """

    settings: SynthesisSettings
    sources: list[Source]
    data_root: str | None
    source_labels: Mapping[str, Mapping[str, str]]
    rank: int = 0
    scenes: SceneCaptions | None = None
    pool: UnlabelledPool | None = None

    @property
    def creates(self) -> bool:
        """Whether images are created."""
        return self.settings.diffusion is not None

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
        if not self.creates:
            return []
        names = ('num_samples', 'samples_per_image', 'seed', 'T', 'num_calls', 'grid', 'solver', 'guidance_scale')
        options = {name: getattr(self.settings, name) for name in (*names, 'size')} | changes
        if 'weights_hash' not in options:
            options['weights_hash'] = self.weights_hash
        options['multiple'] = self.diffusion.multiple
        if self.scenes is not None:
            return scene_plan(self.scenes, self.sources, T_max=self.diffusion.T_max, **options)
        return make_plan(self.sources, **options | dict(T=timestep_choices(options['T'], self.diffusion.T_max)))

    def new_captions(self) -> list[str]:
        """As many captions of new scenes as there are samples; none without `scenes`."""
        per_image = self.settings.samples_per_image or 0
        count = self.settings.num_samples or per_image * len(self.sources)
        return [] if self.scenes is None else self.scenes.captions(count)

    def unlabelled(self, store: SampleStore) -> dict[str, dict]:
        """{sample_id: record} of the unlabelled images; raises what `UnlabelledPool.records` raises."""
        return {} if self.pool is None else self.pool.records(store)

    def others(self, store: SampleStore) -> list[str]:
        """The samples in a store that this job does not ask for."""
        return others_of(self.plan(), store.finished(), self.unlabelled(store))


def prepare(cfg: Config, rank: int = 0) -> Job:
    """`job_of` the config, with the generator loaded; wrong input is found in that order."""
    job = job_of(cfg, rank)
    if job.creates:
        job.diffusion  # noqa: B018  loads it
    return job


def job_of(cfg: Config, rank: int = 0) -> Job:
    """Read the config, find sources, captions and unlabelled images; the generator is loaded when it is asked for.

    Raises FileNotFoundError or ValueError for wrong settings, images or captions, and for unlabelled images that are
    images of the validation or test set.
    """
    settings = SynthesisSettings.from_cfg(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    dataset = build_real_dataset(cfg)
    data_root, paths = list_images(dataset)
    captions = read_captions(settings.captions) if settings.captions else {}
    needed = settings.diffusion is not None and needs_captions(settings.scenes)
    fallback = settings.caption_fallback if needed else settings.caption_fallback or ''
    texts = captions_of([Path(path).as_posix() for path in paths], captions, fallback)
    scenes = pool = None
    if settings.scenes is not None:
        scenes = scene_captions(settings.scenes, texts, dataset, settings.seed)
    if settings.unlabelled is not None:
        pool = UnlabelledPool.of(settings.unlabelled, settings.copy_unlabelled)
        pool = pool.without_leaks(paths, scored_images(cfg))
    labels = {
        source_name(path, data_root): {key: source_name(file, data_root) for key, file in files.items()}
        for path, files in label_files(dataset).items()
    }
    sources = [
        Source(source_name(path, data_root), text, image_size(path)) for path, text in zip(paths, texts, strict=True)
    ]
    return Job(settings, sources, data_root, labels, rank, scenes, pool)


def build_diffusion(settings: SynthesisSettings, rank: int = 0) -> 'Generator':
    """Load what creates onto its device; random weights depend on the seed of the settings only."""
    from mmdiff2in1.generators import LatentDiffusion
    from mmdiff2in1.generators.loading import load_generator

    dtype = DTYPES[settings.dtype]
    if settings.diffusion is None:
        raise ValueError('stages.synthesis.diffusion is None: nothing is created; name what creates')
    if isinstance(settings.diffusion, str):
        generator = load_generator(settings.diffusion, dtype)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            generator = LatentDiffusion.from_config(dict(settings.diffusion))
        for part in (generator.vae, generator.unet, generator.text):  # not the schedule, which needs float32
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
    """The unlabelled images of a job, and `synthesize` with its settings."""
    settings = job.settings
    beside = [] if job.pool is None else job.pool.add(store, rank, world_size)
    if not job.creates:
        if not settings.keep_others:
            check_others(store, others_of([], store.finished(), beside))
        if store.whole(beside) == set(beside):
            store.merge(beside)
        return store
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
        beside=beside,
        weights_hash=job.weights_hash,
        rank=rank,
        world_size=world_size,
        progress=progress,
    )
