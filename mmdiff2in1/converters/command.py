"""The command line of every converter: `FILE --out RESULT`, the direction, and what the converter declares."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmdiff2in1.core.arguments import Arguments
from mmdiff2in1.core.overwriting import add_overwrite, check_new

from .base import OURS, Converter, convert


def command(converter: type[Converter], doc: str) -> Callable[..., None]:
    """The `main` of a tool; ``doc`` is its help."""

    def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
        """Reads, converts, writes, prints; ends the program with one message where that cannot be done."""
        args = _parsed(converter, doc, arguments, program)
        path, out, to = args.pop('checkpoint'), args.pop('out'), args.pop('to', converter.directions[0])
        overwrite = args.pop('overwrite')
        try:
            chosen = converter(**args)
            check_new(out, overwrite)
            converted = convert(chosen, path, out, to)
        except (OSError, ValueError) as error:
            raise SystemExit(str(error)) from None
        print(f'{path}: {chosen.report(converted, to)}\n\nwritten: {out}')

    return main


def _parsed(converter: type[Converter], doc: str, arguments: Sequence[str] | None, program: str | None) -> dict:
    parser = Arguments(program, description=doc)
    for name, settings in converter.arguments.items():
        parser.add_argument(name, **settings)
    add_overwrite(parser)
    both = len(converter.directions) > 1
    whose = f"{converter.whose}'s file" + (', or with --to theirs one of ours' if both else '')
    parser.add_argument('checkpoint', type=Path, help=f'{whose}: .pth or .safetensors')
    what = f'{" or ".join(converter.suffixes)} file to write' if converter.suffixes else 'folder to make'
    parser.add_argument('--out', type=Path, required=True, help=what)
    if both:
        parser.add_argument('--to', choices=converter.directions, default=OURS, help='whose names (default: ours)')
    args = parser.parse_args(arguments)
    if converter.suffixes and args.out.suffix not in converter.suffixes:
        parser.error(f'--out {args.out}: expected a {" or ".join(converter.suffixes)} file')
    if args.out.resolve() == args.checkpoint.resolve():
        parser.error(f'--out {args.out} is the checkpoint itself')
    return vars(args)
