"""Distil: a strong teacher labels created images for any student.

    mmdiff2in1 distil STUDENT_CONFIG --teacher CONFIG CHECKPOINT --generator WEIGHTS --captions captions.jsonl
    mmdiff2in1 distil STUDENT_CONFIG --teacher A.py a.pth --teacher B.py b.pth --generator builtin:scenes --soft
    mmdiff2in1 distil STUDENT_CONFIG --teacher CONFIG CHECKPOINT --unlabelled photos/        your own images
    mmdiff2in1 distil STUDENT_CONFIG --teacher FOLDER --unlabelled photos/   a model of mmdiff2in1 export --folder
    mmdiff2in1 distil STUDENT_CONFIG --teacher CONFIG CHECKPOINT --generator WEIGHTS --dry-run

STUDENT_CONFIG is that of any mmseg segmentor, with a validation set; TEACHER any other one of the same classes, several
are an ensemble. Before the work both are scored on val, and a teacher that is not better is said loudly. Then images
are created, labelled once (or with --per-step in every crop anew) and learned beside the real ones, a batch of equal
size; at the end one line says how much of the distance from the student alone to its teacher was closed, and
distillation.json in the work dir keeps it. --control trains the student alone as well, on twice the real batch.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdiff2in1.core.config_places import find_config

from .config_arguments import add_config_arguments, changes_of
from .device_arguments import add_process_device
from .train import tell_report

CREATED = 500
OF_CREATION = ('captions', 'scenes', 'num_images', 'T', 'size', 'num_calls', 'guidance_scale')
FROM_NOISE = dict(num_calls=20, guidance_scale=3.0)
"""From noise guidance draws more of what a caption names: docs/evidence/generator.md. Ten calls are enough on Scenes; a
large model wants more."""


class OneTeacher(argparse.Action):
    """One text, or two, appended to a list; more of them are what should have come before."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = list(values or ())
        if len(given) > 2:
            parser.error(
                f"{option_string} {' '.join(given)}: expected CONFIG CHECKPOINT, or one FOLDER; the student's config "
                f'comes before it, every further teacher after a {option_string} of its own'
            )
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), given])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of the student')
    parser.add_argument(
        '--teacher',
        nargs='+',
        action=OneTeacher,
        default=[],
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='or one FOLDER of a model, builtin:NAME, OWNER/NAME of the hub; may be repeated',
    )
    images = parser.add_argument_group('images')
    images.add_argument('--generator', help="what creates: a diffusers folder, one file, or 'builtin:scenes'")
    images.add_argument('--captions', help='JSON lines of mmdiff2in1 caption, of the labelled images')
    images.add_argument('--scenes', help="captions of new scenes from noise: 'recombined', 'classes', or a text file")
    images.add_argument('--unlabelled', help='folder of your own images, alone or beside created ones')
    images.add_argument('--num-images', type=int, help=f'created images (default: {CREATED})')
    images.add_argument(
        '--T',
        type=noise_level,
        nargs='+',
        help="noise level, or several of which one is drawn per image; 'noise' is none of an image (default: of "
        "--scenes 'noise', else 600)",
    )
    images.add_argument('--size', type=int, nargs='+', help='shorter side, or height and width, of what is created')
    images.add_argument('--num-calls', type=int, help='denoising calls per image (default: from noise 20, else 50)')
    images.add_argument(
        '--guidance-scale', type=float, help='1: none; else a call costs twice (default: from noise 3, else 1)'
    )
    labels = parser.add_argument_group('labels')
    labels.add_argument('--soft', action='store_true', help='probabilities of classes in the place of hard labels')
    labels.add_argument('--temperature', type=float, help='of the probabilities')
    labels.add_argument('--min-confidence', type=float, help='pixels of which the teacher is less sure teach nothing')
    labels.add_argument('--mirrored', action='store_true', help='the teacher sees each image mirrored as well')
    labels.add_argument('--scales', type=float, nargs='+', help='sizes at which the teacher sees each image')
    labels.add_argument('--balanced', action='store_true', help='class-balanced (Sinkhorn); with --per-step')
    labels.add_argument('--per-step', action='store_true', help='label every crop anew instead of each image once')
    score = parser.add_argument_group('scores')
    score.add_argument('--student-score', type=float, help='what the student reaches alone on val')
    score.add_argument('--control', action='store_true', help='train the student alone too, on twice the real batch')
    score.add_argument('--metric', help='of val_evaluator (default: mIoU, rmse, mean)')
    add_process_device(parser)
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/CONFIG-distil')
    parser.add_argument('--dry-run', action='store_true', help='score, and say what would be made; nothing is written')
    parser.add_argument('--resume', action='store_true', help='continue unfinished stages from their last checkpoint')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments without images to learn from, or that nothing would read, with a message."""
    if not (args.generator or args.unlabelled):
        parser.error('no images: give --generator, --unlabelled, or both')
    useless = [flag for flag in OF_CREATION if getattr(args, flag) is not None and not args.generator]
    if useless:
        flags = ', '.join('--' + flag.replace('_', '-') for flag in useless)
        parser.error(f'{flags}: of created images, but there is no --generator')
    if args.student_score is not None and not math.isfinite(args.student_score):
        parser.error(f'--student-score {args.student_score}: expected a finite number')
    try:
        for config in (given[0] for given in args.teacher if len(given) == 2):
            find_config(config)
    except FileNotFoundError as error:
        parser.error(str(error))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Settings for `make_self_improving`, from the arguments; those not given are left to the preset."""
    created: dict[str, Any] = {}
    if args.generator:
        count = CREATED if args.num_images is None else args.num_images
        created = dict(diffusion=args.generator, captions=args.captions, num_samples=count)
        levels = args.T or (['noise'] if args.scenes else None)
        created |= dict(scenes=scenes(args.scenes), T=single(levels), size=single(args.size))
        given = dict(num_calls=args.num_calls, guidance_scale=args.guidance_scale)
        created |= (FROM_NOISE if levels == ['noise'] else {}) | {k: v for k, v in given.items() if v is not None}
    asked = created | dict(
        unlabelled=args.unlabelled,
        soft=args.soft,
        temperature=args.temperature,
        min_confidence=args.min_confidence,
        mirrored=args.mirrored,
        scales=args.scales,
        balanced=args.balanced,
        per_step=args.per_step,
    )
    return {key: value for key, value in asked.items() if value is not None and value is not False}


def scenes(asked: str | None) -> dict[str, str] | None:
    """`stages.synthesis.scenes`."""
    if asked is None or asked in ('recombined', 'classes'):
        return None if asked is None else dict(type=asked)
    return dict(type='file', path=asked)


def teacher(given: list[str]) -> dict[str, Any]:
    """`config` and `checkpoint` of a --teacher: two files, or the folder of a model."""
    from mmdiff2in1.inference import teacher_from

    if len(given) == 1:
        return teacher_from(given[0])
    config, checkpoint = given
    return dict(config=str(find_config(config)), checkpoint=checkpoint)


def noise_level(text: str) -> int | str:
    """A timestep, or the word for pure noise."""
    return text if text == 'noise' else int(text)


def single(values: list | None) -> Any:
    """One value alone instead of a list of it."""
    return values[0] if values and len(values) == 1 else values


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Scores both, creates, labels, trains, and says how much was handed over."""
    from mmengine.dist import is_main_process

    from mmdiff2in1.core.config_file import config_of_run, read_config
    from mmdiff2in1.training.distillation import RESULTS, Distillation, distil, plan

    student = read_config(args.config)
    asked = Distillation(
        teachers=[teacher(given) for given in args.teacher],
        settings=settings(args),
        changes=changes_of(args, student),
        student_score=args.student_score,
        control=args.control,
        metric=args.metric,
    )
    work_dir = args.work_dir or Path('work_dirs') / f'{Path(args.config).stem}-distil'
    if args.dry_run:
        for line in plan(student, asked, work_dir):
            print(line)
        print('dry run: nothing was written')
        return None
    found = distil(student, asked, work_dir, args.resume)
    if is_main_process():
        for title in ('alone', 'student', 'teacher'):
            if found[title] is not None:
                print(f'{title:8s} {found[title]:10.4g}')
        print(found['verdict'])
        print(f'all of it: {work_dir / RESULTS}')
        folder = work_dir / 'student'
        tell_report(read_config(config_of_run(folder)), folder, work_dir / 'control' if args.control else None)
    return found
