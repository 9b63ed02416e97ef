"""One reader of configs: files, and the names of those that come with the package, from any folder."""

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from .names import near

BUILT_IN = Path(__file__).resolve().parents[1] / '.mim' / 'configs'
FOLDERS = ('diff2in1', 'baselines')
"""Where a bare name is looked for, in this order."""
EXAMPLES = 'unet_scenes, vpd_scenes, vpd_ade20k'

# `_base_ = ['mmdiff2in1::diff2in1/vpd_scenes.py']` and `['mmseg::…']`: mmengine asks this table which package has them.
MODULE2PACKAGE['mmdiff2in1'] = 'mmdiff2in1'
if importlib.util.find_spec('mmseg') and 'onedl-mmsegmentation' in metadata.packages_distributions().get('mmseg', ()):
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


def read_config(place: str | Path) -> Config:
    """The config of a file or of a built-in name, see :func:`find_config`.

    Raises:
        FileNotFoundError: See :func:`find_config`, and for a `_base_` that is not there.
    """
    cfg = Config.fromfile(find_config(place))
    _without_scope(cfg._cfg_dict)
    return cfg


def _without_scope(part: Any) -> None:
    """Takes out what mmengine notes in a `_base_` of a package: ours registers in mmseg's scope, and has none of its
    own."""
    if isinstance(part, dict):
        if part.get('_scope_') == 'mmdiff2in1':
            del part['_scope_']
        for value in part.values():
            _without_scope(value)
    elif isinstance(part, list | tuple):
        for value in part:
            _without_scope(value)


def find_config(place: str | Path) -> Path:
    """The file of a config.

    Args:
        place: A file; or the name of a config that comes with this package, `diff2in1/vpd_scenes` with or without
            `configs/` before it and `.py` behind it, or `vpd_scenes` alone, which is looked for in `FOLDERS`.

    Raises:
        FileNotFoundError: There is none; the nearest names are told.
    """
    file = Path(place)
    if file.is_file():
        return file
    name = str(place).removeprefix('mmdiff2in1::').removeprefix('configs/').removesuffix('.py')
    for folder in ('', *FOLDERS):
        built_in = BUILT_IN / folder / f'{name}.py'
        if name and built_in.is_file() and not name.startswith(('/', '.', '_base_')):
            return built_in
    raise FileNotFoundError(_not_found(place, name))


def _not_found(place: str | Path, name: str) -> str:
    """Where was looked, and what has a name like it."""
    folder, built_in = Path(place).parent, built_in_configs()
    beside = {each.name: str(each) for each in folder.glob('*.py')} if folder.is_dir() else {}
    files = [beside[each] for each in near(Path(place).with_suffix('.py').name, beside, 2, 0.75)]
    alike = [*files, *near(name, [known for each in built_in for known in (each, each.partition('/')[2])], 3)]
    meant = f'did you mean {" or ".join(dict.fromkeys(alike))}?' if alike else f'built in are {EXAMPLES} and the like'
    looked = f'looked in {folder.absolute()}' if folder.is_dir() else f'there is no folder {folder}'
    inside = ' and '.join(f'{each}/' for each in FOLDERS)
    return (
        f'{place}: no such config file ({looked}), and none of that name among the {len(built_in)} built-in configs '
        f'({inside} in {BUILT_IN}); {meant}'
    )


def built_in_configs() -> list[str]:
    """Names of the configs that come with the package: `diff2in1/vpd_scenes`."""
    return [f'{folder}/{file.stem}' for folder in FOLDERS for file in sorted((BUILT_IN / folder).glob('*.py'))]
