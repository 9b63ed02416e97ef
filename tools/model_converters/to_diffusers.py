"""Write the diffusion model inside a trained checkpoint as a diffusers folder, for use in any diffusers pipeline.

    mmdiff2in1 convert to_diffusers CONFIG CHECKPOINT --out FOLDER
    mmdiff2in1 convert to_diffusers CONFIG CHECKPOINT --out FOLDER --model exploiter --dtype float16

    >>> pipeline = diffusers.StableDiffusionPipeline.from_pretrained('FOLDER')
    >>> pipeline('a green table in a room').images[0]

CONFIG names the diffusion model that training began with, CHECKPOINT (plain or self-improving) what became of it; what
the checkpoint does not store stays as CONFIG builds it. What changed is printed: with regime='frozen' nothing does, and
the folder is a copy of the pretrained model. --diffusion of the other tools reads the folder as well.

Not in it: class embeddings and the text adapter, which make the class tokens of a perception (a pipeline is prompted
with a caption), neck and head. A U-Net that was fine-tuned to perceive alone, without its denoising loss, has not been
trained to create since: look at what it draws before you rely on it.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told

with told('tools/model_converters/to_diffusers.py'):
    from mmdiff2in1.converters.command import command
    from mmdiff2in1.converters.to_diffusers import ToDiffusers

main = command(ToDiffusers, __doc__)

if __name__ == '__main__':
    main()
