"""Arguments that turn a plain config into a self-improving one, the same for every command."""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from .config_arguments import changes_of

if TYPE_CHECKING:
    from mmengine.config import Config

HELP = {
    'self_improving': "recipe for a plain config: 'careful' (does no harm), 'paper', 'released', 'paste' (new layouts "
    'of your own objects, no generator), or a file of settings (docs/recipes.md)',
    'generator': "what creates images: a diffusers folder, one file of weights, or 'builtin:scenes'",
    'captions': 'captions of the labelled images, JSON lines as mmdiff2in1 caption writes them',
    'unlabelled': 'folder of your own images without labels, alone or beside created ones',
    'samples_per_image': 'created images for each labelled one (1)',
    'T': 'noise level 1 … 1000: how much of an image is invented anew (600)',
    'size': 'shorter side, or height and width, of what is created (512)',
    'load_from': 'your trained checkpoint: θ_C labels, so it must have learned; without one your own training runs '
    'first, as a warm-up',
}


def add_recipe_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Adds them as a group; with `required` the recipe has a default and the others stand alone."""
    group = parser.add_argument_group('a plain config, made self-improving')
    add = group.add_argument
    default = 'careful' if required else None
    add('--self-improving', metavar='PRESET|FILE', default=default, help=HELP['self_improving'])
    add('--generator', metavar='PLACE', help=HELP['generator'])
    add('--captions', metavar='FILE', help=HELP['captions'])
    add('--unlabelled', metavar='FOLDER', help=HELP['unlabelled'])
    add('--samples-per-image', type=int, metavar='N', help=HELP['samples_per_image'])
    add('--T', type=int, nargs='+', metavar='T', help=HELP['T'])
    add('--size', type=int, nargs='+', metavar='S', help=HELP['size'])
    add('--load-from', metavar='CHECKPOINT', help=HELP['load_from'])


def recipe_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `wrap_config` that were given, but for the recipe.

    Raises:
        ValueError: There are some, and no recipe.
    """
    asked = dict(
        diffusion=args.generator,
        captions=args.captions,
        unlabelled=args.unlabelled,
        samples_per_image=args.samples_per_image,
        T=_single(args.T),
        size=_single(args.size),
        load_from=args.load_from,
    )
    given = {name: value for name, value in asked.items() if value is not None}
    if given and args.self_improving is None:
        flags = ', '.join('--' + name.replace('_', '-').replace('diffusion', 'generator') for name in given)
        raise ValueError(f'{flags}: of what? Add --self-improving careful, or another preset (docs/recipes.md)')
    return given


def wrapped_config(args: argparse.Namespace) -> 'Config':
    """The plain config under the recipe, with the changes made; see `changed_and_wrapped`."""
    from mmdiff2in1.core.config_file import read_config
    from mmdiff2in1.training.wrapping import changed_and_wrapped, wrap_config

    plain = read_config(args.config)
    wrap = partial(wrap_config, recipe=args.self_improving, **recipe_settings(args))
    return changed_and_wrapped(plain, changes_of(args, plain), wrap)


def _single(values: list[int] | None) -> list[int] | int | None:
    return values[0] if values and len(values) == 1 else values
