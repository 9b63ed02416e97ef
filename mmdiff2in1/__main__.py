"""``mmdiff2in1 COMMAND``, also as ``python -m mmdiff2in1 COMMAND``."""

from __future__ import annotations

import gc
import importlib
import io
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mmdiff2in1 import __version__
from mmdiff2in1.commands.device_arguments import check_hidden, hide_others
from mmdiff2in1.commands.errors import told
from mmdiff2in1.commands.wrong_python import too_old
from mmdiff2in1.core.arguments import Arguments
from mmdiff2in1.core.config_places import find_config
from mmdiff2in1.core.given_paths import check_given, check_work_dir
from mmdiff2in1.core.imports import imported_quietly
from mmdiff2in1.core.names import did_you_mean

PROGRAM = 'mmdiff2in1'
SECONDS_OF_A_BAR = 10
"""Between two states of a progress bar that goes into a file, where all of them stay."""
# Command → what it does; those of a group are listed together. The module of `free-mask` is commands/free_mask.py.
GROUPS = {
    'begin': {
        'demo': 'see it work, without data or weights of yours',
        'doctor': 'what is installed, what is wrong with it, and the command that mends it',
        'init': 'write a config for your images and masks, or around a config that you have',
        'check': 'every image and label of a config, before a training',
    },
    'create': {
        'caption': 'captions of images, by a model, from class names, or from files',
        'synthesize': 'create the images of a config; preview, dry run, verify',
        'pretrain': 'train a small diffusion model from scratch on a folder of images',
        'class-embeddings': 'the class tokens that a VPD model attends to',
        'free-mask': 'which pixels of created images show their label',
    },
    'train': {
        'denoise': 'a model learns from images without labels first, by seeing through noise',
        'train': 'warm-up, creation, self-improving and test, in one command',
        'distil': 'a strong teacher labels created or unlabelled images for any student',
        'wrap': 'write the self-improving form of a plain mmseg config',
        'compare': 'plain, real + EMA and Diff-2-in-1 at equal steps over several seeds, with a verdict',
    },
    'use': {
        'test': 'metrics, predictions and pictures of a checkpoint',
        'generate': 'images with their label maps, from prompts or from your images',
        'report': 'one page about a run: scores, curves, pictures',
        'convert': 'checkpoints of others into ours and back; a trained U-Net into a diffusers folder',
        'export': 'a trained model as a folder to hand on, under plain names for mmseg, or as ONNX',
        'scenes': 'render the Scenes set: small rooms with exact labels',
    },
}
COMMANDS = [name for group in GROUPS.values() for name in group]


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> Any:
    """Hands over to a module of ``mmdiff2in1.commands``, which alone is imported, and returns what that returns.

    Args:
        arguments: The command and its arguments; those of the process if None.
        program: How this program was called, for its messages.

    Raises:
        SystemExit: The arguments are wrong, or the command ended with an error that is the user's to mend.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = Arguments(program, description=_overview())
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    parser.add_argument('command', metavar='COMMAND', help='see above')
    name = parser.parse_args(arguments[:1]).command
    if name not in COMMANDS:
        parser.error(f'there is no command {name!r}{did_you_mean(name, COMMANDS) or "; " + ", ".join(COMMANDS)}')
    return run(name, arguments[1:], program)


def run(name: str, arguments: Sequence[str] | None, program: str = PROGRAM) -> Any:
    """One command, with its own arguments."""
    old = too_old(platform.python_version())
    if old and name != 'doctor':
        raise SystemExit(f'{program}: {old}')
    command = importlib.import_module(f'mmdiff2in1.commands.{name.replace("-", "_")}')
    own = Arguments(f'{program} {name}' if program == PROGRAM else program, description=command.__doc__)
    command.add_arguments(own)
    own.add_argument('--debug', action='store_true', help='show where an error came from')
    args, unread = own.parse_known_args(arguments)
    if unread:
        flags = [flag for action in own._actions for flag in action.option_strings]
        found = ' '.join(unread)
        meant = did_you_mean(unread[0].partition('=')[0], flags) or _blank_in_list(arguments, unread[0])
        own.error(f'unrecognized arguments: {found}{meant}')
    if hasattr(command, 'check_arguments'):
        command.check_arguments(own, args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names of files need not be UTF-8
    with told(own.prog, args.debug, '--resume' if getattr(args, 'resume', True) is False else ''):
        asked = getattr(args, 'process_device', None)
        if asked:
            hide_others(asked)
        if getattr(args, 'config', None):
            find_config(args.config)  # what is not there need not wait for the imports
        check_given(args, getattr(command, 'INPUTS', {}))
        if getattr(args, 'work_dir', None) is not None and 'work_dir' not in getattr(command, 'INPUTS', {}):
            check_work_dir(args.work_dir)
        # Read when torch is loaded: threads that wait sleep, in the place of keeping a core from other processes; not
        # at once, where GNU OpenMP can be told so: between two small layers they would hardly sleep and wake up again.
        if 'OMP_WAIT_POLICY' not in os.environ:
            os.environ.setdefault('GOMP_SPINCOUNT', '1000')
            os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
        if name != 'doctor':
            import_quietly()
        if asked:
            check_hidden(asked)
        if getattr(args, 'device', None):
            from mmdiff2in1.core.devices import check_device  # which asks torch

            check_device(args.device)
        return command.run(args)


def _blank_in_list(arguments: Sequence[str] | None, unread: str) -> str:
    """What to say where the shell cut a list in two: ``--classes sky, road``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index(unread) if unread in given else 0
    cut = at > 0 and (given[at - 1].endswith(',') or unread.startswith(','))
    return f'; a list has no blanks, or stands in quotes: "{given[at - 1]} {unread}"' if cut else ''


def import_quietly() -> None:
    """Imports all that configs name: prints and warnings of others do not pass, errors do."""
    os.environ.setdefault('HF_HUB_DISABLE_PROGRESS_BARS', '1')
    if not sys.stderr.isatty():
        os.environ.setdefault('TQDM_MININTERVAL', str(SECONDS_OF_A_BAR))  # read when tqdm is imported
    imported_quietly('mmdiff2in1.components')
    gc.freeze()  # mmengine collects garbage at every data set: a quarter of a second among all that was imported
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings('ignore', category=category)
    warnings.filterwarnings('ignore', category=UserWarning, module=r'(mmseg|mmcv|mmengine|diffusers|transformers)\.')


def door(name: str, program: str) -> Callable[..., Any]:
    """The ``main`` of a file in tools/: one command, under the name of that file."""

    def main(arguments: Sequence[str] | None = None) -> Any:
        return run(name, arguments, program)

    return main


def leave(result: Any) -> None:
    """Ends the process: with the number that a command returned, else with 0."""
    sys.exit(result if isinstance(result, int) else 0)


def entry() -> None:
    """The console script."""
    leave(main())


def _overview() -> str:
    lines = ['Diff-2-in-1 for OpenMMLab: a diffusion model creates labelled images and perceives them.', '']
    for group, commands in GROUPS.items():
        lines += [group, *(f'  {name:17s} {text}' for name, text in commands.items())]
    lines += ['', f'{PROGRAM} COMMAND --help says more.']
    return '\n'.join(lines)


if __name__ == '__main__':
    entry()
