"""Only what pyproject.toml cannot say: a wheel carries configs/ and tools/ in ``mmdiff2in1/.mim``, as in OpenMMLab."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmdiff2in1'
CARRIED = ('configs', 'tools')


class BuildWithMim(build_py):
    """Copies into the build folder, never into the source tree; an editable install needs no copy."""

    def run(self) -> None:
        if not self.editable_mode:
            # What an earlier build left behind would otherwise end up in this wheel.
            shutil.rmtree(Path(self.build_lib, PACKAGE), ignore_errors=True)
        super().run()
        if not self.editable_mode:
            for name in CARRIED:
                shutil.copytree(
                    ROOT / name,
                    Path(self.build_lib, PACKAGE, '.mim', name),
                    ignore=shutil.ignore_patterns('__pycache__', '*.pyc'),
                )
            shutil.copy(ROOT / 'model-index.yml', Path(self.build_lib, PACKAGE, '.mim'))


setup(cmdclass={'build_py': BuildWithMim})
