"""The jobs of the measurement: which labelled sets, seeds, tasks and arms are trained side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.runs import SETTINGS
from images.creation import KeptImages
from images.pools import TASKS, Pool, camvid_train, camvid_val, scenes_part, unlabelled_scenes
from mmengine.config import Config

from mmdiff2in1.generators import LatentDiffusion

from .arms import CREATIONS, Arm, finetune_arms, knob_arms, main_arms, range_arms, readiness_arms
from .created import CREATION, created_pool
from .features import make_backbone
from .lockstep import Data, Lockstep, Schedule

UNLABELLED = 240
# Warm-up until the scores on `val` (nearly) stand still: the curves are in the records. By number of labels.
SCHEDULES = {20: Schedule(1000, 300), 60: Schedule(1600, 300), 200: Schedule(2000, 300), 600: Schedule(2400, 300)}
READY_SCHEDULE = Schedule(1600, 300, warmup_end=0.01)  # θ_C is annealed before it labels
FINETUNE_SCHEDULE = Schedule(600, 200)  # a step costs ten times as much
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
        if self.block in ('ready', 'finetune'):
            return READY_SCHEDULE if self.block == 'ready' else FINETUNE_SCHEDULE
        return (CAMVID_SCHEDULES if self.set == 'camvid' else SCHEDULES)[self.labels]

    @property
    def warm_up(self) -> str:
        """Name of the warm-up, the same for all jobs that share it."""
        stage = f'{self.schedule.warmup}-{self.schedule.warmup_end:g}'
        unet = '' if self.regime == 'frozen' else f'-{self.regime}'
        return f'{self.set}-{self.labels}-{"+".join(self.tasks)}-seed{self.seed}-{stage}{unet}'

    @property
    def regime(self) -> str:
        """Whether the U-Net is ``frozen``, or trained (``finetune``)."""
        return 'finetune' if self.block == 'finetune' else 'frozen'

    def arms(self, task: str) -> list[Arm]:
        """Arms of a task, without the control."""
        if task == 'depth' and self.block == 'knobs':
            return []
        if self.block == 'camvid':
            wanted = ('self-distillation', 'Diff-2-in-1', 'Diff-2-in-1, best')
            return [arm for arm in main_arms(task) if arm.name in wanted]
        arms_of: dict[str, Callable[[str], list[Arm]]] = {
            'knobs': knob_arms,
            'finetune': finetune_arms,
            'main': main_arms,
            'ready': readiness_arms,
            'range': range_arms,
        }
        return arms_of[self.block](task)


TWO = ('normal', 'semantic_segmentation')
THREE = (*TWO, 'depth')
JOBS = [
    # Depth comes along where features are made anyway; in `knobs` because the warm-up is that of `main`.
    *(Job('knobs', 'scenes', 60, seed, THREE) for seed in range(3)),
    *(Job('main', 'scenes', 60, seed, THREE) for seed in range(3)),
    *(Job('main', 'scenes', 60, seed, TWO) for seed in range(3, 5)),
    *(Job('ready', 'scenes', 60, seed, TWO) for seed in range(3)),
    # A U-Net of its own for every task.
    *(Job('finetune', 'scenes', 60, seed, (task,)) for seed in range(3) for task in reversed(TWO)),
    *(Job('range', 'scenes', labels, seed, TWO) for seed in range(5) for labels in (20, 200, 600)),
    *(Job('range', 'scenes', labels, seed, ('depth',)) for seed in range(3) for labels in (20, 200, 600)),
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

    backbone = make_backbone(backbone_config(job.set, weights, job.regime))
    diffusion = backbone.diffusion  # the pretrained U-Net in any regime
    assert isinstance(diffusion, LatentDiffusion)
    maker = KeptImages(diffusion, CREATION, places.work_dir / 'pools')

    def pool(name: str) -> Pool:
        if name == 'unlabelled':
            return unlabelled_scenes(places.scenes, UNLABELLED, job.seed, tasks)
        return created_pool(maker, labelled, CREATIONS[name], job.seed)

    return Lockstep(
        Data(labelled, pool, val, None if job.block in SETTINGS else test),
        tasks,
        {name: job.arms(name) for name in job.tasks},
        backbone,
        job.schedule,
        job.seed,
        places.work_dir / job.name,
        places.work_dir / 'warm-ups' / f'{job.warm_up}.pth',
    )


def backbone_config(set_: str, weights: str, regime: str) -> dict:
    """The backbone of the configs of this repository, with other weights."""
    base = Config.fromfile(Path(__file__).parents[3] / 'configs' / '_base_' / 'models' / 'vpd_scenes.py')
    config: Any = base.model.backbone
    config.update(diffusion=weights, regime=regime)
    if set_ == 'camvid':
        config.update(
            classes=None,
            feature=dict(preset='vpd', prompt='empty', map_levels=(), latent_scale=True, timestep=50),
        )
    return config
