"""``python -m mmdiff2in1 COMMAND``."""

import argparse
import importlib
import sys

COMMANDS = {'wrap': 'write the self-improving form of a plain mmseg config'}


def main(arguments: list[str] | None = None) -> None:
    """Hands over to a command of `mmdiff2in1.commands`, which is imported only then."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser('mmdiff2in1', description='Diff-2-in-1 for OpenMMLab')
    parser.add_argument(
        'command', choices=COMMANDS, help='; '.join(f'{name}: {text}' for name, text in COMMANDS.items())
    )
    args = parser.parse_args(arguments[:1])
    command = importlib.import_module(f'mmdiff2in1.commands.{args.command}')
    own = argparse.ArgumentParser(
        f'mmdiff2in1 {args.command}', description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(own)
    try:
        command.run(own.parse_args(arguments[1:]))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
