"""Write captions of the training images of a config, or of any folder of images, to one JSONL file.

    mmdiff2in1 caption CONFIG --by blip2 --captioner FOLDER           ask BLIP-2 (or BLIP, or GIT), see below
    mmdiff2in1 caption CONFIG --by classes                            'a photo of wall, floor and table'
    mmdiff2in1 caption CONFIG --by file --from captions/              NAME.txt for each image, or another JSONL file
    mmdiff2in1 caption CONFIG --by empty                              create without captions, on purpose
    mmdiff2in1 caption --images photos/ --by blip2 --captioner FOLDER  a folder instead of a config
    mmdiff2in1 caption CONFIG --by classes --dry-run                  how many images, how many done, examples
    torchrun --nproc-per-node 4 -m mmdiff2in1 caption CONFIG --by blip2 …   several processes share the work

FOLDER holds a captioning model of transformers, as `hf download OWNER/NAME --local-dir FOLDER` or save_pretrained write
it; nothing has to be online. Captions of a model are the paper's way; --by classes needs no model and is right wherever
the label maps are. A GPU runs the model in bfloat16.

The file has a line {"image": "a/0001.png", "caption": "…"} per image, named from the data root. Running it again goes
on where it stopped: images that have a caption, from whomever, keep it; killed at any moment a run loses at most the
batch in hand. --redo makes captions anew. The config finds them with stages.synthesis.captions='<the file>'.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config_arguments import add_config_arguments, load_config

if TYPE_CHECKING:
    from mmdiff2in1.captions.captioner import ImageCaptioner
    from mmdiff2in1.captions.captioning import ImageSet
    from mmdiff2in1.captions.sources import CaptionSource

TEMPLATE = 'a photo of {names}'
# Flags that only one source of captions reads: (the source, default).
OWN = {
    'captioner': ('blip2', None),
    'prompt': ('blip2', None),
    'max_new_tokens': ('blip2', 30),
    'beams': ('blip2', 5),
    'device': ('blip2', None),
    'dtype': ('blip2', None),
    'template': ('classes', TEMPLATE),
    'max_names': ('classes', 8),
    'without': ('classes', ()),
    'source': ('file', None),
}


INPUTS = {'images': 'folder of images'}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'the images are those of its train_dataloader.dataset', optional=True)
    parser.add_argument('--images', type=Path, help='instead of a config: folder of images, searched recursively')
    parser.add_argument('--by', required=True, choices=('blip2', 'classes', 'file', 'empty'), help='see above')
    parser.add_argument(
        '--out',
        type=Path,
        help="JSONL file (default: the config's stages.synthesis.captions, else captions.jsonl in the data root)",
    )
    parser.add_argument('--fallback', metavar='TEXT', help='for images that would get no caption')
    parser.add_argument('--limit', type=int, help='only the first so many images')
    parser.add_argument(
        '--redo', choices=('empty', 'all'), help='first forget the empty captions of these images, or all'
    )
    parser.add_argument('--dry-run', action='store_true', help='count, show examples; nothing is written')
    parser.add_argument('--batch-size', type=int, default=8, help='images at a time (8)')

    model = parser.add_argument_group('--by blip2')
    model.add_argument('--captioner', metavar='FOLDER', help='folder of the captioning model, or a hub id OWNER/NAME')
    model.add_argument('--prompt', help="how the model has to begin: 'a photo of'; not a part of the caption")
    model.add_argument('--max-new-tokens', type=int, help='tokens per caption, at most (30)')
    model.add_argument('--beams', type=int, help='beam search; 1 is greedy and faster (5)')
    model.add_argument('--device', help="'cpu', 'cuda:0' … (default: a GPU if there is one)")
    model.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'bfloat16'),
        help='of the weights (default: bfloat16 on a GPU, else float32)',
    )

    classes = parser.add_argument_group('--by classes')
    classes.add_argument('--template', help=f'the sentence, with a place for {{names}} ({TEMPLATE!r})')
    classes.add_argument('--max-names', type=int, help='so many classes, those with the most pixels (8)')
    classes.add_argument('--without', nargs='+', metavar='NAME', help='classes that are never told, e.g. background')

    file = parser.add_argument_group('--by file')
    file.add_argument('--from', dest='source', metavar='PATH', help='JSONL file, or folder with NAME.txt per image')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends with what is wrong about the flags, if anything is; fills in what they leave out."""
    if (args.config is None) == (args.images is None):
        parser.error('expected either a CONFIG or --images FOLDER')
    if args.images is not None and args.by == 'classes':
        parser.error('--by classes reads the label maps of a data set: it needs a CONFIG, not --images')
    for name, (by, _) in OWN.items():
        if getattr(args, name) is not None and by != args.by:
            flag = 'from' if name == 'source' else name.replace('_', '-')
            parser.error(f'--{flag} belongs to --by {by}, found --by {args.by}')
    for by, name, flag in (('blip2', 'captioner', '--captioner FOLDER'), ('file', 'source', '--from PATH')):
        if args.by == by and getattr(args, name) is None:
            parser.error(f'--by {by} needs {flag}')
    for name in ('batch_size', 'limit', 'max_new_tokens', 'beams', 'max_names'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} is {getattr(args, name)}, expected at least 1')
    if args.redo and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        parser.error('--redo works in one process; to begin anew in several, move the caption file away first')
    for name, (_, default) in OWN.items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def run(args: argparse.Namespace) -> None:
    """Captions, and says what came of it."""
    from mmdiff2in1.captions.captioning import caption_images
    from mmdiff2in1.captions.overview import check_writable, dry_run, forget

    rank, world_size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    images, source, out = prepare(args)
    if args.dry_run:
        for line in dry_run(images, source, out, min(3, args.batch_size), args.fallback):
            print(line)
        print('dry run: nothing was written')
        return
    try:
        check_writable(out)
    except PermissionError as error:
        raise ValueError(f'{error}; name another place for the captions with --out FILE') from error
    if args.redo:
        print(f'{forget(images, out, args.redo)} captions taken out of {out}')
    complete = caption_images(
        images,
        source,
        out,
        fallback=args.fallback,
        batch_size=args.batch_size,
        rank=rank,
        world_size=world_size,
        progress=rank == 0,
    )
    if complete:
        print_report(images, out, args)
    else:
        print(f'process {rank}: done; others are at work, the last one puts {out} together')


def prepare(args: argparse.Namespace) -> 'tuple[ImageSet, CaptionSource, Path]':
    """The images, where their captions come from, and the file; no model is loaded yet.

    Raises FileNotFoundError or ValueError for what the flags name and is not there or does not fit.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdiff2in1.captions.captioner import check_captioner
    from mmdiff2in1.captions.captioning import ImageSet
    from mmdiff2in1.synthesis.sources import build_real_dataset

    if args.by == 'blip2':
        check_captioner(args.captioner)
    cfg, dataset = Config(), None
    if args.config:
        cfg = load_config(args)
        init_default_scope(cfg.get('default_scope') or 'mmseg')
        dataset = build_real_dataset(cfg)
    images = (ImageSet.of_folder(args.images) if dataset is None else ImageSet.of_dataset(dataset)).first(args.limit)
    named = ((cfg.get('stages') or {}).get('synthesis') or {}).get('captions')
    out = args.out or Path(named or Path(images.root or '.') / 'captions.jsonl')
    return images, make_source(args, dataset), out


def make_source(args: argparse.Namespace, dataset: Any) -> 'CaptionSource':
    """Where the captions come from."""
    from mmdiff2in1.captions.sources import ClassCaptions, EmptyCaptions, FileCaptions, ModelCaptions

    if args.by == 'classes':
        return ClassCaptions(dataset, args.template, args.max_names, args.without)
    if args.by == 'file':
        return FileCaptions(args.source, allow_missing=args.fallback is not None)
    return EmptyCaptions() if args.by == 'empty' else ModelCaptions(lambda: load_model(args))


def load_model(args: argparse.Namespace) -> 'ImageCaptioner':
    """The captioning model, where it will work."""
    import torch

    from mmdiff2in1.captions.captioner import ImageCaptioner
    from mmdiff2in1.synthesis.settings import DTYPES

    device = args.device
    if device is None and torch.cuda.is_available():
        device = f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    return ImageCaptioner.from_pretrained(
        args.captioner,
        DTYPES[args.dtype] if args.dtype else None,
        device or 'cpu',
        prompt=args.prompt,
        max_new_tokens=args.max_new_tokens,
        num_beams=args.beams,
    )


def print_report(images: 'ImageSet', out: Path, args: argparse.Namespace) -> None:
    """How many, what they look like, what to mind, and how to use them."""
    from mmdiff2in1.captions.overview import report

    cure = '' if args.by == 'empty' else '; --redo empty --fallback TEXT gives them one'
    for line in report(images, out, args.by != 'empty', cure):
        print(line)
    if args.config:
        fallback = ", caption_fallback=''" if args.by == 'empty' else ''
        print(
            f'to create from them, in {args.config}: stages = dict(synthesis=dict(captions={str(out)!r}{fallback}, …))'
        )
    else:
        print(f'to train on them: mmdiff2in1 pretrain --images {args.images} --captions {out} --out FOLDER')
