"""`mmdiff2in1 denoise` as a file: python tools/denoise.py --help."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, if anything is
from mmdiff2in1.__main__ import door, leave

main = door('denoise', 'tools/denoise.py')

if __name__ == '__main__':
    leave(main())
