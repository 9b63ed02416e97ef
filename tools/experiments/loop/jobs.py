"""The jobs of the measurement: which labelled sets, seeds, tasks and arms are trained side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from mmdiff2in1.diffusion import LatentDiffusion

from .arms import CREATIONS, Arm, knob_arms, main_arms, range_arms, readiness_arms
from .created import created_pool
from .lockstep import Data, Lockstep, Schedule, make_backbone
from .pools import TASKS, Pool, camvid_train, camvid_val, scenes_part, unlabelled_scenes

UNLABELLED = 240
# Warm-up until the scores on `val` (nearly) stand still: the curves are in the records. By number of labels.
SCHEDULES = {20: Schedule(1000, 300), 60: Schedule(1600, 300), 200: Schedule(2000, 300), 600: Schedule(2400, 300)}
KNOBS_SCHEDULE = Schedule(900, 300)  # enough for normals; segmentation is still rising there
READY_SCHEDULE = Schedule(1600, 300, warmup_end=0.01)  # θ_C is annealed before it labels
CAMVID_SCHEDULES = {60: Schedule(600, 240), 250: Schedule(800, 240)}


@dataclass(frozen=True)
class Job:
    """Attributes: ``block`` decides the arms; jobs of one set, labels, seed, tasks and schedule share their warm-up."""

    block: str
    set: str
    labels: int
    seed: int
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """Also the name of its folder."""
        return f'{self.block}-{self.set}-{self.labels}-{"+".join(self.tasks)}-seed{self.seed}'

    @property
    def schedule(self) -> Schedule:
        """Steps of both stages."""
        if self.block in ('knobs', 'ready'):
            return KNOBS_SCHEDULE if self.block == 'knobs' else READY_SCHEDULE
        return (CAMVID_SCHEDULES if self.set == 'camvid' else SCHEDULES)[self.labels]

    @property
    def warm_up(self) -> str:
        """Name of the warm-up, the same for all jobs that share it."""
        stage = f'{self.schedule.warmup}-{self.schedule.warmup_end:g}'
        return f'{self.set}-{self.labels}-{"+".join(self.tasks)}-seed{self.seed}-{stage}'

    def arms(self, task: str) -> list[Arm]:
        """Arms of a task, without the control."""
        if task == 'depth' and self.block != 'main':
            return []
        if self.block == 'camvid':
            wanted = ('self-distillation', 'Diff-2-in-1', 'Diff-2-in-1, best')
            return [arm for arm in main_arms(task) if arm.name in wanted]
        arms_of: dict[str, Callable[[str], list[Arm]]] = {
            'knobs': knob_arms,
            'main': main_arms,
            'ready': readiness_arms,
            'range': range_arms,
        }
        return arms_of[self.block](task)


TWO = ('normal', 'semantic_segmentation')
THREE = (*TWO, 'depth')
JOBS = [
    # Depth comes along where features are made anyway; in `knobs` for its warm-up alone.
    *(Job('knobs', 'scenes', 60, seed, THREE) for seed in range(3)),
    *(Job('main', 'scenes', 60, seed, THREE) for seed in range(3)),
    *(Job('main', 'scenes', 60, seed, TWO) for seed in range(3, 5)),
    *(Job('ready', 'scenes', 60, seed, TWO) for seed in range(3)),
    *(Job('range', 'scenes', labels, seed, TWO) for seed in range(3) for labels in (20, 200, 600)),
    *(Job('camvid', 'camvid', labels, seed, ('semantic_segmentation',)) for seed in range(3) for labels in (60, 250)),
]


@dataclass(frozen=True)
class Places:
    """Where data and weights are, and where jobs keep their state."""

    scenes: Path
    camvid: Path
    work_dir: Path
    diffusion: str
    camvid_diffusion: str


def prepare(job: Job, places: Places) -> Lockstep:
    """Reads the data of a job and sets it up; pools are created when the training first asks for them."""
    tasks = {name: TASKS[job.set][name] for name in job.tasks}
    weights = places.diffusion if job.set == 'scenes' else places.camvid_diffusion
    if job.set == 'scenes':
        labelled = scenes_part(places.scenes, 'train', tasks, job.labels, job.seed)
        val, test = (scenes_part(places.scenes, part, tasks) for part in ('val', 'test'))
    else:
        labelled, val, test = camvid_train(places.camvid, job.labels, job.seed), camvid_val(places.camvid), None

    def pool(name: str) -> Pool:
        if name == 'unlabelled':
            return unlabelled_scenes(places.scenes, UNLABELLED, job.seed, tasks)
        diffusion = LatentDiffusion.from_folder(weights).to(get_device())
        return created_pool(diffusion, labelled, CREATIONS[name], job.seed, places.work_dir / 'pools')

    return Lockstep(
        Data(labelled, pool, val, None if job.block in ('knobs', 'ready') else test),
        tasks,
        {name: job.arms(name) for name in job.tasks},
        make_backbone(_backbone(job.set, weights)),
        job.schedule,
        job.seed,
        places.work_dir / job.name,
        places.work_dir / 'warm-ups' / f'{job.warm_up}.pth',
    )


def _backbone(set_: str, weights: str) -> dict:
    """The backbone of the configs of this repository, with other weights."""
    base = Config.fromfile(Path(__file__).parents[3] / 'configs' / '_base_' / 'models' / 'vpd_scenes.py')
    config: Any = base.model.backbone
    config.diffusion = weights
    if set_ == 'camvid':
        config.update(
            classes=None,
            feature=dict(preset='vpd', prompt='empty', map_levels=(), latent_scale=True, timestep=50),
        )
    return config
