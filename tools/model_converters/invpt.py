"""Turn a checkpoint that InvPT published into one of ours, to test it, or to go on training from it.

    mmdiff2in1 convert invpt invpt_nyud.pth --out invpt_nyud-mt.safetensors
    mmdiff2in1 test configs/baselines/invpt_nyud-mt-edge.py invpt_nyud-mt.safetensors
    mmdiff2in1 convert invpt invpt_nyud.pth --tasks semantic_segmentation,depth,normal \
        --out invpt_nyud-mt.safetensors
    mmdiff2in1 convert invpt work_dirs/…/iter_9.pth --out mine.pth --to theirs

CHECKPOINT is InvPT's own file, of NYUD-MT or PASCAL-Context. Every tensor of it has a place, has no effect in InvPT's
own code and is left out by name (6.6 and 7.0 million numbers), or is an error that names it. Nothing in the file is
run.

The result holds all of a segmentor: DenseEstimator with ViTLevels and an InvPTHead. A self-improving config takes it
as well, for both θ_C and θ_E. The lines that a config needs are printed. With --tasks the others are left out; those
that stay are no longer told what the others see, so the model needs further training. `--to theirs` writes one of ours
in their names, under `model`, with zeros for what has no effect, and without the prefix `module.` that
DistributedDataParallel puts before every name. The weights stay under InvPT's licence, whatever their names.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/invpt.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.invpt import InvPT

main = command(InvPT, __doc__)

if __name__ == '__main__':
    main()
