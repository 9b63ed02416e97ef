"""Turn a checkpoint of the code released with Diff-2-in-1 into one of ours, to test it or to train on from it.

    mmdiff2in1 convert released checkpoint_45.pth --decoder checkpoint_bae_45.pth \
        --diffusion $SD_WEIGHTS --out released.pth
    mmdiff2in1 test configs/baselines/bae_nyuv2-normal-released.py released.pth
    mmdiff2in1 convert released mine.pth --to theirs --out checkpoint_0.pth --decoder checkpoint_bae_0.pth

CHECKPOINT is its adapter, --decoder the decoder beside it; of the second stage the pair is θ_C's, and
checkpoint_e_45.pth with checkpoint_bae_e_45.pth is θ_E's. Every tensor has a place, or is left out by name: what the
released adapter holds and never reads (34 million numbers), and singular values that it only logs. Nothing in the files
is run.

The result holds neck and head of configs/baselines/bae_nyuv2-normal-released.py and the tokens of the empty prompt; the
frozen U-Net, VAE and text encoder stay those of the config. A self-improving config takes it as well, for both θ_C and
θ_E. `--to theirs` writes both files, and zeros for what is never read, so that their code loads them strictly. From a
self-improving checkpoint of ours, mmdiff2in1 export first takes one of the two models.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/released.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.released import Released

main = command(Released, __doc__)

if __name__ == '__main__':
    main()
