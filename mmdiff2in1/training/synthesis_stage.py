"""The synthesis stage of a chain: checked before the warm-up, run after it, waited for without a collective."""

import copy
import os
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, get_rank

from mmdiff2in1.datasets.synthetic_records import draw
from mmdiff2in1.synthesis import SampleStore, check_plan, others_of, prepare, run_job
from mmdiff2in1.synthesis.from_config import CREATOR, PRETRAINED


def check_creation(cfg: Config, store: Path) -> None:
    """Loads what creation needs and plans it, so that a wrong setting is found before hours of warm-up.

    Raises:
        ValueError: Whatever is wrong with the settings, captions or weights, or samples of another plan in the store.
    """
    later = cfg.stages.synthesis.get('unet') == CREATOR
    job = prepare(_with_unet(cfg, PRETRAINED) if later else cfg, get_rank())
    plan = job.plan()
    check_plan(job.diffusion, plan)
    if not job.settings.keep_others:  # then there may be more than are made
        check_draw(cfg, [dict(sample_id=recipe.sample_id, source=recipe.source) for recipe in plan], store)
    if later:  # samples carry the hash of their weights, and these are still to be trained
        return
    others = others_of(plan, SampleStore(store).finished())
    if others and not job.settings.keep_others:
        raise ValueError(
            f'{store} holds {len(others)} samples that the settings do not ask for, first {others[0]}: run '
            'tools/synthesize.py with --prune, delete the folder, choose another --work-dir, or set keep_others=True'
        )


def check_store(cfg: Config, store: Path) -> None:
    """A store that is only read: it must be there, and hold as many samples as the training set asks for.

    Raises:
        FileNotFoundError, ValueError: It is not, or does not.
    """
    check_draw(cfg, SampleStore(store).records(), store)


def check_draw(cfg: Config, records: list[dict], store: Path) -> None:
    """Whether the training set can have the samples that it asks for; filters may still refuse some that are made.

    Raises:
        ValueError: There are, or will be, too few.
    """
    dataset = cfg.train_dataloader.dataset
    draw(records, dataset.get('num_samples'), dataset.get('samples_per_image'), dataset.get('seed', 0), str(store))


def create_samples(cfg: Config, store: Path, warmup: str | None = None, poll_seconds: float = 5.0) -> None:
    """Each process makes its share; none waits inside a collective while others create for hours.

    Args:
        cfg: With ``stages.synthesis``.
        store: Where the samples go.
        warmup: Checkpoint whose U-Net creates if ``stages.synthesis.unet`` is ``creator``.
        poll_seconds: How often a process that is ready looks whether the others are.
    """
    rank, world_size = get_rank(), int(os.environ.get('WORLD_SIZE', 1))
    if cfg.stages.synthesis.get('unet') == CREATOR:
        cfg = _with_unet(cfg, warmup)
    job = prepare(cfg, rank)
    run_job(job, SampleStore(store), rank, world_size)
    missing = {recipe.sample_id for recipe in job.plan()}
    while missing := missing - SampleStore(store).whole(missing):
        time.sleep(poll_seconds)
    barrier()


def _with_unet(cfg: Config, unet: str) -> Config:
    changed = copy.deepcopy(cfg)
    changed.stages.synthesis.unet = unet
    return changed
