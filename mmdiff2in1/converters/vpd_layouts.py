"""Where VPD's two kinds of checkpoints keep what, and what it is called in our segmentor."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmdiff2in1.core.names import kind_of, some

from .vpd_heads import HEAD

TOKENS, ADAPTER, DIFFUSION = 'backbone.tokens', 'backbone.text_adapter.', 'backbone.diffusion.'


@dataclass(frozen=True)
class Layout:
    """Where a kind of VPD's checkpoints keeps what.

    Attributes:
        unet: Prefix of the U-Net in the original names.
        vae: Prefix of the VAE in the original names.
        renamed: Prefix there → prefix in our segmentor.
        absent: Prefixes in our names of what VPD has deleted; it is taken from the diffusion model.
    """

    unet: str
    vae: str
    renamed: dict[str, str]
    absent: tuple[str, ...] = ()

    def in_file(self, name: str) -> str:
        """What our ``name`` is called in the file, where that is a matter of its beginning."""
        for old, new in self.renamed.items():
            if name.startswith(new):
                return old + name.removeprefix(new)
        return name

    @property
    def left_out(self) -> re.Pattern:
        """Names with no use: buffers of the noise schedule, which a config holds, and the VAE's way back to pixels."""
        return re.compile(rf'sd_model\.\w+|{re.escape(self.vae)}(post_quant_conv|decoder)\..+')


LAYOUTS = {
    'segmentation': Layout(
        unet='unet.unet.diffusion_model.',
        vae='encoder_vq.',
        renamed={
            'class_embeddings': TOKENS,
            'gamma': f'{ADAPTER}gamma',
            'text_adapter.fc.': f'{ADAPTER}mlp.',
            'neck.': 'neck.',
            'decode_head.': f'{HEAD}.',
        },
    ),
    'depth': Layout(
        unet='encoder.unet.unet.diffusion_model.',
        vae='encoder.encoder_vq.',
        renamed={
            'encoder.class_embeddings': TOKENS,
            'encoder.gamma': f'{ADAPTER}gamma',
            'encoder.text_adapter.fc.': f'{ADAPTER}mlp.',
            'encoder.layer1.': f'{HEAD}.conv1.',
            'encoder.layer2.0.': f'{HEAD}.conv2.',
            'encoder.out_layer.': f'{HEAD}.conv_aggregation.',
            'decoder.': f'{HEAD}.decoder.',
            'last_layer_depth.': f'{HEAD}.depth_pred_layer.',
        },
        absent=(f'{DIFFUSION}unet.conv_norm_out.', f'{DIFFUSION}unet.conv_out.'),
    ),
}
ABSENT = tuple(f'{DIFFUSION}{part}.' for part in ('vae.decoder', 'vae.post_quant_conv', 'text'))
OTHERS = {
    'model.diffusion_model.': 'Stable Diffusion itself, which belongs to --diffusion',
    'backbone.diffusion.': 'a checkpoint of mmdiff2in1, which needs no conversion',
    'backbone.encoder_vq.': "a checkpoint of mmseg's port of VPD, which is not read here",
    'exploiter.': 'a self-improving checkpoint of mmdiff2in1, which needs no conversion',
}


def task_of_file(path: Path, names: Iterable[str], asked: str | None = None) -> str:
    """The kind of the checkpoint at ``path`` with tensors of these names.

    Raises:
        ValueError: It is none of VPD's, or of another kind than ``asked``.
    """
    names = list(names)
    found = next((task for task, layout in LAYOUTS.items() if any(n.startswith(layout.unet) for n in names)), None)
    if found is None:
        raise ValueError(
            f'{path} is no checkpoint of VPD: it has no tensors under '
            f'{" or ".join(layout.unet for layout in LAYOUTS.values())}; found '
            f'{kind_of(names, OTHERS)} ({some(sorted({name.split(".")[0] for name in names}))})'
        )
    if asked not in (None, found):
        raise ValueError(f'{path} is a {found} checkpoint of VPD, and {asked} was asked for')
    return found
