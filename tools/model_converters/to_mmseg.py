"""Write one model of a self-improving checkpoint under plain names, as mmseg's own tools load it.

    mmdiff2in1 export work_dirs/…/iter_300.pth --out creator.pth
    mmdiff2in1 export work_dirs/…/iter_300.pth --out exploiter.pth --model exploiter

A self-improving checkpoint holds θ_C and θ_E, and mmseg's tools, which load what fits by name, would take nothing from
it. The result fits the segmentor that was wrapped: my_config.py, not the config that wraps it. It holds weights and
mmengine's meta (classes, palette), no optimizer.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/to_mmseg.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.to_mmseg import ToMmseg

main = command(ToMmseg, __doc__)

if __name__ == '__main__':
    main()
