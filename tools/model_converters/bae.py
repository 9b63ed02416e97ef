"""Turn a surface-normal checkpoint that Bae et al. published into one of ours, to test it or to train on from it.

    python tools/model_converters/bae.py nyu.pt --out bae_nyuv2-normal.safetensors
    python tools/test.py configs/baselines/bae_nyuv2-normal.py bae_nyuv2-normal.safetensors
    python tools/test.py configs/baselines/bae_nyuv2-normal.py bae_scannet.safetensors \
        --cfg-options model.decode_head.norm=BN

CHECKPOINT is their own file: nyu.pt (group normalisation) or scannet.pt (batch normalisation). Every tensor of it has a
place or is an error that names it; nothing is left out. Nothing in the file is run.

The result holds all of a segmentor: DenseEstimator with an HFBackbone (EfficientNet-B5) and a BaeNormalHead. A
self-improving config takes it as well, for both θ_C and θ_E. The lines that a config needs are printed.

Normals are in our frame already (x left, y up, z towards the viewer), channels x, y, z and κ. Images are normalised by
ImageNet's mean and standard deviation, which is the data preprocessor's business. The published NYUv2 model was trained
on 30,907 images, not on the 795 of the official split: compare it with models of that set only.
"""

from converter_command import converter_parser, parsed, parts_table

from mmdiff2in1.converters.bae_checkpoint import ConvertedBae, convert_bae
from mmdiff2in1.models.checkpoints import write_state

PARTS = {
    'EfficientNet': ('backbone.',),
    'decoder': ('decode_head.bottleneck.', 'decode_head.fusions.', 'decode_head.coarse_output.'),
    'point heads': ('decode_head.point_heads.',),
}


def config_lines(converted: ConvertedBae) -> str:
    """What a config must say for the checkpoint to fit."""
    model, head = (
        ', '.join(f'{name}={value!r}' for name, value in settings.items())
        for settings in (converted.backbone['model'], converted.head)
    )
    return '\n'.join(
        [
            'data_preprocessor: mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True',
            f"backbone: dict(type='HFBackbone', model=dict({model}))",
            f"head:     dict(type='BaeNormalHead', {head})",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Converts, writes, prints."""
    args = parsed(converter_parser(__doc__, 'Bae et al.'), arguments)
    try:
        converted = convert_bae(args.checkpoint)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f'{args.checkpoint}: Bae et al., {converted.head["norm"]}\n\n{parts_table(converted.state, PARTS)}\n')
    print(f'{config_lines(converted)}\n')
    write_state(args.out, converted.state)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
