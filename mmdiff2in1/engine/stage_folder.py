"""A stage's folder knows what it was made from and whether the stage is finished."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.differences import differences
from mmdiff2in1.core.text_files import json_value

BEGUN, FINISHED = 'begun.json', 'finished.json'
MADE_FROM = 'made_from'


class StageFolder:
    """``begun.json`` is written when a stage starts, ``finished.json`` with its results when it ends.

    Args:
        path: The folder.
        fingerprint: Hash of all that the stage is made from.
        made_from: What that is, JSON values, so that a folder of something else can tell what differs.
    """

    def __init__(self, path: Path, fingerprint: str, made_from: Mapping[str, Any] | None = None):
        self.path, self.fingerprint, self.made_from = Path(path), fingerprint, made_from

    def result(self, refuse: bool = True, **kinds: type) -> dict | None:
        """The result that :meth:`finish` was given, or None.

        Args:
            refuse: That the folder holds this stage of something else is an error; else it is as if it held nothing.
            kinds: Results that must be there, of these kinds.

        Raises:
            ValueError: The folder holds this stage of another config, other weights or data, or after another stage
                (with what differs, where that is known), or its file is damaged.
        """
        if refuse:
            self._read(BEGUN, refuse)
        return self._read(FINISHED, refuse, **kinds)

    def begin(self) -> None:
        """Marks the folder. To be called on one process."""
        self._write(BEGUN, {} if self.made_from is None else {MADE_FROM: self.made_from})

    def finish(self, **result) -> dict:
        """Keeps the results (JSON values) and returns them."""
        self._write(FINISHED, result)
        return result

    def _write(self, name: str, facts: dict) -> None:
        text = json.dumps({'fingerprint': self.fingerprint, **facts}, indent=2) + '\n'
        write_atomically(self.path / name, text.encode())

    def _read(self, name: str, refuse: bool, **kinds: type) -> dict | None:
        file = self.path / name
        if not file.is_file():
            return None
        facts = _facts(file)
        found = facts.pop('fingerprint')
        if found == self.fingerprint:
            _check(file, facts, kinds)
        if found != self.fingerprint and not refuse:
            return None
        if found != self.fingerprint:
            told = differences(facts.get(MADE_FROM), self.made_from) if facts.get(MADE_FROM) and self.made_from else ''
            what = f': {told}' if told else ', of other weights or data, or after another stage'
            mark = f'(fingerprint {found[:8]}, expected {self.fingerprint[:8]})'
            raise ValueError(
                f'{self.path} holds this stage of another config{what} {mark}: choose another --work-dir, or delete '
                'that folder to run the stage anew'
            )
        return facts


def begun_mark(folder: Path) -> str | None:
    """Fingerprint of the stage that was begun in a folder; None without one."""
    file = folder / BEGUN
    return _facts(file)['fingerprint'] if file.is_file() else None


def finished_facts(folder: Path, **kinds: type) -> dict | None:
    """Facts that were kept of the finished stage in a folder, whatever it was made from; None without one.

    Raises ValueError if something else is in the place of the results of these `kinds`.
    """
    file = folder / FINISHED
    if not file.is_file():
        return None
    facts = _facts(file)
    _check(file, facts, kinds)
    return facts


def finished_mark(folder: Path) -> str:
    """Identity of the finished stage in a folder, for those that build on it: another run of it has another one."""
    return hashlib.sha256((folder / FINISHED).read_bytes()).hexdigest()


def _check(file: Path, facts: dict, kinds: dict[str, type]) -> None:
    for name, kind in kinds.items():
        value = facts.get(name)
        if not isinstance(value, kind) or (
            isinstance(value, list) and not all(isinstance(each, str) for each in value)
        ):
            raise ValueError(
                f'{file} is damaged ({name}: found {value!r:.60}, expected a {kind.__name__}); delete it to run the '
                'stage anew'
            )


def _facts(file: Path) -> dict:
    try:
        facts = json_value(file.read_bytes())
        if not isinstance(facts['fingerprint'], str):
            raise TypeError('the fingerprint is no text')
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{file} is damaged ({error!r}); delete it to run the stage anew') from error
    return facts
