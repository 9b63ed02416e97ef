"""A stage's folder knows which config it belongs to and whether the stage is finished."""

import json
from pathlib import Path

from mmdiff2in1.synthesis.atomic import write_atomically

BEGUN, FINISHED = 'begun.json', 'finished.json'


class StageFolder:
    """``begun.json`` is written when a stage starts, ``finished.json`` with its results when it ends.

    Args:
        path: The folder.
        fingerprint: Hash of the config that the stage is asked to run.
    """

    def __init__(self, path: Path, fingerprint: str):
        self.path, self.fingerprint = Path(path), fingerprint

    def result(self) -> dict | None:
        """What :meth:`finish` was given, or None.

        Raises:
            ValueError: The folder holds this stage of another config.
        """
        self._check(BEGUN)
        return self._check(FINISHED)

    def begin(self) -> None:
        """Marks the folder as this config's. To be called on one process."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(BEGUN, {})

    def finish(self, **result) -> dict:
        """Keeps the results (JSON values) and returns them."""
        self._write(FINISHED, result)
        return result

    def _write(self, name: str, facts: dict) -> None:
        text = json.dumps({'fingerprint': self.fingerprint, **facts}, indent=2) + '\n'
        write_atomically(self.path / name, text.encode())

    def _check(self, name: str) -> dict | None:
        file = self.path / name
        if not file.is_file():
            return None
        facts = json.loads(file.read_text())
        found = facts.pop('fingerprint')
        if found != self.fingerprint:
            raise ValueError(
                f'{self.path} holds this stage of another config (fingerprint {found[:8]}, expected '
                f'{self.fingerprint[:8]}): choose another --work-dir, or delete that folder to run the stage anew'
            )
        return facts
