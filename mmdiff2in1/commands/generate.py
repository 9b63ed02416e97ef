"""Generate images with their label maps: from prompts, or from your own images.

    mmdiff2in1 generate CONFIG CHECKPOINT --prompt "a green table in a room" --num 4
    mmdiff2in1 generate CONFIG CHECKPOINT --prompt "a bed" --prompt "two red balls" --guidance-scale 3
    mmdiff2in1 generate CONFIG CHECKPOINT --image room.png --caption "a green table in a room" --T 600
    mmdiff2in1 generate CONFIG CHECKPOINT --image photos/ --T 300 --num 2 --model exploiter

From a prompt an image is created out of pure noise; from an image by adding noise up to T and removing it again: a
small T keeps the scene and changes textures, a T near T_max (1000) keeps almost nothing. The same seed gives the same
image. Settings that no flag names are those of stages.synthesis in the config. The map is what the model sees in the
final latent, one forward pass on top of --num-calls. A segmentor without a diffusion model of its own creates with
--diffusion, or with stages.synthesis.diffusion, and sees the pixels.

Written to --out: images/ labels/ colours/ with one PNG per sample each, recipes.json (how each came about), and
sheet.png (all of them in one picture). What an earlier run has left there is replaced.
"""

import argparse
from pathlib import Path

from .config_arguments import add_config_arguments, load_config, work_dir_of

INPUTS = {'checkpoint': 'checkpoint'}
"""What has to be there, see `check_given`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config_arguments(parser, 'of a self-improving or of a plain segmentor')
    parser.add_argument('checkpoint', help='.pth or .safetensors of either')
    what = parser.add_argument_group('what to create').add_mutually_exclusive_group(required=True)
    what.add_argument('--prompt', action='append', help='sentence to create from; may be repeated')
    what.add_argument('--image', action='append', help='file or folder to vary; may be repeated')
    parser.add_argument(
        '--caption', action='append', help='of the images: one for all, or one for each (default: no caption)'
    )
    parser.add_argument('--num', type=int, default=1, help='samples per prompt or image, seeds SEED, SEED + 1, …')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first sample')
    parser.add_argument('--out', type=Path, help='folder (default: work_dirs/CONFIG/generated)')
    parser.add_argument('--model', choices=('creator', 'exploiter'), default='creator', help='θ_C (default) or θ_E')

    settings = parser.add_argument_group('settings (default: those of the config)')
    settings.add_argument('--T', type=int, help='noise level 1 … T_max; with a prompt always T_max')
    settings.add_argument('--num-calls', type=int, help='denoising steps, i.e. U-Net calls per image, at most T')
    settings.add_argument('--solver', help="'ddim', 'dpm++' (fewer calls), or 'ddpm' (draws noise on the way)")
    settings.add_argument('--guidance-scale', type=float, help='1 = off; more follows the text closer (prompts: 2)')
    settings.add_argument('--size', type=int, nargs='+', help='shorter side, or height and width')
    settings.add_argument(
        '--diffusion', help="diffusers folder, one file, or 'builtin:scenes' (default: the model's own)"
    )
    settings.add_argument('--batch-size', type=int, default=8, help='samples per call')
    settings.add_argument('--device', help="'cpu', 'cuda:0' … (default: a GPU if there is one)")
    settings.add_argument('--category', help='kind of scene, for a model that is told it (vpd_nyu-depth): kitchen …')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments that do not go together, with a message."""
    if args.prompt and args.caption:
        parser.error('--caption describes an --image; with --prompt the prompt is the caption')
    if args.num < 1:
        parser.error(f'--num {args.num}: expected 1 or more')
    if args.size and len(args.size) > 2:
        parser.error(f'--size has {len(args.size)} numbers; expected the shorter side, or height and width')


def run(args: argparse.Namespace) -> Path:
    """Creates, perceives, writes."""
    from mmdiff2in1.inference import Diff2in1Inferencer
    from mmdiff2in1.inference.generation_files import repeated, write_generations
    from mmdiff2in1.inference.image_files import read_images

    cfg = load_config(args)
    out = args.out or work_dir_of(args, cfg) / 'generated'
    images = [picture.path for picture in read_images(args.image)] if args.image else None
    captions = args.caption
    if captions and len(captions) == 1:
        captions = captions * len(images)
    if captions and len(captions) != len(images):
        raise ValueError(f'{len(captions)} captions for {len(images)} images; give one for all, or one each')
    inferencer = Diff2in1Inferencer(cfg, args.checkpoint, args.model, args.device, args.diffusion)
    made = inferencer.generate(
        repeated(args.prompt, args.num),
        repeated(images, args.num),
        repeated(captions, args.num),
        seeds=[args.seed + i for _ in images or args.prompt for i in range(args.num)],
        T=args.T,
        num_calls=args.num_calls,
        solver=args.solver,
        guidance_scale=args.guidance_scale,
        size=args.size[0] if args.size and len(args.size) == 1 else args.size,
        batch_size=args.batch_size,
        progress=True,
        category=args.category,
    )
    origin = dict(config=args.config, checkpoint=str(args.checkpoint), model=args.model)
    origin |= dict(tasks=list(inferencer.tasks), weights_hash=inferencer.diffusion.weights_hash())
    write_generations(out, made, inferencer.tasks, origin)
    first = made[0]
    calls = f'{first.calls} denoising calls each, {first.perception_calls} more for the map'
    print(f'{len(made)} samples, T={first.T}, {calls}')
    print(f'written: {out} (look at {out / "sheet.png"})')
    return out
