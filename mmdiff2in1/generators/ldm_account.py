"""The tensors of one file that no part of the model has taken: told in one line, or refused.

U-Net and VAE take all below their names or refuse it; behind a text encoder, and beside all three, there may be more.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log

from mmdiff2in1.core.names import some

from .ldm_names import LdmFile
from .ldm_text import SDXL_TEXT, TEXT, is_left_out

OF_THE_SCHEDULE = re.compile(
    r'(?:sqrt_|log_)?(?:one_minus_|recip_|recipm1_)?(?:betas|alphas_cumprod(?:_prev)?)|posterior_\w+|lvlb_weights|logvar'
    r'|sqrt_(?:recip|recipm1)_alphas_cumprod|log_one_minus_alphas_cumprod|v_pred|ztsnr|denoiser\.sigmas|.*global_step'
)
"""Numbers that follow from the betas, and markers: read elsewhere or not needed by anybody."""
KINDS = {'model_ema.': 'averaged weights', 'control_model.': 'a ControlNet', 'lora_': 'a LoRA'}


def tell_left_out(file: LdmFile, taken: tuple[str, ...], encoders: Mapping[str, int]) -> None:
    """Says in one line which tensors stay unread.

    Args:
        file: What was read.
        taken: Beginnings of the names that the model takes whole.
        encoders: Beginning of the names of each text encoder → layers of it that were read.

    Raises:
        ValueError: Tensors of a text encoder that is not one of these, or of a head that is not known.
    """
    names = [name for name in file.shapes if not name.startswith(taken) and not OF_THE_SCHEDULE.fullmatch(name)]
    prefix_of = {name: next((each for each in encoders if name.startswith(each)), None) for name in names}
    strangers = [name for name, prefix in prefix_of.items() if prefix is None and name.startswith((TEXT, SDXL_TEXT))]
    if strangers:
        raise ValueError(
            f'{file.path}: {len(strangers)} tensors beside the text encoders ({", ".join(encoders)}) have no place in '
            f'the model: {some(strangers)}; the U-Net may need that encoder or head, so give a diffusers folder'
        )
    kinds: dict[str, list[str]] = {}
    for name, prefix in prefix_of.items():
        if prefix is None:
            kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), 'unknown')
            kinds.setdefault(kind, []).append(name)
        elif is_left_out(name.removeprefix(prefix), encoders[prefix]):
            kinds.setdefault('behind what the U-Net attends to', []).append(name)
    if kinds:
        told = '; '.join(f'{len(found)} {kind}: {some(found)}' for kind, found in kinds.items())
        print_log(f'{Path(file.path).name}: left out, not needed here: {told}', 'current')
