"""Train a small latent diffusion model from scratch on a folder of images, with optional captions.

    mmdiff2in1 pretrain --images data/scenes/unlabelled/images \
        --captions data/scenes/unlabelled/captions.jsonl --out work_dirs/scenes_diffusion
    mmdiff2in1 pretrain vpd_scenes --out work_dirs/scenes_diffusion     # images and captions of a config's training set
    torchrun --nproc-per-node 2 -m mmdiff2in1 pretrain …      # several processes, CPU or GPU

    mmdiff2in1 pretrain --init builtin:scenes --condition semantic_segmentation \
        --images data/scenes/unlabelled/images --captions data/scenes/unlabelled/captions.jsonl \
        --labels work_dirs/perceived --out work_dirs/scenes_controlnet

Two stages: the autoencoder, then U-Net and text encoder on its latents. Progress with an ETA is logged; sample grids
appear in WORK_DIR/unet/samples; killed at any time, --resume goes on. The result is a diffusers folder (fp16).

With --condition a ControlNet alone is trained, which shows the frozen U-Net label maps: LABELS holds a PNG for each
image, of the same name, such as a perceiver's predictions. Grids in WORK_DIR/controlnet/samples show condition |
created. The result is the folder of --init with a controlnet/ in it.
"""

import argparse
from dataclasses import fields
from typing import Any

from mmdiff2in1.pretraining.options import PretrainingOptions

from .config_arguments import add_config_arguments, load_config
from .device_arguments import add_process_device

HELP = {
    'images': 'instead of a config: folder of images, searched recursively; masks beside them are left out',
    'captions': 'JSONL file, one {"image": name, "caption": text} per image (default: stages.synthesis.captions of the '
    'config, else empty captions)',
    'out': 'where the finished diffusers folder goes',
    'work_dir': 'logs, checkpoints and sample grids; default: work_dirs/pretraining/NAME_OF_OUT',
    'size': 'image height and width in pixels (multiples of 16 with the default widths)',
    'widths': 'channels of the U-Net levels, fine to coarse; all but the finest attend to the caption',
    'layers': 'residual layers per U-Net level',
    'vae_widths': 'channels of the autoencoder levels; each but the last halves the resolution',
    'latent_channels': 'channels of the latent',
    'text_width': 'width of the text encoder',
    'vae_iters': 'iterations of the autoencoder stage; 0 keeps the autoencoder of --init',
    'iters': 'iterations of the U-Net stage',
    'batch_size': 'images per process and iteration',
    'lr': 'peak learning rate of the U-Net stage',
    'vae_lr': 'peak learning rate of the autoencoder stage',
    'lr_decay': 'last share of a stage over which its learning rate falls; before it the rate stays at its peak',
    'validation': 'images held out for validation',
    'val_interval': 'iterations between validations; each writes a sample grid',
    'init': 'diffusers folder, one file, or builtin:scenes, to start from; its architecture and vocabulary then count',
    'decoder_only': 'train the decoder of --init alone, for --vae-iters; everything else stays',
    'condition': 'task whose label maps a ControlNet learns to follow: semantic_segmentation, depth, normal',
    'labels': 'folder of these label maps, a PNG of the same name for each image',
    'label_set': 'data set that gives classes their colours',
    'seed': 'seed of weights, order and noise',
    'bf16': 'bfloat16 autocast, where the device computes in it; elsewhere it would be many times slower',
    'resume': 'continue from the last checkpoints in --work-dir',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per field of PretrainingOptions."""
    add_config_arguments(parser, 'the images are those of its train_dataloader.dataset', optional=True)
    add_process_device(parser)
    for field in fields(PretrainingOptions):
        flag, text = '--' + field.name.replace('_', '-'), HELP[field.name]
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        elif isinstance(field.default, tuple):
            parser.add_argument(
                flag, type=int, nargs='+', default=list(field.default), help=f'{text} ({field.default})'
            )
        else:
            required, plain = field.name == 'out', field.name in ('images', 'out')
            kind = type(field.default) if isinstance(field.default, int | float | str) else str
            parser.add_argument(
                flag,
                required=required,
                type=kind,
                default=None if plain else field.default,
                help=text if plain or field.default is None else f'{text} ({field.default})',
            )


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses both, or neither, of config and folder, with a message."""
    if (args.config is None) == (args.images is None):
        parser.error('expected either a CONFIG or --images FOLDER')
    if args.cfg_options and args.config is None:
        parser.error('--cfg-options changes a CONFIG; there is none')


def run(args: argparse.Namespace) -> None:
    """Trains, and says where the result is."""
    from mmdiff2in1.pretraining.run import pretrain
    from mmdiff2in1.pretraining.training_set import training_set

    values: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(PretrainingOptions)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    data = None
    if args.config is not None:
        data = training_set(load_config(args), args.captions)
        values['images'] = data.folder
        told = 'without captions' if data.captions is None else 'with their captions'
        print(f'{args.config}: {len(data.names)} images of the training set, {told}', flush=True)
    print(f'written: {pretrain(PretrainingOptions(**values | lists), data)}')
