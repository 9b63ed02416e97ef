"""Tools find the modules beside them as they do when they are started."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools' / 'model_converters'))
