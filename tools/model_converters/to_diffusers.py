"""Write the diffusion model inside a trained checkpoint as a diffusers folder, for use in any diffusers pipeline.

    python tools/model_converters/to_diffusers.py CONFIG CHECKPOINT --out FOLDER
    python tools/model_converters/to_diffusers.py CONFIG CHECKPOINT --out FOLDER --model exploiter --dtype float16

    >>> pipeline = diffusers.StableDiffusionPipeline.from_pretrained('FOLDER')
    >>> pipeline('a green table in a room').images[0]

CONFIG names the diffusion model that training began with, CHECKPOINT (plain or self-improving) what became of it; what
the checkpoint does not store stays as CONFIG builds it. What changed is printed: with regime='frozen' nothing does, and
the folder is a copy of the pretrained model. --diffusion of the other tools reads the folder as well.

Not in it: class embeddings and the text adapter, which make the class tokens of a perception (a pipeline is prompted
with a caption), neck and head. A U-Net that was fine-tuned to perceive alone, without its denoising loss, has not been
trained to create since: look at what it draws before you rely on it.
"""

import argparse
from pathlib import Path

from mmdiff2in1.converters.diffusers_export import MODELS_INSIDE, export_diffusers
from mmdiff2in1.synthesis.from_config import DTYPES

PARTS = {'unet': 'U-Net', 'vae': 'VAE', 'text': 'text encoder'}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument(
        '--model', choices=MODELS_INSIDE, help='of a self-improving checkpoint (default: creator, i.e. θ_C)'
    )
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of the stored weights (default: float32)')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Builds, compares, writes, prints."""
    args = parse_args(arguments)
    try:
        changes = export_diffusers(args.config, args.checkpoint, args.out, args.model, DTYPES[args.dtype])
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for part, change in changes.items():
        where = f', at most by {change.largest:.1%} of the largest entry ({change.where})' if change.changed else ''
        print(f'{PARTS[part]:<13} {change.changed} of {change.tensors} tensors differ from the pretrained ones{where}')
    if not changes['unet'].changed:
        print('NOTICE: the U-Net was frozen; the folder holds the model that the training began with')
    print(f'written: {args.out}, {args.dtype}')


if __name__ == '__main__':
    main()
