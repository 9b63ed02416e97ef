"""Turn a surface-normal checkpoint that iDisc published into one of ours, to test it, or to go on training from it.

    mmdiff2in1 convert idisc nyunormals_swinlarge.pt --out idisc_nyuv2-normal.safetensors
    mmdiff2in1 test configs/baselines/idisc_nyuv2-normal.py idisc_nyuv2-normal.safetensors
    mmdiff2in1 convert idisc work_dirs/…/iter_9.pth --out mine.pth --to theirs

CHECKPOINT is iDisc's own file, of the normals model on a Swin transformer. Every tensor of it has a place, is an index
that follows from the size of the window and is left out, or is an error that names it. Nothing in the file is run.

The result holds all of a segmentor: DenseEstimator with an HFBackbone and an IDiscHead. A self-improving config takes
it as well, for both θ_C and θ_E. The lines that a config needs are printed. The weights stay under iDisc's licence (CC
BY-NC 4.0), whatever their names. `--to theirs` writes one of ours in iDisc's names.

Normals are in our frame already, channels x, y, z and κ. Small differences remain: the published test code interpolates
bicubically where ours is bilinear (its authors put that at about 0.1 points), and transformers' Swin adds 1e-5 to the
variance in the norms of its patches, mergings and outputs, where iDisc's adds 1e-6.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/idisc.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.idisc import IDisc

main = command(IDisc, __doc__)

if __name__ == '__main__':
    main()
