"""Begin with your own data, or with a config that you have: writes a short config and says what to do next.

    mmdiff2in1 init --images photos --masks masks --classes background,road,car
    mmdiff2in1 init --images photos --masks masks --classes names.txt --model segformer --weights mit_b0.pth
    hf download facebook/dinov2-small --local-dir dinov2 && mmdiff2in1 init … --encoder dinov2 --frozen
    mmdiff2in1 init --from my_config.py --checkpoint my.pth --generator stable-diffusion-v1-5 --captions captions.jsonl

Masks are PNG files of class numbers, 0 … K−1 in the order of the names; 255 is ignored. Images and masks have the same
names but for the suffix. A fifth of them is held out, drawn by their names, for validation.

Written: NAME.py, a plain mmseg config with NAME-train.txt and NAME-val.txt, and NAME-paste.py, which pastes your
labelled objects into your other images (with --generator NAME-careful.py, which creates images by that diffusion
model). No file is replaced.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

INPUTS = {
    'images': 'folder of images',
    'masks': 'folder of masks',
    'weights': 'file of weights',
    'encoder': 'folder of an encoder',
    'checkpoint': 'checkpoint',
    'captions': 'file of captions',
}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    own = parser.add_argument_group('your own data')
    own.add_argument('--images', type=Path, metavar='DIR', help='folder of images, searched recursively')
    own.add_argument('--masks', type=Path, metavar='DIR', help='folder of masks with the same names')
    own.add_argument('--classes', metavar='A,B,C|FILE', help='names in the order of their numbers, or a file of them')
    own.add_argument('--zero-ignored', action='store_true', help='0 is no class, the first name is that of 1')
    own.add_argument('--model', choices=('unet', 'segformer'), help='a small CNN (the default), or SegFormer-B0')
    own.add_argument('--weights', type=Path, metavar='FILE', help='of the backbone of --model segformer')
    encoder = 'pretrained encoder of the Hugging Face hub, fetched before (hf download): DINOv2, ConvNeXt, Swin, MiT …'
    own.add_argument('--encoder', type=Path, metavar='FOLDER', help=encoder)
    own.add_argument('--frozen', action='store_true', help='the encoder stays as it is: quicker, safer with few labels')
    own.add_argument('--steps', type=int, default=3000, help='of the training (%(default)s)')
    theirs = parser.add_argument_group('a config that you have')
    theirs.add_argument('--from', dest='base', type=Path, metavar='CONFIG', help='of a plain mmseg segmentor')
    theirs.add_argument('--checkpoint', metavar='FILE', help='what it has learned')
    further = parser.add_argument_group('further images')
    further.add_argument('--generator', metavar='PLACE', help='diffusion weights; without them objects are pasted')
    further.add_argument('--captions', metavar='FILE', help='of the images, as mmdiff2in1 caption writes them')
    parser.add_argument('--name', help='of the files that are written (default: of the images, or the config)')
    parser.add_argument('--out', type=Path, default=Path(), metavar='DIR', help='where (default: here)')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments that do not go together, with a message."""
    own = (args.images, args.masks, args.classes)
    if args.base is not None:
        if any(own):
            parser.error('--from brings its own data: leave --images, --masks and --classes out')
    elif not all(own):
        parser.error('expected --images DIR --masks DIR --classes A,B,C, or --from CONFIG')
    if args.weights is not None and args.model != 'segformer':
        parser.error('--weights belongs to --model segformer')
    if args.encoder is not None and (args.model is not None or args.base is not None):
        parser.error('--encoder is the model: leave out --model and --from')
    if args.frozen and args.encoder is None:
        parser.error('--frozen belongs to --encoder FOLDER')
    if args.steps < 10:
        parser.error(f'--steps {args.steps}: expected 10 or more')
    if args.captions and not args.generator:
        parser.error('--captions are for a generator: add --generator PLACE')


def run(args: argparse.Namespace) -> None:
    """Looks, writes, and prints the next three commands."""
    from mmdiff2in1.core.config_places import find_config
    from mmdiff2in1.generators.weights import find_weights
    from mmdiff2in1.training.first_config import recipe_config

    recipe = 'careful' if args.generator else 'paste'
    if args.generator:
        find_weights(args.generator)
    if args.base is not None:
        base = find_config(args.base).absolute()
        name, files, sizes = args.name or base.stem, {}, None
        count, labels_first = _images_of(base)
    else:
        name = args.name or args.images.resolve().name
        base = args.out / f'{name}.py'
        files, sizes, count = _own(args, name)
        labels_first = None
    settings, notes = _settings(args, recipe, count, labels_first or sizes)
    where = base.name if args.base is None else str(base)
    new = args.out / f'{name}-{recipe}.py'
    files[new] = recipe_config(Path(where), recipe, settings, args.checkpoint)
    _write(files)
    for note in notes:
        print(note)
    plain, captions = shlex.quote(str(base)), shlex.quote(str(args.out / f'{name}-captions.jsonl'))
    print('next:')
    print(f'  mmdiff2in1 check {plain}')
    if args.generator and not args.captions:
        print(f'  mmdiff2in1 caption {plain} --by classes --out {captions}')
    else:
        print(f'  mmdiff2in1 train {shlex.quote(str(new))}')
    print(f'  mmdiff2in1 compare {shlex.quote(str(new))} --seeds 3      # did it help?')


def _own(args: argparse.Namespace, name: str) -> tuple[dict[Path, str], tuple[int, int], int]:
    """The files of a plain config of own data, the size of the images, and how many are trained on."""
    from mmdiff2in1.training.first_config import plain_config
    from mmdiff2in1.training.first_model import built_in, of_encoder
    from mmdiff2in1.training.own_data import IGNORED, study

    classes = _class_names(args.classes)
    data = study(args.images, args.masks, classes, args.zero_ignored)
    note = ''
    if args.encoder is not None:
        model = of_encoder(args.encoder, args.frozen, len(classes))
    else:
        model = built_in(args.model or 'unet', args.weights)
        if args.model != 'segformer':
            file = shlex.quote(str(args.out / f'{name}.py'))
            note = (
                'the small CNN begins with random weights: a pretrained encoder sees more (--encoder FOLDER), images '
                f'without labels can teach it first (mmdiff2in1 denoise {file} --images FOLDER)'
            )
        elif args.weights is None:
            note = (
                'SegFormer begins with random weights: with few labels name its ImageNet weights, --weights mit_b0.pth'
            )
    height, width = data.crop(model.multiple)
    lists = {part: args.out / f'{name}-{part}.txt' for part in ('train', 'val')}
    print(
        f'{len(data.train) + len(data.val)} pairs, {data.size[1]} × {data.size[0]} pixels (median), of which '
        f'{len(data.val)} are held out; crops of {width} × {height}'
    )
    first = 1 if data.zero_is_ignored else 0
    for number, label in enumerate(classes, first):
        share = data.values.get(number, 0.0)
        print(f'  {number:3d} {label:24s} {share:6.1%}' + ('   never seen' if not share else ''))
    others = {value: share for value, share in data.values.items() if value == IGNORED or (value == 0 and first)}
    for number, share in others.items():
        print(f'  {number:3d} {"(ignored)":24s} {share:6.1%}')
    if note:
        print(note)
    text = plain_config(data, lists['train'], lists['val'], model, args.steps)
    files = {args.out / f'{name}.py': text}
    for part, names in (('train', data.train), ('val', data.val)):
        files[lists[part]] = ''.join(f'{each}\n' for each in names)
    return files, data.size, len(data.train)


def _class_names(said: str) -> list[str]:
    """Of ``--classes``: a file with one a line, or names between commas, of which the last may be followed by one.

    Raises:
        FileNotFoundError: What looks like the name of a file is none.
        ValueError: An empty name, which would shift those after it, or one that stands there twice.
    """
    from mmdiff2in1.core.list_files import named_classes

    names = named_classes(said)
    if names is None:
        names = [each.strip() for each in said.strip().removesuffix(',').split(',')]
    if not all(names):
        raise ValueError(f'--classes {said}: class {names.index("")} has no name; expected one between two commas')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'--classes {said}: {", ".join(twice)} more than once; expected another name for each number')
    return names


def _images_of(base: Path) -> tuple[int, tuple[int, int]]:
    """How many images a config trains on, and (H, W) of the first.

    Raises:
        ValueError: The config is none that can be made self-improving.
    """
    from mmengine.registry import init_default_scope

    from mmdiff2in1.core.config_file import read_config
    from mmdiff2in1.core.dataset_images import list_images
    from mmdiff2in1.core.images import read_image
    from mmdiff2in1.synthesis.sources import build_real_dataset
    from mmdiff2in1.training.wrappable import check_wrappable

    cfg = read_config(base)
    try:
        check_wrappable(cfg)
    except ValueError as error:
        raise ValueError(f'--from {base}: {error}') from error
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    _, images = list_images(build_real_dataset(cfg))
    height, width = read_image(images[0]).shape[:2]
    return len(images), (height, width)


def _settings(
    args: argparse.Namespace, recipe: str, count: int, size: tuple[int, int] | None
) -> tuple[dict[str, Any], list[str]]:
    """Of the recipe, and what to say of them."""
    from mmdiff2in1.training.first_config import COMPOSED, created_size

    if recipe == 'paste':
        return dict(samples_per_image=max(1, min(10, COMPOSED // max(1, count)))), []
    assert size is not None
    height, width = created_size(*size)
    settings: dict[str, Any] = dict(diffusion=args.generator, samples_per_image=1, size=[height, width])
    settings['captions'] = args.captions or 'captions.jsonl'
    if args.checkpoint is None:
        settings['warmup'] = True
    notes = [f'created images will have {width} × {height} pixels, after your {size[1]} × {size[0]}']
    if not args.captions:
        notes.append('captions are needed: the file of the second command below goes into captions=')
    return settings, notes


def _write(files: dict[Path, str]) -> None:
    """All of them or none.

    Raises:
        FileExistsError: One is there and holds something else.
    """
    from mmdiff2in1.core.atomic_files import write_atomically

    others = [str(file) for file, text in files.items() if file.exists() and file.read_bytes() != text.encode()]
    if others:
        raise FileExistsError(f'{", ".join(others)}: there already, with other contents; move them away or give --name')
    for file, text in files.items():
        same = file.exists()
        if not same:
            write_atomically(file, text.encode())
        print(f'{"there already, the same" if same else "written"}: {file}')
