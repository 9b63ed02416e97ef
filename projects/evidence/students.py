"""A light student from scratch: what does it gain from pasted objects, and from a teacher?

    python projects/evidence/students.py --dry-run      what would be run
    python projects/evidence/students.py                everything that is not in --out yet
    python projects/evidence/students.py --table        the Markdown tables of --out
    python projects/evidence/students.py --task scenes-perceiver    the same with the diffusion perceiver as student
    python projects/evidence/students.py --task camvid  the same on real images, without a teacher: SegFormer, 400 steps
    python projects/evidence/students.py --task camvid-unet     and the CNN, 1,500 steps
    python projects/evidence/students.py --task camvid-imagenet with an encoder that has seen ImageNet, 600 steps

The config of the task (`TASKS`) under the package's recipes: as many steps as it says, of `batch` real images, freshly
augmented, and as many further ones; θ_C, the moving average of what is trained, is scored. "real twice" is the control
of equal batch: the further images are real ones again. The seed is that of the weights, of the labelled images, of the
augmentation and of the created images, which are made once per seed and number of labels. One JSON line per run; a
killed run goes on from its last checkpoint. The teacher is a checkpoint of the same CNN (--teacher), trained on 600
labels of another set. "denoising first" starts from --denoiser, what `mmdiff2in1 denoise` made of the same model.
CamVid's images are read at half their size by students from random weights, of which a copy is made once; this copy of
CamVid has no part for settings, so "val" are there the training images without a label (of 250 labels none is left),
"test" is its val part.
"""

import argparse
import json
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from run_queue import alone_in, queue, queue_parser, slug

from mmdiff2in1.core.atomic_files import append_line, complete_lines, write_atomically
from mmdiff2in1.core.bf16 import computes_bf16
from mmdiff2in1.training.paired import Paired, Spread, compare

ROOT = Path(__file__).parents[2]
BASELINES = ROOT / 'configs' / 'baselines'
IMAGES = 600
CONTROL, PLAIN, ONLINE = 'real twice', 'real + EMA', 'real only (θ_E)'
SCRATCH = 'real twice, random weights'
COLOUR = dict(type='StrongColour')
CREATED = dict(diffusion='builtin:scenes', T='noise', num_calls=10, solver='dpm++', size=64, num_samples=IMAGES)
NEW_SCENES = dict(CREATED, scenes=dict(type='recombined'))
SEAMS = dict(
    diffusion='builtin:scenes',
    layout=dict(type='ObjectPaste', redraw='seam'),
    T=200,
    num_calls=4,
    solver='ddim',
    size=64,
)
# Arm → settings of the recipe, and whether colours are strong; `real`: how many times the batch of real images.
ARMS: dict[str, dict[str, Any]] = {
    PLAIN: dict(real=1),
    CONTROL: dict(real=2),
    'strong colours': dict(real=2, colour=True),
    'pasted': dict(preset='paste', num_samples=IMAGES),
    'pasted, strong colours': dict(preset='paste', num_samples=IMAGES, colour=True),
    'pasted, seams redrawn': dict(preset='paste', num_samples=IMAGES, **SEAMS),
    'teacher, created': dict(preset='distil', **NEW_SCENES),
    'teacher, created, guided': dict(preset='distil', **NEW_SCENES | dict(num_calls=20, guidance_scale=3.0)),
    'teacher, unlabelled': dict(preset='distil', unlabelled=True),
    'teacher, unlabelled and pasted': dict(
        preset='distil', unlabelled=True, layout=dict(type='ObjectPaste'), num_samples=IMAGES, T=0
    ),
}
# Images that follow true label maps, see branch.py: of the labelled images, and of those with pasted objects.
PAINTED = dict(NEW_SCENES, condition='semantic_segmentation', num_calls=20, guidance_scale=3.0, scenes=None)
ARMS['labels, created'] = dict(preset='paste', layout=None, labels='source', **PAINTED)
ARMS['labels, created, filtered'] = dict(ARMS['labels, created'], labels='stored', filtered=True)
ARMS['pasted, created'] = dict(preset='paste', **PAINTED | dict(layout=dict(type='ObjectPaste', redraw='all')))
# Its teachers are students themselves, of the same labels and seed: no further label anywhere.
OWN = ('pasted', 'pasted, strong colours')
for _name in ('teacher, unlabelled and pasted', 'teacher, created, guided'):
    ARMS[f'own {_name}'] = dict(ARMS[_name], own=OWN)
# The student has first learned to see through noise, of images without labels: `mmdiff2in1 denoise`.
FIRST = 'denoising first'
ARMS[FIRST] = dict(ARMS[CONTROL], denoised=True)
for _name in ('pasted', 'teacher, created, guided', 'teacher, unlabelled and pasted'):
    ARMS[f'{_name}, {FIRST}'] = dict(ARMS[_name], denoised=True)
ARMS[f'own teacher, unlabelled and pasted, {FIRST}'] = dict(
    ARMS['teacher, unlabelled and pasted'], own=(f'pasted, {FIRST}',), denoised=True
)
ON_SCENES = tuple(ARMS)
ARMS[SCRATCH] = dict(ARMS[CONTROL], pretrained=False)


class Task(NamedTuple):
    """A set of images, the student's config, and what is run by default."""

    config: Path
    batch: int  # real images of a step
    name: str  # of the lines in docs/evidence, and of the folder in work_dirs
    arms: tuple[str, ...]
    labels: tuple[int, ...]
    optimizer: str
    halved: bool = False  # the images for training are read at half their size


TASKS = {
    'scenes': Task(
        BASELINES / 'unet_scenes.py',
        8,
        'students',
        ON_SCENES,
        (20, 60),
        'BF16OptimWrapper',
    ),
    'scenes-perceiver': Task(
        BASELINES / 'vpd_scenes-ushaped.py',
        8,
        'perceiver_students',
        (CONTROL, FIRST, f'pasted, {FIRST}'),
        (20, 60),
        'BF16OptimWrapper',
    ),
    'camvid': Task(
        BASELINES / 'segformer_camvid.py',
        4,
        'camvid_students',
        (PLAIN, CONTROL, 'pasted', 'pasted, strong colours'),
        (60, 250),
        'OptimWrapper',
        halved=True,
    ),
    'camvid-unet': Task(
        BASELINES / 'unet_camvid.py',
        4,
        'camvid_unet_students',
        (PLAIN, CONTROL, 'pasted'),
        (60, 250),
        'BF16OptimWrapper',
        halved=True,
    ),
    'camvid-imagenet': Task(
        Path(__file__).parent / 'configs' / 'efficientnet_camvid.py',
        4,
        'camvid_imagenet_students',
        (CONTROL, SCRATCH),
        (60, 250),
        'OptimWrapper',
    ),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; what is run by default depends on the task."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument('--task', choices=TASKS, default='scenes', help='(%(default)s)')
    name = first.parse_known_args(arguments)[0].task
    task = TASKS[name]
    parser = queue_parser(__doc__, task.name, 'RUN')
    parser.set_defaults(data_root=Path('data') / name.partition('-')[0])
    add = parser.add_argument
    add('--task', choices=TASKS, default='scenes', help='(%(default)s)')
    add('--arms', nargs='+', choices=ARMS, default=list(task.arms), help='(%(default)s)')
    add('--labels', type=int, nargs='+', default=list(task.labels), help='labelled images (%(default)s)')
    add(
        '--iters', type=int, help='steps of a training (those of the config); with an --out and a --work-dir of its own'
    )
    add('--teacher', type=Path, default=Path('work_dirs/teacher/iter_3000.pth'), help='(%(default)s)')
    add(
        '--denoiser',
        type=Path,
        default=Path(f'work_dirs/{task.config.stem}-denoise/denoiser.pth'),
        help='(%(default)s)',
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs the queue, one run of it, or prints."""
    args = parse_args(arguments)
    if args.table:
        print(table([json.loads(line) for line in complete_lines(args.out)]))
    elif args.run:
        append_line(args.out, json.dumps(run(args.run[0], int(args.run[1]), args), ensure_ascii=False))
    else:
        wanted = [(f'{arm}, {n} labels', seed) for seed in args.seeds for n in args.labels for arm in args.arms]
        queue(wanted, 'run', args, log=lambda name, seed: args.work_dir / 'logs' / f'{slug(name)}-seed{seed}.log')


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One arm at one number of labels: its images, its training, its scores on val and test."""
    from mmengine.registry import init_default_scope

    import mmdiff2in1.components  # noqa: F401  registers
    from mmdiff2in1.labelling.free_mask import free_mask
    from mmdiff2in1.synthesis import SampleStore
    from mmdiff2in1.training.chain import train
    from mmdiff2in1.training.synthesis_stage import SynthesisStage

    init_default_scope('mmseg')
    arm, labels = name.removesuffix(' labels').rsplit(', ', 1)
    started = time.perf_counter()
    cfg = config_of(arm, int(labels), seed, args)
    if cfg.stages.synthesis:
        store = Path(cfg.train_dataloader.dataset.store)
        with alone_in(store.parent / f'{store.name}.lock'):  # arms share it
            SynthesisStage(cfg, store).create(None)
            if ARMS[arm].get('filtered'):
                student = args.work_dir / f'{slug(f"pasted, {labels} labels")}-seed{seed}'
                free_mask(cfg, student / last_checkpoint(cfg), SampleStore(store))
    results = train(cfg, args.work_dir / f'{slug(name)}-seed{seed}', resume=True)
    scores = dict(val=results['self_improving']['metrics'], test=results['test'])
    return dict(
        run=name, arm=arm, labels=int(labels), seed=seed, **scores, seconds=round(time.perf_counter() - started)
    )


def config_of(arm: str, labels: int, seed: int, args: argparse.Namespace) -> Any:
    """The student's config under the recipe of an arm."""
    from mmengine.config import Config

    from mmdiff2in1.training.recipes import PRESETS, make_self_improving

    task, settings = TASKS[args.task], dict(ARMS[arm])
    real, colour = settings.pop('real', 1), settings.pop('colour', False)
    settings.pop('filtered', None)  # see `run`
    denoised = settings.pop('denoised', False)
    cfg = Config.fromfile(task.config)
    set_up(cfg, labels, seed, args)
    if not settings.pop('pretrained', True):
        cfg.model.backbone.pretrained = False
    cfg.train_dataloader.batch_size = real * task.batch
    if colour:
        pipeline = cfg.train_dataloader.dataset.pipeline
        pipeline.insert(len(pipeline) - 1, COLOUR)
    if settings:
        if 'diffusion' in settings:
            settings['captions'] = str(args.data_root / 'train' / 'captions.jsonl')
        if 'condition' in settings:
            settings['controlnet'] = str(branch_of(args.work_dir, labels, seed) / 'controlnet')
        if settings.pop('unlabelled', False):
            settings['unlabelled'] = str(others(cfg, args.work_dir / 'unlabelled' / f'{labels}-seed{seed}'))
        own = settings.pop('own', ())
        if settings['preset'] == 'distil':
            runs = [args.work_dir / f'{slug(f"{each}, {labels} labels")}-seed{seed}' for each in own]
            teachers = [each / last_checkpoint(cfg) for each in runs] if own else [args.teacher]
            settings['teacher'] = [dict(config=str(task.config), checkpoint=str(each)) for each in teachers]
        kind = slug(arm.split(', strong')[0].removesuffix(', filtered').removesuffix(f', {FIRST}'))
        make_self_improving(cfg, store=str(args.work_dir / 'stores' / f'{kind}-{labels}-seed{seed}'), **settings)
        cfg.merge_from_dict({'stages.synthesis.seed': seed, 'train_dataloader.dataset.seed': seed})
    else:
        # From random weights, of which as little is left as in the other arms.
        make_self_improving(cfg, diffusion='builtin:scenes', remaining=PRESETS['paste']['remaining'])
        cfg.merge_from_dict({'stages.synthesis': None, 'train_dataloader.dataset.seed': seed})
    cfg.merge_from_dict({'val_cfg.exploiter': False, 'test_cfg.exploiter': arm == PLAIN})
    if denoised:
        cfg.load_from = str(args.denoiser)
    return cfg


def branch_of(work_dir: Path, labels: int, seed: int) -> Path:
    """Where branch.py writes the generator with a ControlNet of these labels."""
    return work_dir / 'branches' / f'{labels}-seed{seed}'


def last_checkpoint(cfg: Any) -> str:
    """Of a run, below its work dir."""
    return f'self_improving/iter_{cfg.train_cfg.max_iters}.pth'


def set_up(cfg: Any, labels: int, seed: int, args: argparse.Namespace) -> None:
    """What is changed in the student's config in every arm."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(args.data_root)
    cfg.merge_from_dict(
        {
            'randomness.seed': seed,
            'train_dataloader.dataset.num_labelled': labels,
            'train_dataloader.dataset.subset_seed': seed,
            'train_cfg.val_interval': cfg.train_cfg.max_iters,
            'optim_wrapper.type': TASKS[args.task].optimizer if computes_bf16(torch.device('cpu')) else 'OptimWrapper',
        }
    )
    if args.iters:
        steps = {'train_cfg.max_iters': args.iters, 'train_cfg.val_interval': args.iters}
        cfg.merge_from_dict(steps | {'param_scheduler.1.end': args.iters})
    if args.task.startswith('camvid'):
        if TASKS[args.task].halved:
            cfg.train_dataloader.dataset.data_root = str(half_size(args.data_root, args.work_dir / 'half_size'))
        rest = others(cfg, args.work_dir / 'unlabelled' / f'{labels}-seed{seed}')
        if any(rest.iterdir()):
            cfg.merge_from_dict(
                {
                    'val_dataloader.dataset.data_root': cfg.train_dataloader.dataset.data_root,
                    'val_dataloader.dataset.data_prefix': dict(
                        img_path=str(rest.resolve()), seg_map_path='annotations/train'
                    ),
                }
            )


def half_size(data_root: Path, folder: Path) -> Path:
    """CamVid's training images at half their height and width, which are read four times as fast: means of four
    pixels, and of the labels every second one.
    """
    with alone_in(folder.with_suffix('.lock')):
        for part, shrink in (('images', cv2.INTER_AREA), ('annotations', cv2.INTER_NEAREST)):
            (folder / part / 'train').mkdir(parents=True, exist_ok=True)
            for path in sorted((data_root / part / 'train').glob('*.png')):
                target = folder / part / 'train' / path.name
                if not target.exists():
                    small = cv2.resize(
                        cv2.imread(str(path), cv2.IMREAD_UNCHANGED), None, fx=0.5, fy=0.5, interpolation=shrink
                    )
                    write_atomically(target, cv2.imencode('.png', small)[1].tobytes())
    return folder


def others(cfg: Any, folder: Path) -> Path:
    """A folder with links to those images of the part train that have no label here."""
    from mmseg.registry import DATASETS

    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, num_labelled=None))
    chosen = DATASETS.build(cfg.train_dataloader.dataset)
    labelled = {chosen.get_data_info(i)['img_path'] for i in range(len(chosen))}
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder.with_suffix('.lock')):
        for path in (Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))):
            if str(path) not in labelled and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path.resolve())
    return folder


def table(lines: list[dict]) -> str:
    """By arm and number of labels: test mIoU of θ_C, and the difference to the control of equal batch, by seed.

    Where θ_E of the plain arm was scored as well, it is an arm of its own.
    """
    scores: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for line in lines:
        scores[line['arm'], line['labels']][line['seed']] = line['test']['mIoU']
        if 'exploiter/mIoU' in line['test']:
            scores[ONLINE, line['labels']][line['seed']] = line['test']['exploiter/mIoU']
    counts = sorted({labels for _, labels in scores})
    rows = [
        '| | ' + ' | '.join(f'{n} labels | to "{CONTROL}"' for n in counts) + ' |',
        '| :-- ' + '| --: ' * 2 * len(counts) + '|',
    ]
    for arm in (each for each in (ONLINE, *ARMS) if any(each == arm for arm, _ in scores)):
        cells = []
        for n in counts:
            own = Spread.of(scores[arm, n].values())
            paired = compare(scores[arm, n], scores[CONTROL, n])
            cells += [own.shown(after=f' (n {own.n})'), '–' if arm == CONTROL else _difference(paired)]
        rows.append(f'| {arm} | {" | ".join(cells)} |')
    return re.sub(r'-(?=\d)', '−', '\n'.join(rows))


def _difference(paired: Paired) -> str:
    p = '' if paired.p is None else f' (p {"<0.001" if paired.p < 0.001 else f"{paired.p:.3f}"})'
    return paired.spread.shown('+', p)


if __name__ == '__main__':
    main()
