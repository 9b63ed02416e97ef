"""Make the class embeddings that a VPD model attends to: one token per class, from the text encoder of its weights.

    mmdiff2in1 class-embeddings --diffusion FOLDER --dataset ADE20KDataset --out ade20k.safetensors
    mmdiff2in1 class-embeddings --diffusion sd.safetensors --classes road car "traffic light" --out my.safetensors
    mmdiff2in1 class-embeddings --diffusion builtin:scenes --classes names.txt --out scenes.safetensors

Every name is put into CLIP's 80 sentences for ImageNet ("a photo of a …"), an underscore as a space, and the pooled
states are averaged, as in VPD.
A config reads the file with backbone.class_embeddings='ade20k.safetensors'. Without one, the same is computed when the
model is first built and kept in $MMDIFF2IN1_CACHE (~/.cache/mmdiff2in1). A class list of your own needs no file to
edit: name the classes here, or in backbone.classes.

Prints for every class the one that it is hardest to tell from, so that a misspelt or doubled name shows.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .device_arguments import add_process_device

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    parser.add_argument('--diffusion', required=True, help='diffusers folder, one file of weights, or builtin:scenes')
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument('--dataset', help="a registered mmseg dataset, whose METAINFO['classes'] count")
    names.add_argument('--classes', nargs='+', help='the names in label order, or one text file with a name per line')
    parser.add_argument('--out', type=Path, required=True, help='.safetensors file to write')
    add_overwrite(parser)
    add_process_device(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses another kind of file, with a message."""
    if args.out.suffix != '.safetensors':
        parser.error(f'--out {args.out}: expected a .safetensors file')


def names_of(args: argparse.Namespace) -> list[str]:
    """Class names that the flags give.

    Raises ValueError for an unknown dataset, one without names, names that are given twice, or see `named_classes`.
    """
    from mmdiff2in1.core.list_files import named_classes
    from mmdiff2in1.models.backbones.class_prompt import class_names

    names = args.classes or []
    if args.dataset is not None:
        names = class_names(args.dataset)
    elif len(names) == 1:
        names = named_classes(names[0]) or names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'names given more than once: {", ".join(twice)}; the model could not tell them apart')
    return names


def closest(embeddings: 'Tensor') -> list[tuple[int, float]]:
    """For each of (K, D) embeddings the nearest other one, and the cosine of the angle between them."""
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    return list(zip(cosine.argmax(1).tolist(), cosine.amax(1).tolist(), strict=True))


def run(args: argparse.Namespace) -> None:
    """Computes, writes, prints."""
    from mmdiff2in1.generators import LatentDiffusion
    from mmdiff2in1.generators.class_embeddings import compute_class_embeddings, write_class_embeddings
    from mmdiff2in1.models.backbones.class_prompt import TEMPLATES

    check_new(args.out, args.overwrite)
    names = names_of(args)
    text = LatentDiffusion.from_pretrained(args.diffusion).text
    embeddings = compute_class_embeddings(text, names, TEMPLATES)
    write_class_embeddings(args.out, embeddings, names)
    if len(names) > 1:
        for name, (other, cosine) in zip(names, closest(embeddings), strict=True):
            print(f'{name:24s} hardest to tell from {names[other]} ({cosine:.3f})')
    print(f'written: {args.out}, {tuple(embeddings.shape)}')
