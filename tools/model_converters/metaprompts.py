"""Turn a checkpoint that MetaPrompts published into one of ours, to test it, or to go on training from it.

    mmdiff2in1 convert metaprompts ade.pth --diffusion stable-diffusion-1.5 --out ade20k.safetensors
    mmdiff2in1 test configs/baselines/metaprompts_ade20k.py ade20k.safetensors
    mmdiff2in1 convert metaprompts iter_9.pth --diffusion stable-diffusion-1.5 --out mine.pth --to theirs

CHECKPOINT is MetaPrompts' own file, of segmentation (mmseg 0.x) or of depth (none is published); which of the two is
seen from its names. It does not store the text encoder, the decoder of the VAE and, for depth, the time embedding of
the U-Net, which nothing is told: they come from --diffusion, the Stable Diffusion that it was trained from (1.5). The
U-Net's last layers stand in the file once for each later pass; they must be equal. Every other tensor has a place, is
one of the few that are left out (the noise schedule, the VAE's post_quant_conv), or is an error that names it. Nothing
in the file is run.

The result holds all of a segmentor: EncoderDecoder (depth: DenseEstimator) with a MetaPromptBackbone and a
GenerativeDecodeHead. A self-improving config takes it as well, for both θ_C and θ_E. `--to theirs` writes one of ours
in MetaPrompts' names, without what it does not store.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/metaprompts.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.metaprompts import MetaPromptsConverter

main = command(MetaPromptsConverter, __doc__)

if __name__ == '__main__':
    main()
