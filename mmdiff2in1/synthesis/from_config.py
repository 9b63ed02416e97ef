"""From a training config to finished samples: diffusion model, sources, captions, plan, store.

The settings stand in `cfg.stages.synthesis`, the sources are the images of `cfg.train_dataloader.dataset`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiff2in1.captions.lookup import captions_of, read_captions
from mmdiff2in1.captions.new_scenes import SceneCaptions, needs_captions, scene_captions
from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.core.image_loading import refuse_as_sources
from mmdiff2in1.core.images import image_size

from .checks import check_others, others_of
from .composing import Composing, layout_of
from .conditions import ComposedPictures, ConditionPictures, ConditionSettings, Pictures
from .generator import build_diffusion, device_of, take_trained_unet
from .labelled_set import LabelledSet
from .plan import Source, make_plan, timestep_choices
from .recipe import SampleRecipe
from .resampling import source_weights
from .run import synthesize
from .scene_plan import scene_plan
from .settings import PRETRAINED, SynthesisSettings
from .sources import build_real_dataset, label_files, scored_images
from .store import SampleStore
from .unlabelled import UnlabelledPool

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator


@dataclass(frozen=True)
class Job:
    """All that a synthesis run needs, checked as far as it can be without creating anything.

    `rank` is the number of the GPU on this machine if the settings name no device. `composing`: of a layout, if one is
    asked for. `pictures` draws the conditions; `weights` of sources, None: all count alike. `scenes` gives the captions
    of new scenes, `pool` holds unlabelled images.
    """

    settings: SynthesisSettings
    sources: list[Source]
    data_root: str | None
    source_labels: Mapping[str, Mapping[str, str]]
    rank: int = 0
    composing: Composing | None = None
    pictures: Pictures | None = None
    weights: Mapping[str, float] | None = None
    scenes: SceneCaptions | None = None
    pool: UnlabelledPool | None = None

    @property
    def creates(self) -> bool:
        """True if images are made, by a generator or a layout."""
        return self.settings.creates

    @cached_property
    def diffusion(self) -> 'Generator':
        """The generator, loaded onto `device` when first asked for."""
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
                take_trained_unet(self.diffusion, unet)
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
        options['weights'] = self.weights
        if self.composing is not None:
            options['layout'] = self.composing.identity
        if self.pictures is not None:
            options['condition_of'] = self.pictures.condition
        if self.scenes is not None:
            return scene_plan(self.scenes, self.sources, T_max=self.diffusion.T_max, **options)
        return make_plan(self.sources, **options | dict(T=timestep_choices(options['T'], self.diffusion.T_max)))

    def unlabelled(self, store: SampleStore) -> dict[str, dict]:
        """{sample_id: record} of the unlabelled images; raises what `UnlabelledPool.records` raises."""
        return {} if self.pool is None else self.pool.records(store)

    def others(self, store: SampleStore) -> list[str]:
        """The samples in a store that this job does not ask for."""
        return others_of(self.plan(), store.finished(), self.unlabelled(store))

    def marks(self) -> list:
        """Marks of all that decides the samples besides settings, sources, their captions and the generator's weights.

        Label maps, shares, captions of new scenes, and of unlabelled images place, length and time.
        """
        marks: list = [self.pictures.digest] if self.pictures else []
        marks += [dict(self.weights)] if self.weights else []
        marks += [self._new_captions()] if self.scenes else []
        return marks + ([asdict(self.pool)] if self.pool else [])

    def _new_captions(self) -> list[str]:
        """As many captions of new scenes as there are samples."""
        per_image = self.settings.samples_per_image or 0
        count = self.settings.num_samples or per_image * len(self.sources)
        return [] if self.scenes is None else self.scenes.captions(count)


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
    dataset = build_real_dataset(cfg, with_pipeline=settings.layout is not None)
    refuse_as_sources(dataset)
    data_root, paths = list_images(dataset)
    captions = read_captions(settings.captions) if settings.captions else {}
    needed = settings.draws and needs_captions(settings.scenes)  # what is not redrawn needs none
    fallback = settings.caption_fallback if needed else settings.caption_fallback or ''
    texts = captions_of([Path(path).as_posix() for path in paths], captions, fallback)
    labels = {
        source_name(path, data_root): {key: source_name(file, data_root) for key, file in files.items()}
        for path, files in label_files(dataset).items()
    }
    sources = [
        Source(source_name(path, data_root), text, image_size(path)) for path, text in zip(paths, texts, strict=True)
    ]
    composing = weights = None
    pictures: Pictures | None = None
    if settings.layout is not None:
        samples = LabelledSet(dataset, data_root, {source.image: source.caption for source in sources if source.image})
        sources = [source for source in sources if source.image in samples]
        composing = Composing(layout_of(settings.layout), samples)
    names = [str(source.image) for source in sources]
    if settings.condition is not None and composing is not None:
        pictures = ComposedPictures(composing.samples, ConditionSettings.of(settings.condition))
    elif settings.condition is not None:
        pictures = ConditionPictures.from_cfg(cfg, settings.condition)
        pictures.maps.check(names)
    if settings.resample is not None:
        weights = source_weights(cfg, settings.resample, names)
    scenes = pool = None
    if settings.scenes is not None:
        scenes = scene_captions(settings.scenes, texts, dataset, settings.seed)
    if settings.unlabelled is not None:
        pool = UnlabelledPool.of(settings.unlabelled, settings.copy_unlabelled)
        pool = pool.without_leaks(paths, scored_images(cfg))
    return Job(settings, sources, data_root, labels, rank, composing, pictures, weights, scenes, pool)


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
    """The unlabelled images of a job, and `synthesize` with its settings.

    Raises InUseError if another run writes to the store, before anything is created.
    """
    with SampleStore(store.folder, rank).writing('creating samples'):
        return _run(job, store, rank, world_size, progress)


def _run(job: Job, store: SampleStore, rank: int, world_size: int, progress: bool) -> SampleStore:
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
        composing=job.composing,
        pictures=job.pictures,
        rank=rank,
        world_size=world_size,
        progress=progress,
    )
