"""A config and changes to it, the same for every command that takes one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


EXAMPLE = 'for instance train_cfg.max_iters=1000'


class KeyValue(argparse.Action):
    """``a.b=c d=e`` as a mapping of texts; may be given several times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        typed, value = dict(getattr(namespace, self.dest) or {}), ''
        for text in values or ():
            key, sign, value_of_this = text.partition('=')
            if not sign or not key:
                cut = value.endswith(',') or sum(map(value.count, '[(')) > sum(map(value.count, '])'))
                hint = f'a list has no blanks, or stands in quotes: "…={value} {text}"' if cut else EXAMPLE
                parser.error(f'{option_string} {text}: expected KEY=VALUE; {hint}')
            typed[key] = value = value_of_this
        setattr(namespace, self.dest, typed)


def add_config_arguments(parser: argparse.ArgumentParser, config: str, optional: bool = False) -> None:
    """Adds CONFIG and --cfg-options; ``config`` is the help of the first."""
    name = '; a file, or the name of a built-in config such as vpd_scenes'
    parser.add_argument('config', nargs='?' if optional else None, help=config + name)
    add_config_options(parser)


def add_config_options(parser: argparse._ActionsContainer) -> None:
    """Adds --cfg-options."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValue,
        default={},
        metavar='KEY=VALUE',
        help='replace any entry of the config: train_cfg.max_iters=1000',
    )


def load_config(args: argparse.Namespace) -> 'Config':
    """The config with the changes made."""
    from mmdiff2in1.core.config_file import read_config
    from mmdiff2in1.core.config_options import change

    cfg = read_config(args.config)
    change(cfg, changes_of(args, cfg))
    return cfg


def changes_of(args: argparse.Namespace, cfg: 'Config') -> dict[str, Any]:
    """What --cfg-options asks for, by dotted keys, for ``merge_from_dict`` of this config.

    Raises:
        ValueError: A key that nothing would read.
    """
    from mmdiff2in1.core.config_options import option_values
    from mmdiff2in1.training.config_keys import check_options

    check_options(cfg, args.cfg_options)
    return option_values(args.cfg_options)


def work_dir_of(args: argparse.Namespace, cfg: 'Config', ending: str = '') -> Path:
    """--work-dir, else that of the config, else work_dirs/CONFIG."""
    asked = getattr(args, 'work_dir', None) or cfg.get('work_dir')
    return Path(asked or Path('work_dirs', Path(args.config).stem + ending))
