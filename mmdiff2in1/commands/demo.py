"""See it work on rendered scenes, without data or weights of yours.

    mmdiff2in1 demo                  about seven minutes on two cores
    mmdiff2in1 demo --loop           the loop of the paper: warm-up, creation, self-improving
    mmdiff2in1 demo --short          either one in a minute, too short to learn anything
    mmdiff2in1 demo --web [MODEL]    a page in the browser to try a trained model; needs mmdiff2in1[web]

Without --loop a small CNN from scratch (unet_scenes) is trained three times on the same 20 labelled scenes, for 1,500
steps of 8 images:

    real images       the 20 and nothing else, twice the batch: the control
    pasted objects    beside them 600 images composed of their own objects, whose labels are true (preset paste)
    created scenes    beside them 600 images of the built-in diffusion model, labelled by a teacher (preset distil)

The teacher, builtin:unet_scenes, is the same CNN after 600 labels of another set: the data stay where they are, the
teacher travels.

With --loop a perceiver on frozen diffusion features (vpd_scenes) is trained at equal optimizer steps and equal real
samples: real only (θ_E without synthetic images), real + EMA (θ_C without them) and Diff-2-in-1 (θ_C with them).

Results: WORK_DIR/summary.json and *.png. Killed, the next call goes on.

--web trains nothing: MODEL is a folder that `mmdiff2in1 export --folder` wrote, builtin:scenes if none is named.
Upload an image, see its map; for models that create: a caption, and T. The page is served to this machine alone.
"""

import argparse
import importlib
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('--loop', action='store_true', help='the loop of the paper in the place of the light student')
    parser.add_argument('--work-dir', type=Path, help='results (work_dirs/demo)')
    parser.add_argument('--data', type=Path, default=Path('data/scenes'), help='place of the scenes (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='draw of the labels, weights, order, noise (%(default)s)')
    parser.add_argument('--short', action='store_true', help='a few iterations of everything, to see that it runs')
    web = parser.add_argument_group('of the page')
    web.add_argument('--web', nargs='?', const='builtin:scenes', metavar='MODEL', help='folder, or builtin:NAME')
    web.add_argument('--diffusion', help="diffusers folder to create with (the model's own; builtin:scenes)")
    web.add_argument('--port', type=int, default=7860, help='of the page (%(default)s)')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What the arguments say together."""
    if args.web and (args.loop or args.short):
        parser.error('--web trains nothing: leave out --loop and --short')
    if args.diffusion and not args.web:
        parser.error('--diffusion belongs to --web')


def run(args: argparse.Namespace) -> None:
    """Runs one of the three."""
    flags = {'-loop': args.loop, '-short': args.short, f'-seed{args.seed}': args.seed}
    ending = ''.join(text for text, given in flags.items() if given)
    args.work_dir = args.work_dir or Path('work_dirs', f'demo{ending}')
    args.command = 'mmdiff2in1 demo' + ' --loop' * args.loop + ' --short' * args.short + f' --seed {args.seed}'
    which = 'web' if args.web else 'loop' if args.loop else 'student'
    importlib.import_module(f'.demonstrations.{which}', __package__).show(args)
