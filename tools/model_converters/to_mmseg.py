"""Write one model of a self-improving checkpoint under plain names, as mmseg's own tools load it.

    python tools/model_converters/to_mmseg.py work_dirs/…/iter_300.pth --out creator.pth
    python tools/model_converters/to_mmseg.py work_dirs/…/iter_300.pth --out exploiter.pth --model exploiter

A self-improving checkpoint holds θ_C and θ_E, and mmseg's tools, which load what fits by name, would take nothing from
it. The result fits the segmentor that was wrapped: my_config.py, not the config that wraps it. It holds weights and
mmengine's meta (classes, palette), no optimizer.
"""

from collections.abc import Sequence

from converter_command import converter_parser, parsed

from mmdiff2in1.models.checkpoints import of_one_model, read_checkpoint, write_state

MODELS = ('creator', 'exploiter')


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads, chooses, writes, prints."""
    parser = converter_parser(__doc__, 'a self-improving training')
    parser.add_argument('--model', choices=MODELS, default=MODELS[0], help='θ_C (default) or θ_E')
    args = parsed(parser, arguments)
    try:
        found = read_checkpoint(args.checkpoint)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    if not any(name.startswith('exploiter.') for name in found['state_dict']):
        raise SystemExit(f'{args.checkpoint} holds no θ_E and θ_C: it has plain names already, and fits as it is')
    state = of_one_model(found['state_dict'], args.model)
    # Tensors that share memory, which safetensors refuses, are stored each for itself.
    write_state(args.out, {name: tensor.clone().contiguous() for name, tensor in state.items()}, found['meta'])
    print(f'written: {args.out}, {args.model}: {len(state)} tensors under plain names')


if __name__ == '__main__':
    main()
