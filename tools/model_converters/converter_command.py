"""What the tools that convert somebody's checkpoint have in common: their command line, and a table of the result."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor


def converter_parser(doc: str, whose: str) -> argparse.ArgumentParser:
    """Of `CHECKPOINT --out FILE`; `doc` is the help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path, help=f"{whose}'s file")
    parser.add_argument('--out', type=Path, required=True, help='.safetensors or .pth file to write')
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; ends the program where the result cannot be written."""
    args = parser.parse_args(arguments)
    if args.out.suffix not in ('.safetensors', '.pth'):
        parser.error(f'--out {args.out}: expected a .safetensors or .pth file')
    if args.out.resolve() == args.checkpoint.resolve():
        parser.error(f'--out {args.out} is the checkpoint itself')
    return args


def parts_table(state: Mapping[str, Tensor], parts: Mapping[str, str | tuple[str, ...]]) -> str:
    """One line per part, whose names begin with its prefixes: its tensors and its numbers."""
    lines = [f'{"part":<18}{"tensors":>8}{"numbers":>15}']
    for part, prefixes in parts.items():
        tensors = [tensor for name, tensor in state.items() if name.startswith(prefixes)]
        lines.append(f'{part:<18}{len(tensors):>8}{sum(tensor.numel() for tensor in tensors):>15,}')
    return '\n'.join(lines)
