"""Turn a checkpoint that VPD published into one of ours, to test it, or to go on training from it.

    python tools/model_converters/vpd.py vpd_ade20k.pth --diffusion stable-diffusion-1.5 --out vpd_ade20k.safetensors
    python tools/test.py configs/baselines/vpd_ade20k.py vpd_ade20k.safetensors
    python tools/model_converters/vpd.py vpd_nyu.pth --diffusion v1-5-pruned-emaonly.safetensors --out nyu-depth.pth
    python tools/test.py configs/baselines/vpd_nyu-depth.py nyu-depth.pth

CHECKPOINT is VPD's own file, of segmentation (mmseg 0.x) or of depth; which of the two is seen from its names. VPD does
not store the text encoder, the decoder of the VAE and, for depth, the last layers of the U-Net: they come from
--diffusion, the Stable Diffusion that VPD was trained from (1.5). Every tensor of the file has a place, is one of the
few that are left out (the noise schedule, which a config holds, and the VAE's post_quant_conv, which belongs to its
decoder), or is an error that names it. Nothing in the file is run.

The result holds all of a segmentor: EncoderDecoder (depth: SceneConditionedEstimator) with a DiffusionBackbone
(regime='finetune', text_adapter=True) and a GenerativeDecodeHead. A self-improving config takes it as well, for both
θ_C and θ_E. The lines that a config needs are printed.

Depth: the head becomes a VPDDepthDecodeHead, which has the same layers. VPD shows the U-Net ONE token per image, that
of the scene's class (kitchen, office …), at test time too: each sample needs a category_id, in the order of the tokens.
It pads images of 480 × 480 with zeros to 512 × 512 and crops one row and column of features again, which the printed
lines do inside the model; train on crops of 480 × 480, and test with windows of that size.
"""

import argparse

from converter_command import converter_parser, parsed

from mmdiff2in1.converters.vpd_checkpoint import VAE_TOLERANCE, ConvertedVPD, convert_vpd
from mmdiff2in1.converters.vpd_layouts import LAYOUTS
from mmdiff2in1.core.names import some
from mmdiff2in1.models.checkpoints import write_state

PARTS = {
    'U-Net': ('backbone.diffusion.unet.',),
    'VAE, encoder': ('backbone.diffusion.vae.encoder.', 'backbone.diffusion.vae.quant_conv.'),
    'VAE, decoder': ('backbone.diffusion.vae.decoder.', 'backbone.diffusion.vae.post_quant_conv.'),
    'text encoder': ('backbone.diffusion.text.',),
    'class embeddings': ('backbone.tokens',),
    'text adapter': ('backbone.text_adapter.',),
    'neck': ('neck.',),
    'head': ('decode_head.',),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = converter_parser(__doc__, 'VPD')
    parser.add_argument('--diffusion', required=True, help='diffusers folder or one file of Stable Diffusion 1.5')
    parser.add_argument('--task', choices=LAYOUTS, help='refuse a file of the other kind (default: take what it is)')
    return parsed(parser, arguments)


def table(converted: ConvertedVPD) -> str:
    """One line per part: its tensors, its numbers, and where they come from."""
    lines = [f'{"part":<18}{"tensors":>8}{"numbers":>15}  from']
    taken = set(converted.taken)
    for part, prefixes in PARTS.items():
        names = [name for name in converted.state if name.startswith(prefixes)]
        for source, some_names in (
            ('CHECKPOINT', [name for name in names if name not in taken]),
            ('--diffusion', [name for name in names if name in taken]),
        ):
            if some_names:
                numbers = sum(converted.state[name].numel() for name in some_names)
                lines.append(f'{part:<18}{len(some_names):>8}{numbers:>15,}  {source}')
    return '\n'.join(lines)


def config_lines(converted: ConvertedVPD) -> str:
    """What a config must say for the checkpoint to fit."""
    depth = converted.task == 'depth'
    feature = "preset='vpd_depth'" if depth else f"preset='vpd', map_levels={converted.map_levels}"
    lines = [
        "backbone: regime='finetune', text_adapter=True,",
        f'          feature=dict({feature})',
        f'          {converted.classes} tokens: classes of that many names, or class_embeddings',
    ]
    if not depth:
        lines += [
            f'neck:     FPN, in_channels={converted.widths}',
            f'head:     FPNHead, num_classes={converted.classes}',
        ]
    else:
        lines += [
            f'head:     VPDDepthDecodeHead, in_channels={converted.widths}, fmap_border=1 (images of 480 × 480)',
            f'model:    SceneConditionedEstimator; category_id 0 … {converted.classes - 1} of each sample, among the '
            'meta_keys',
        ]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Converts, writes, prints."""
    args = parse_args(arguments)
    try:
        converted = convert_vpd(args.checkpoint, args.diffusion, args.task)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f'{args.checkpoint}: VPD, {converted.task}\n\n{table(converted)}\n')
    print(f'left out: {len(converted.left_out)} of the file ({some(converted.left_out)})')
    print(f'VAE encoder against --diffusion: largest difference {converted.vae_difference:.1e} of an entry\n')
    if converted.vae_difference > VAE_TOLERANCE:
        print(
            'WARNING: that is another VAE, and VPD never trains it. Is --diffusion the Stable Diffusion that it was '
            'trained from?\n  Perception uses the encoder of CHECKPOINT, creation the decoder of --diffusion: created '
            'images may look wrong.\n'
        )
    print(f'{config_lines(converted)}\n')
    write_state(args.out, converted.state)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
