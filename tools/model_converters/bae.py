"""Turn a surface-normal checkpoint that Bae et al. published into one of ours, to test it or to train on from it.

    mmdiff2in1 convert bae nyu.pt --out bae_nyuv2-normal.safetensors
    mmdiff2in1 test configs/baselines/bae_nyuv2-normal.py bae_nyuv2-normal.safetensors
    mmdiff2in1 test configs/baselines/bae_nyuv2-normal.py bae_scannet.safetensors \
        --cfg-options model.decode_head.norm=BN
    mmdiff2in1 convert bae work_dirs/…/iter_9.pth --out mine.pth --to theirs

CHECKPOINT is their own file: nyu.pt (group normalisation) or scannet.pt (batch normalisation). Every tensor of it has a
place or is an error that names it; nothing is left out. Nothing in the file is run.

The result holds all of a segmentor: DenseEstimator with an HFBackbone (EfficientNet-B5) and a BaeNormalHead. A
self-improving config takes it as well, for both θ_C and θ_E. The lines that a config needs are printed.
`--to theirs` writes one of ours in their names, under `model` as in nyu.pt.

Normals are in our frame already (x left, y up, z towards the viewer), channels x, y, z and κ. Images are normalised by
ImageNet's mean and standard deviation, which is the data preprocessor's business. The published NYUv2 model was trained
on 30,907 images, not on the 795 of the official split: compare it with models of that set only.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/bae.py'):
    from mmdiff2in1.converters.bae import Bae
    from mmdiff2in1.converters.command import command

main = command(Bae, __doc__)

if __name__ == '__main__':
    main()
