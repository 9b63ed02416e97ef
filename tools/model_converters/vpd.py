"""Turn a checkpoint that VPD published into one of ours, to test it, or to go on training from it.

    mmdiff2in1 convert vpd vpd_ade20k.pth --diffusion stable-diffusion-1.5 --out vpd_ade20k.safetensors
    mmdiff2in1 test configs/baselines/vpd_ade20k.py vpd_ade20k.safetensors
    mmdiff2in1 convert vpd vpd_nyu.pth --diffusion v1-5-pruned-emaonly.safetensors --out nyu-depth.pth
    mmdiff2in1 test configs/baselines/vpd_nyu-depth.py nyu-depth.pth
    mmdiff2in1 convert vpd iter_9.pth --diffusion stable-diffusion-1.5 --out mine.pth --to theirs

CHECKPOINT is VPD's own file, of segmentation (mmseg 0.x) or of depth; which of the two is seen from its names. VPD does
not store the text encoder, the decoder of the VAE and, for depth, the last layers of the U-Net: they come from
--diffusion, the Stable Diffusion that VPD was trained from (1.5). Every tensor of the file has a place, is one of the
few that are left out (the noise schedule, which a config holds, and the VAE's post_quant_conv, which belongs to its
decoder), or is an error that names it. Nothing in the file is run.

The result holds all of a segmentor: EncoderDecoder (depth: SceneConditionedEstimator) with a DiffusionBackbone
(regime='finetune', text_adapter=True) and a GenerativeDecodeHead. A self-improving config takes it as well, for both
θ_C and θ_E. The lines that a config needs are printed. `--to theirs` writes one of ours in VPD's names, without
what VPD does not store.

Depth: the head becomes a VPDDepthDecodeHead, which has the same layers. VPD shows the U-Net ONE token per image, that
of the scene's class (kitchen, office …), at test time too: each sample needs a category_id, in the order of the tokens.
It pads images of 480 × 480 with zeros to 512 × 512 and crops one row and column of features again, which the printed
lines do inside the model; train on crops of 480 × 480, and test with windows of that size.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/vpd.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.vpd import VPD

main = command(VPD, __doc__)

if __name__ == '__main__':
    main()
