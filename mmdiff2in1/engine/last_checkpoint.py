"""Which checkpoint a run goes on from: one of its own, also where its folder has been copied or moved."""

import os
from pathlib import Path

LAST = 'last_checkpoint'


def name_for(checkpoint: str | Path, work_dir: str | Path) -> str:
    """Text of ``last_checkpoint`` for a checkpoint: its name, or the whole path of one outside of the work dir."""
    file = Path(checkpoint)
    return file.name if _same(file.parent, work_dir) else os.path.abspath(file)


def last_checkpoint(work_dir: str | Path, out_dir: str | Path | None = None) -> Path | None:
    """The checkpoint that ``last_checkpoint`` of a work dir names; None without that file.

    Runs of earlier versions, and mmengine's own hook, write whole paths: of a folder that has been copied, they lead to
    the run that it was copied from. A checkpoint of that name in the work dir is meant then.

    Args:
        work_dir: Of the run.
        out_dir: Where its checkpoints are, if elsewhere: ``out_dir`` of the checkpoint hook.

    Raises:
        ValueError: The file is empty, or names a checkpoint of another run.
        FileNotFoundError: That checkpoint is not there.
    """
    work_dir = Path(work_dir)
    file = work_dir / LAST
    if not file.is_file():
        return None
    cure = 'write the name of a checkpoint of this folder into it, or delete it to start anew'
    text = file.read_text(errors='replace').strip()
    if not text:
        raise ValueError(f'{file} is empty; {cure}')
    named = Path(text)
    # mmengine makes a folder of the work dir's name below its out_dir.
    places = [work_dir] if out_dir is None else [Path(out_dir, os.path.basename(os.path.abspath(work_dir))), work_dir]
    if named.is_absolute() and any(_same(named.parent, place) for place in places):
        found = named
    else:
        own = [place / named.name for place in places]
        found = next((each for each in own if each.is_file()), named if named.is_absolute() else own[0])
        if found is named and found.is_file():
            raise ValueError(f'{file} names {text}, a checkpoint of another run; {cure}')
    if not found.is_file():
        raise FileNotFoundError(f'{file} names {text}, which is not there; {cure}')
    return found


def _same(one: str | Path, other: str | Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
