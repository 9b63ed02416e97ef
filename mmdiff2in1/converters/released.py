"""Checkpoints of the code released with Diff-2-in-1: an adapter and a decoder, in a file each, into one of ours.

The U-Net, the VAE and the text encoder are in neither: they are Stable Diffusion's own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.models.checkpoints import write_state
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead
from mmdiff2in1.models.necks.released_adapter import ReleasedAdapter
from mmdiff2in1.models.necks.spectral_convolution import SpectralConv2d

from .bae import DECODER_NAMES, head_settings
from .base import OURS, THEIRS, Converted, register
from .rules import Layout, below, rules
from .table_converter import OurModel, TableConverter, Tensors, arguments, module_shapes

NECK, HEAD, BACKBONE = 'neck.', 'decode_head.head.', 'backbone.'
TOKENS = f'{BACKBONE}tokens'
_LEVELS = ('highest', 'high', 'mid', 'low')
"""Their names of the U-Net's resolutions, fine to coarse."""
_BLOCK = {
    'conv1.u0': 'convs.0.u',
    'conv2.u0': 'convs.1.u',
    'conv_sc.u0': 'shortcut.u',
    'conv1': 'convs.0',
    'conv2': 'convs.1',
    'conv_sc': 'shortcut',
    'stored_mean1': 'norms.0.running_mean',
    'stored_var1': 'norms.0.running_var',
    'stored_mean2': 'norms.1.running_mean',
    'stored_var2': 'norms.1.running_var',
}
_ADAPTER = [
    *rules({f'{level}_feature_conv.0': f'laterals.{i}' for i, level in enumerate(_LEVELS)}),
    *(
        rule
        for i, level in enumerate(_LEVELS[:-1])
        for rule in below(rules(_BLOCK), f'{level}_feature_mix_conv.', f'mixes.{i}.')
    ),
    *rules({f'bn_up{i}': f'norms.{i}' for i in range(3)} | {f'conv_up{i + 1}': f'enlarge.{i}' for i in range(2)}),
]
_LOGGED, _UNREAD = 'of singular values, which are only logged', 'that the released code never reads'
LAYOUT = Layout(
    below(_ADAPTER, '', NECK) + below(rules(DECODER_NAMES), '', HEAD),
    unused={_LOGGED: re.compile(r'.+\.sv0'), _UNREAD: re.compile(r'(transfromer_decoder|mlp|to_k|to_q)\..+')},
    key='',
)
_COUNTERS = 'of batch counters, which the released code has not'
_PROMPT = 'of the empty prompt, by the text encoder of --diffusion'
_DIFFUSION = 'of the diffusion model, which the released code reads from a file of its own'


@register('released')
class Released(TableConverter):
    """``checkpoint_45.pth`` and ``checkpoint_bae_45.pth`` of a stage; of the second, θ_E's have an ``e`` in the name.

    Settings: ``neck``, arguments of ReleasedAdapter; ``head``, of BaeNormalHead.

    Args:
        decoder: Their file of the decoder, to read, or with ``--to theirs`` to write.
        diffusion: Folder or file of the Stable Diffusion that it was trained on, or the model itself; into our names
            only.
    """

    whose, which = 'Diff-2-in-1', '(the adapter, checkpoint_45.pth)'
    marks = {
        'low_feature_conv.': THEIRS,
        'out_conv_res8.': 'its decoder, which belongs to --decoder',
        f'{NECK}mixes.': OURS,
    }
    arguments = {
        '--decoder': dict(type=Path, required=True, help='their decoder, checkpoint_bae_45.pth; --to theirs writes it'),
        '--diffusion': dict(help='diffusers folder or one file of Stable Diffusion 1.5; for --to ours'),
    }
    parts = {
        'adapter': (NECK,),
        'decoder': (f'{HEAD}bottleneck.', f'{HEAD}fusions.', f'{HEAD}coarse_output.'),
        'point heads': (f'{HEAD}point_heads.',),
        'empty prompt': (TOKENS,),
    }

    def __init__(self, decoder: str | Path, diffusion: str | Path | LatentDiffusion | None = None):
        self.decoder, self.diffusion = Path(decoder).expanduser(), diffusion

    def layout(self, names: Iterable[str]) -> Layout:
        return LAYOUT

    def to_ours(self, state: Tensors) -> Converted:
        if self.diffusion is None:
            raise ValueError('no --diffusion is given: the tokens of the empty prompt come from its text encoder')
        return super().to_ours({**state, **WeightFile(self.decoder).read('')})

    def to_theirs(self, state: Tensors) -> Converted:
        of_diffusion = [name for name in state if name.startswith(BACKBONE)]
        converted = super().to_theirs({name: state[name] for name in state if name not in of_diffusion})
        return replace(converted, left_out={**converted.left_out, _DIFFUSION: of_diffusion})

    def our_model(self, ours: Tensors) -> OurModel:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        head = head_settings(shapes, HEAD)
        neck: dict[str, Any] = dict(in_channels=[shapes[f'{NECK}laterals.{i}.weight'][1] for i in range(len(_LEVELS))])
        neck['out_channels'] = head['in_channels']
        with torch.device('meta'):
            needed = module_shapes({NECK.rstrip('.'): ReleasedAdapter(**neck), HEAD.rstrip('.'): BaeNormalHead(**head)})
        counters = [name for name in needed if re.fullmatch(r'neck\.mixes\..+\.num_batches_tracked', name)]
        added = {_COUNTERS: {name: torch.tensor(0) for name in counters}}
        if self.diffusion is not None:
            given = self.diffusion
            model = given if isinstance(given, LatentDiffusion) else LatentDiffusion.from_pretrained(given)
            with torch.no_grad():
                tokens, _ = model.encode_prompt([''])
            added[_PROMPT] = {TOKENS: tokens[0].float().cpu()}
        return OurModel(dict(neck=neck, head=head), needed, added)

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        """Their code loads with ``strict=True``: what it never reads must be there, here as zeros."""
        logged = {}
        for name in [name for name in ours if name.startswith(NECK) and name.endswith('.u')]:
            place = name.removesuffix('u')
            conv = SpectralConv2d(*ours[f'{place}weight'].shape[1::-1], ours[f'{place}weight'].shape[-1]).eval()
            conv.weight, conv.u = torch.nn.Parameter(ours[f'{place}weight'].float()), ours[name].float()
            theirs = LAYOUT.theirs(name)
            assert theirs is not None
            logged[f'{theirs.removesuffix("u0")}sv0'] = conv.singular_value().detach().reshape(1)
        widths = [ours[f'{NECK}laterals.{i}.weight'].shape[0] for i in range(len(_LEVELS))]
        return {
            f'{_UNREAD}, as zeros': {name: torch.zeros(shape) for name, shape in unread_shapes(sum(widths)).items()},
            _LOGGED: logged,
        }

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, released code'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        return '\n'.join(
            [
                "backbone: dict(type='DiffusionBackbone', diffusion=…, feature=dict(preset='released'))",
                f"neck:     dict(type='ReleasedAdapter', {arguments(settings['neck'])})",
                f"head:     dict(type='GenerativeDecodeHead', head=dict(type='BaeNormalHead', "
                f'{arguments(settings["head"])}))',
            ]
        )

    def write(self, converted: Converted, out: Path, meta: dict) -> None:
        """Ours as ever; theirs as two files."""
        if any(name.startswith(NECK) for name in converted.state):
            super().write(converted, out, meta)
            return
        if self.decoder.resolve() == out.resolve():
            raise ValueError(f'--decoder and --out both name {out}; theirs are two files')
        decoder = {name: tensor for name, tensor in converted.state.items() if _is_decoders(name)}
        adapter = {name: tensor for name, tensor in converted.state.items() if name not in decoder}
        write_state(out, adapter, key=converted.key)
        write_state(self.decoder, decoder, key=converted.key)


def unread_shapes(feature_channels: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of what their adapter holds and never reads.

    Args:
        feature_channels: Of its four levels together, 2352 as published.
    """
    width, hidden, context = 512, 2048, 768
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(3):
        layer = f'transfromer_decoder.layers.{i}'
        for attention in ('self_attn', 'multihead_attn'):
            shapes[f'{layer}.{attention}.in_proj_weight'] = (3 * width, width)
            shapes[f'{layer}.{attention}.out_proj.weight'] = (width, width)
        shapes |= {f'{layer}.linear1.weight': (hidden, width), f'{layer}.linear1.bias': (hidden,)}
        shapes |= {f'{layer}.linear2.weight': (width, hidden), f'{layer}.linear2.bias': (width,)}
        shapes |= {f'{layer}.norm{j}.{part}': (width,) for j in (1, 2, 3) for part in ('weight', 'bias')}
    for i, after in enumerate((width, width, feature_channels)):
        shapes |= {f'mlp.layers.{i}.weight': (after, width), f'mlp.layers.{i}.bias': (after,)}
    return shapes | {'to_k.weight': (width, 16 * feature_channels), 'to_q.weight': (width, context)}


def _is_decoders(name: str) -> bool:
    return any(f'{name}.'.startswith(f'{start}.') for start in DECODER_NAMES)
