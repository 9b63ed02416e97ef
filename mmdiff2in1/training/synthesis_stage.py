"""The synthesis stage of a chain: checked before the warm-up, run after it, waited for without a collective."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.logging import print_log

from mmdiff2in1.core.lock import READ_ONLY
from mmdiff2in1.datasets.synthetic_records import draw
from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.synthesis import SampleRecipe, SampleStore, check_plan, job_of, others_of, run_job, try_filters
from mmdiff2in1.synthesis.checks import unlike
from mmdiff2in1.synthesis.generator import check_unet
from mmdiff2in1.synthesis.settings import CREATOR, PRETRAINED

from .file_digests import digests_of
from .identity import weights_mark

LATER = 'still to be trained'
"""Stands for the hash of weights that a warm-up is going to give."""
UNDECIDED = (
    *('diffusion', 'controlnet', 'resample', 'unet', 'captions', 'caption_fallback', 'unlabelled'),
    *('batch_size', 'device', 'compile', 'keep_others'),
)
"""Settings that change no sample, or count by their content."""
SINCE = ('layout', 'condition', 'scenes', 'copy_unlabelled')
"""Settings that came later: one that is not set is left out, so that older stores stay complete."""


class SynthesisStage:
    """The synthesis stage of one run.

    The generator is loaded when it is first needed, once, and not at all where the store holds all samples of just
    these settings, captions, sources and weights; the record of that is a ``finished.json`` in the store.

    Args:
        cfg: With ``stages.synthesis``.
        store: Where the samples go.
    """

    def __init__(self, cfg: Config, store: Path):
        self.cfg, self.store = cfg, Path(store)
        self.job = job_of(cfg, get_rank())
        self.later = self.job.settings.unet == CREATOR

    def check(self, warmup: str | None = None) -> None:
        """Loads what creation needs and plans it, so that a wrong setting is found before hours of warm-up.

        Args:
            warmup: Checkpoint of the warm-up, if that is finished.

        Raises:
            ValueError: Whatever is wrong with the settings, captions or weights, or samples of another plan in the
                store.
        """
        if self._is_complete(warmup):
            check_store(self.cfg, self.store)
            return
        pool = self.job.unlabelled(SampleStore(self.store))
        if not self.job.creates:
            self._check_samples([], pool)
            return
        if self.job.composing is not None:
            self.job.composing.composer  # noqa: B018  finds out whether anything can be composed
        # Samples carry the hash of their weights; where these are still to be trained, all else can be looked at.
        job = self.job.with_unet(PRETRAINED) if self.later else self.job
        weights_hash = LATER if self.later else job.weights_hash
        plan = job.plan(weights_hash=weights_hash)
        if self.later:
            check_unet(job.diffusion, CREATOR)
        check_plan(job.diffusion, plan, weights_hash)
        self._check_samples(plan, pool)
        if not self.later:  # what a trained U-Net creates is seen when it is trained
            self._try_filters(plan)
        job.diffusion.to('cpu')  # the GPU is the warm-up's until the samples are made
        self.job = job

    def _try_filters(self, plan: list[SampleRecipe]) -> None:
        """Filters must let one of the first samples pass; a store that has one has shown it."""
        job = self.job
        finished = SampleStore(self.store).finished().values()
        if not job.settings.filters or any(record.get('rejected') is None for record in finished):
            return
        job.diffusion.to(job.device)
        try_filters(
            job.diffusion,
            plan,
            job.settings.filters,
            data_root=job.data_root,
            batch_size=job.settings.batch_size,
            composing=job.composing,
            pictures=job.pictures,
        )

    def _check_samples(self, plan: list[SampleRecipe], pool: dict[str, dict]) -> None:
        """The store must come to hold enough samples, and no others."""
        if self.job.settings.keep_others:  # then there may be more than are made
            return
        planned = [dict(sample_id=recipe.sample_id, source=recipe.source) for recipe in plan]
        check_draw(self.cfg, [*planned, *pool.values()], self.store)
        others = [] if self.later else others_of(plan, SampleStore(self.store).finished(), pool)
        if others:
            told = unlike(plan, SampleStore(self.store).finished()[others[0]]) or 'of another plan'
            raise ValueError(
                f'{self.store} holds {len(others)} samples that the settings do not ask for, first {others[0]} '
                f'({told}): run mmdiff2in1 synthesize with --prune, delete the folder, choose another --work-dir, or '
                'set keep_others=True'
            )

    def create(self, warmup: str | None = None, poll_seconds: float = 5.0) -> None:
        """Each process makes its share; none waits inside a collective while others create for hours.

        Args:
            warmup: Checkpoint whose U-Net creates if ``stages.synthesis.unet`` is ``creator``.
            poll_seconds: How often a process that is ready looks whether the others are; less often where a look takes
                long.
        """
        complete = self._is_complete(warmup)
        made: list[str] = []
        if not complete:
            made = self._create(warmup, poll_seconds)
        barrier()  # all have looked: now the record may be written
        if not complete and is_main_process():
            try:
                StageFolder(self.store, self._fingerprint(warmup)).finish(samples=made)
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
                print_log(f'{self.store} cannot be written: that it is complete is found out at every start', 'current')

    def _create(self, warmup: str | None, poll_seconds: float) -> list[str]:
        rank, world_size = get_rank(), int(os.environ.get('WORLD_SIZE', 1))
        job = self.job.with_unet(str(warmup)) if self.later else self.job
        if job.creates:
            job.diffusion.to(job.device)
        with SampleStore(self.store, rank).writing('creating samples'):
            run_job(job, SampleStore(self.store), rank, world_size)
            asked = {*(recipe.sample_id for recipe in job.plan()), *job.unlabelled(SampleStore(self.store))}
            missing, looked = asked, time.monotonic()
            while missing := missing - SampleStore(self.store).whole(missing):
                # A large store takes seconds to read: a tenth of the time at most goes into looking.
                time.sleep(max(poll_seconds, 9 * (time.monotonic() - looked)))
                looked = time.monotonic()
        return sorted(asked)

    def _is_complete(self, warmup: str | None) -> bool:
        """True if a run has made all samples of these settings, they are still there, and nothing else is."""
        if self.later and warmup is None:
            return False
        record = StageFolder(self.store, self._fingerprint(warmup)).result(refuse=False, samples=list)
        if record is None:
            return False
        store, asked = SampleStore(self.store), set(record['samples'])
        others = store.finished().keys() - asked
        return store.whole(asked) == asked and (self.job.settings.keep_others or not others)

    def _fingerprint(self, warmup: str | None) -> str:
        """Of all that decides the samples: settings, sources, captions, in a sample of their files the weights, and
        `Job.marks`."""
        settings = self.job.settings
        own = {name: value for name, value in asdict(settings).items() if name not in UNDECIDED}
        own = {name: value for name, value in own.items() if value or name not in SINCE}
        if settings.layout is not None:
            own['read'] = self._read_by_the_layout()
        diffusion = settings.diffusion if settings.draws else None
        weights = [weights_mark(diffusion) if isinstance(diffusion, str) else diffusion]
        if settings.controlnet is not None:
            weights.append(weights_mark(settings.controlnet))
        if self.later:
            weights.append(weights_mark(warmup))
        elif settings.unet != PRETRAINED:
            weights.append(weights_mark(settings.unet))
        sources = [asdict(source) for source in self.job.sources]
        text = json.dumps([own, weights, sources, *self.job.marks()], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    def _read_by_the_layout(self) -> list[str]:
        """Digests of the images and label files that are composed: those of files that have not changed are known."""
        root = Path(self.job.data_root or '.')
        files = {str(root / source.image) for source in self.job.sources if source.image}
        files |= {str(root / file) for labels in self.job.source_labels.values() for file in labels.values()}
        return digests_of(sorted(files), str(root))


def check_store(cfg: Config, store: Path) -> None:
    """A store that is only read: it must be there, and hold as many samples as the training set asks for.

    Raises:
        FileNotFoundError, ValueError: It is not, or does not.
    """
    check_draw(cfg, SampleStore(store).records(), store)


def check_draw(cfg: Config, records: Sequence[dict], store: Path) -> None:
    """The training set must be able to have the samples that it asks for; filters may still refuse some that are made.

    Raises:
        ValueError: There are, or will be, too few.
    """
    dataset = cfg.train_dataloader.dataset
    draw(records, dataset.get('num_samples'), dataset.get('samples_per_image'), dataset.get('seed', 0), str(store))
