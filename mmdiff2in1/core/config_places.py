"""Where a config is: a file, or the name of one that comes with the package, from any folder. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from .names import near

BUILT_IN = Path(__file__).resolve().parents[1] / '.mim' / 'configs'
FOLDERS = ('diff2in1', 'baselines')
"""Where a bare name is looked for, in this order."""
EXAMPLES = 'unet_scenes, vpd_scenes, vpd_ade20k'


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
