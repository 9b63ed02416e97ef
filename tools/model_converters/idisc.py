"""Turn a surface-normal checkpoint that iDisc published into one of ours, to test it, or to go on training from it.

    python tools/model_converters/idisc.py nyunormals_swinlarge.pt --out idisc_nyuv2-normal.safetensors
    python tools/test.py configs/baselines/idisc_nyuv2-normal.py idisc_nyuv2-normal.safetensors

CHECKPOINT is iDisc's own file, of the normals model on a Swin transformer. Every tensor of it has a place, is an index
that follows from the size of the window and is left out, or is an error that names it. Nothing in the file is run.

The result holds all of a segmentor: DenseEstimator with an HFBackbone and an IDiscHead. A self-improving config takes
it as well, for both θ_C and θ_E. The lines that a config needs are printed. The weights stay under iDisc's licence (CC
BY-NC 4.0), whatever their names.

Normals are in our frame already, channels x, y, z and κ. Small differences remain: the published test code interpolates
bicubically where ours is bilinear (its authors put that at about 0.1 points), and transformers' Swin adds 1e-5 to the
variance in the norms of its patches, mergings and outputs, where iDisc's adds 1e-6.
"""

from converter_command import converter_parser, parsed, parts_table

from mmdiff2in1.converters.idisc_checkpoint import ConvertedIDisc, convert_idisc
from mmdiff2in1.core.names import some
from mmdiff2in1.models.checkpoints import write_state

PARTS = {
    'Swin': 'backbone.',
    'pixel decoder': 'decode_head.pixel_decoder.',
    'partitioning': 'decode_head.partitioning.',
    'discretisation': 'decode_head.decoders.',
}


def config_lines(converted: ConvertedIDisc) -> str:
    """What a config must say for the checkpoint to fit."""
    swin, head = (
        ', '.join(f'{name}={value!r}' for name, value in settings.items())
        for settings in (converted.swin, converted.head)
    )
    return '\n'.join(
        [
            f"backbone:  type='HFBackbone', model=dict(model_type='swin', {swin})",
            f"head:      type='IDiscHead', task=dict(type='SurfaceNormal', kappa=True), {head}",
            'images:    480 x 640, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], RGB',
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Converts, writes, prints."""
    args = parsed(converter_parser(__doc__, 'iDisc'), arguments)
    try:
        converted = convert_idisc(args.checkpoint)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f'{args.checkpoint}: iDisc, normals\n\n{parts_table(converted.state, PARTS)}\n')
    print(f'left out: {len(converted.left_out)} of the file ({some(converted.left_out)})')
    print(f'added: {len(converted.added)} that nothing reads ({some(converted.added)})\n')
    print(f'{config_lines(converted)}\n')
    write_state(args.out, converted.state)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
