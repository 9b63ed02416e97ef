"""`mmdiff2in1 scenes` as a file: python tools/dataset_converters/make_scenes.py --help."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.__main__ import door, leave

main = door('scenes', 'tools/dataset_converters/make_scenes.py')

if __name__ == '__main__':
    leave(main())
