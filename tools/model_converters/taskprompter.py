"""Turn a checkpoint that TaskPrompter published into one of ours, to test it or to train on from it.

    mmdiff2in1 convert taskprompter TaskPrompter_nyud.pth.tar --out taskprompter_nyud-mt.safetensors
    mmdiff2in1 test configs/baselines/taskprompter_nyud-mt.py taskprompter_nyud-mt.safetensors
    mmdiff2in1 convert taskprompter FILE --out some.pth --tasks semantic_segmentation,depth
    mmdiff2in1 convert taskprompter work_dirs/…/iter_40000.pth --out mine.pth --to theirs

CHECKPOINT is their own file of a model on a plain ViT: NYUD-MT ViT-L, PASCAL-Context ViT-L or ViT-B. Every tensor of it
has a place, has no effect and is left out, or is an error that names it. Nothing in the file is run.

The result holds all of a segmentor: DenseEstimator with a TaskPrompterViT and a TaskPrompterHead. A self-improving
config takes it as well, for both θ_C and θ_E. The lines that a config needs are printed. The weights stay under their
licence, whatever their names. `--to theirs` writes one of ours in their names, under `model`; what has no effect (W2 of
the last block, the position of a class token) is written as zeros.

With `--tasks` the others are cut out. Prompts see each other, so what is left does not predict what it predicted among
all of them: train on from it.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/taskprompter.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.taskprompter import TaskPrompter

main = command(TaskPrompter, __doc__)

if __name__ == '__main__':
    main()
