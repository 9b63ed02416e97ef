"""`mmdiff2in1 doctor` as a file, which also runs where nothing is installed: python tools/check_env.py --help."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, if anything is
from mmdiff2in1.__main__ import door, leave

main = door('doctor', 'tools/check_env.py')

if __name__ == '__main__':
    leave(main())
