"""Write one model of a self-improving checkpoint under plain names, as mmseg's own tools load it.

    python tools/model_converters/to_mmseg.py work_dirs/…/iter_300.pth --out creator.pth
    python tools/model_converters/to_mmseg.py work_dirs/…/iter_300.pth --out exploiter.pth --model exploiter

A self-improving checkpoint holds θ_C and θ_E, and mmseg's tools, which load what fits by name, would take nothing from
it. The result fits the segmentor that was wrapped: my_config.py, not the config that wraps it. It holds weights and
mmengine's meta (classes, palette), no optimizer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmdiff2in1.apis.checkpoints import of_one_model, read_checkpoint

MODELS = ('creator', 'exploiter')


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the program where there is nothing to do or nowhere to write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path, help='of a self-improving training')
    parser.add_argument('--out', type=Path, required=True, help='.pth (with meta) or .safetensors file to write')
    parser.add_argument('--model', choices=MODELS, default=MODELS[0], help='θ_C (default) or θ_E')
    args = parser.parse_args(arguments)
    if args.out.suffix not in ('.pth', '.safetensors'):
        parser.error(f'--out {args.out}: expected a .pth or .safetensors file')
    if args.out.resolve() == args.checkpoint.resolve():
        parser.error(f'--out {args.out} is the checkpoint itself')
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads, chooses, writes, prints."""
    args = parse_args(arguments)
    try:
        found = read_checkpoint(args.checkpoint)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    if not any(name.startswith('exploiter.') for name in found['state_dict']):
        raise SystemExit(f'{args.checkpoint} holds no θ_E and θ_C: it has plain names already, and fits as it is')
    state = of_one_model(found['state_dict'], args.model)
    if args.out.suffix == '.pth':
        torch.save(dict(state_dict=state, meta=found['meta']), args.out)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, args.out)
    print(f'written: {args.out}, {args.model}: {len(state)} tensors under plain names')


if __name__ == '__main__':
    main()
