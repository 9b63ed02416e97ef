"""A ControlNet for builtin:scenes that follows label maps, without a true label beyond those of an experiment.

    python projects/evidence/branch.py --labels 60 --seeds 0 1       after the runs "pasted, 60 labels" of students.py

For each seed the student of "pasted" labels the 10,000 unlabelled scenes, and a ControlNet learns to draw them from
these maps. The arms "labels, created" and "pasted, created" of students.py create with it. Killed, the same command
goes on.
"""

import argparse
from pathlib import Path

from students import BASELINES, branch_of

from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.pretraining.options import PretrainingOptions
from mmdiff2in1.pretraining.run import pretrain


def main() -> None:
    """One branch after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--labels', type=int, default=60, help='labelled images (%(default)s)')
    add('--seeds', type=int, nargs='+', default=[0], help='(0)')
    add('--work-dir', type=Path, default=Path('work_dirs/students'), help='of students.py (%(default)s)')
    add('--unlabelled', type=Path, default=Path('data/scenes/unlabelled'), help='images, captions (%(default)s)')
    add('--iters', type=int, default=3000, help='of the ControlNet, 32 images each (%(default)s)')
    args = parser.parse_args()
    for seed in args.seeds:
        train_branch(args, seed)


def train_branch(args: argparse.Namespace, seed: int) -> None:
    """Labels of the student, then the ControlNet."""
    run = args.work_dir / f'pasted-{args.labels}-labels-seed{seed}' / 'self_improving' / 'iter_1500.pth'
    out = branch_of(args.work_dir, args.labels, seed)
    maps = out.with_name(f'{out.name}-labels')
    todo = [path for path in sorted((args.unlabelled / 'images').glob('*.png')) if not (maps / path.name).exists()]
    if todo:
        student = Diff2in1Inferencer(BASELINES / 'unet_scenes.py', run, device='cpu')
        for seen in student.iterate(todo, batch_size=64):
            write_png(maps / Path(str(seen.path)).name, seen.map)
    options = PretrainingOptions(
        images=str(args.unlabelled / 'images'),
        captions=str(args.unlabelled / 'captions.jsonl'),
        labels=str(maps),
        out=str(out),
        work_dir=str(out.with_name(f'{out.name}-training')),
        init='builtin:scenes',
        condition='semantic_segmentation',
        iters=args.iters,
        lr=5e-4,
        lr_decay=0.3,
        seed=seed,
        resume=True,
    )
    print(pretrain(options))


if __name__ == '__main__':
    main()
