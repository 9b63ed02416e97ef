"""Checkpoints of MetaPrompts: what it calls its tensors, what these are called in our segmentor, and what it needs.

Its segmentation files are those of mmseg 0.x, its depth files hold their tensors under ``model``; both name the U-Net
and the VAE as the original latent-diffusion code does. N prompts of width D, P passes.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.core.names import some
from mmdiff2in1.generators import LatentDiffusion, ldm_blocks, vpd_taps
from mmdiff2in1.models.backbones.meta_prompts import MetaPrompts
from mmdiff2in1.models.backbones.rearrangement import REARRANGEMENTS
from mmdiff2in1.models.decode_heads import deconvolution_head  # noqa: F401  registers

from . import ldm_rules
from .base import OURS, THEIRS, Converted, register
from .rules import Layout, Rule, below, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, module_shapes
from .vpd import ABSENT, DIFFUSION, VAE_TOLERANCE, vae_difference

PROMPTS, REARRANGEMENT, HEAD = 'backbone.prompts', 'backbone.rearrangement', 'decode_head.head'
AUXILIARY, DEPTH_HEAD = 'auxiliary_head', f'{HEAD}.head'
UNETS = {'segmentation': 'unet.unet.diffusion_model.', 'depth': 'encoder.unet.unet.diffusion_model.'}
"""Task → where its files keep the U-Net."""
_ADDED = 'of Stable Diffusion itself, which MetaPrompts does not store'
_AGAIN = "of the U-Net's last layers, once more under the name of a pass"
_COPY = re.compile(r'(encoder\.)?cross_unet_conv\d+\.(.+)')
_UNUSED = {
    'of the noise schedule, which a config holds': re.compile(r'sd_model\.\w+'),
    "of the VAE's way back to pixels, taken from Stable Diffusion": re.compile(
        r'(encoder\.)?encoder_vq\.(post_quant_conv|decoder)\..+'
    ),
    _AGAIN: _COPY,
}
_NO_TIMES = {
    'of the time embedding, which MetaPrompts deletes': re.compile(rf'{re.escape(UNETS["depth"])}time_embed\..+')
}


def _encoder_rules(start: str) -> list[Rule]:
    """Of what both kinds of files hold; ``start`` of its names in theirs."""
    return [
        *below(ldm_rules.UNET, f'{start}unet.unet.diffusion_model.', f'{DIFFUSION}.unet.'),
        *below(ldm_rules.VAE, f'{start}encoder_vq.', f'{DIFFUSION}.vae.'),
        Rule(f'{start}t@', f'{PROMPTS}.times.@', shift=-1),
    ]


LAYOUTS = {
    'segmentation': Layout(
        [
            *_encoder_rules(''),
            Rule('meta_prompts', f'{PROMPTS}.tokens.0'),
            Rule('upconv@', f'{REARRANGEMENT}.layers.@', shift=-1),
            *rules({'decode_head': HEAD, AUXILIARY: AUXILIARY}),
        ],
        _UNUSED,
    ),
    'depth': Layout(
        [
            *_encoder_rules('encoder.'),
            *rules({'encoder.text_adapter@.fc': f'{PROMPTS}.adapters.@'}, shift=-1),
            *rules({'encoder.meta_prompts@': f'{PROMPTS}.tokens.@'}, shift=-1),
            *rules({'encoder.layer@': f'{REARRANGEMENT}.layers.@'}, shift=-1),
            Rule('encoder.out_layer', f'{REARRANGEMENT}.join'),
            Rule('decoder', f'{DEPTH_HEAD}.decoder'),
            Rule('last_layer_depth.0', f'{DEPTH_HEAD}.smooth.0'),
            Rule('last_layer_depth.2', f'{DEPTH_HEAD}.conv_seg'),
        ],
        _UNUSED | _NO_TIMES,
        key='model',
    ),
}
TIMES = f'{DIFFUSION}.unet.time_embedding.'
"""Tensors that a depth file lacks beside :data:`.vpd.ABSENT`."""


@register('metaprompts')
class MetaPromptsConverter(TableConverter):
    """The checkpoints of segmentation and of depth.

    Settings: ``task``; ``prompts``, N; ``passes``, P; ``vae_difference``, as VPD's converter has it.

    Args:
        diffusion: Folder or file of the Stable Diffusion that it was trained from, or the model itself: what
            MetaPrompts does not store, and the shapes of the rest.
    """

    whose = 'MetaPrompts'
    marks = {
        'meta_prompts': THEIRS,
        'encoder.meta_prompts': THEIRS,
        'model.diffusion_model.': 'Stable Diffusion itself, which belongs to --diffusion',
        f'{PROMPTS}.': OURS,
    }
    arguments = {'--diffusion': dict(required=True, help='diffusers folder or one file of Stable Diffusion 1.5')}
    parts = {
        'U-Net': (f'{DIFFUSION}.unet.',),
        'VAE, encoder': (f'{DIFFUSION}.vae.encoder.', f'{DIFFUSION}.vae.quant_conv.'),
        'VAE, decoder': (f'{DIFFUSION}.vae.decoder.', f'{DIFFUSION}.vae.post_quant_conv.'),
        'text encoder': (f'{DIFFUSION}.text.',),
        'prompts': (f'{PROMPTS}.',),
        'rearrangement': (f'{REARRANGEMENT}.',),
        'heads': ('decode_head.', f'{AUXILIARY}.'),
    }

    def __init__(self, diffusion: str | Path | LatentDiffusion):
        self.diffusion = diffusion
        self.doubt = ', or --diffusion is not the Stable Diffusion that it was trained from (1.5 in the published ones)'

    def to_ours(self, state: Tensors) -> Converted:
        """Raises besides: ValueError, the U-Net's last layers are not the same under all their names."""
        start = UNETS[_task(state)]
        copies = {name: f'{start}out.{found[2]}' for name in state if (found := _COPY.fullmatch(name))}
        other = [name for name, own in copies.items() if own not in state or not torch.equal(state[name], state[own])]
        if other:
            raise ValueError(f'{some(other)}: expected the tensors below {start}out, which all passes share')
        return super().to_ours(state)

    def layout(self, names: Iterable[str]) -> Layout:
        return LAYOUTS[_task(names)]

    def our_model(self, ours: Tensors) -> OurModel:
        task = _task(ours)
        given = self.diffusion
        model = given if isinstance(given, LatentDiffusion) else LatentDiffusion.from_pretrained(given)
        needed, settings = _needed({name: tuple(tensor.shape) for name, tensor in ours.items()}, task, model)
        own = model.state_dict(prefix=f'{DIFFUSION}.')
        absent = ABSENT + ((TIMES,) if task == 'depth' else ())
        added = {name: tensor for name, tensor in own.items() if name.startswith(absent)}
        return OurModel(settings | dict(task=task, vae_difference=vae_difference(own, ours)), needed, {_ADDED: added})

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        start = 'encoder.' if _task(ours) == 'depth' else ''
        last = {'0': 'conv_norm_out', '2': 'conv_out'}
        return {
            _AGAIN: {
                f'{start}cross_unet_conv{i}.{number}.{kind}': ours[f'{DIFFUSION}.unet.{layer}.{kind}'].clone()
                for i in range(2, _count(ours, f'{PROMPTS}.times.') + 1)
                for number, layer in last.items()
                for kind in ('weight', 'bias')
            }
        }

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, {settings["task"]}'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        prompts, passes, difference = (settings[name] for name in ('prompts', 'passes', 'vae_difference'))
        depth = settings['task'] == 'depth'
        lines = [f'VAE encoder against --diffusion: largest difference {difference:.1e} of an entry\n']
        if difference > VAE_TOLERANCE:
            lines += ['WARNING: that is another VAE. Is --diffusion the Stable Diffusion that it was trained from?\n']
        kind = ", shared=False, rearrangement='joined', size='stretched'" if depth else ''
        lines += [
            "backbone: MetaPromptBackbone, regime='finetune',",
            f'          num_prompts={prompts}, passes={passes}{kind}',
            f'head:     {"DenseTaskHead of a DeconvolutionHead" if depth else "UPerHead, and an auxiliary FCNHead"}, '
            f'in_channels={prompts}',
        ]
        return '\n'.join(lines)


def _task(names: Iterable[str]) -> str:
    signs = (UNETS['depth'], f'{DEPTH_HEAD}.decoder.')
    return 'depth' if any(name.startswith(signs) for name in names) else 'segmentation'


def _count(names: Iterable[str], start: str) -> int:
    """One more than the largest number that follows ``start``, 0 where there is none."""
    return 1 + max(
        (int(name.removeprefix(start).split('.')[0]) for name in names if name.startswith(start)), default=-1
    )


def _needed(ours: Shapes, task: str, model: LatentDiffusion) -> tuple[Shapes, dict[str, Any]]:
    """Shapes of all of our segmentor; N and P."""
    count, width = ours[f'{PROMPTS}.tokens.0']
    passes = _count(ours, f'{PROMPTS}.times.')
    depth = task == 'depth'
    blocks = ldm_blocks(model.unet)
    channels = [blocks[tap].channels for tap in reversed(vpd_taps(model.unet))]
    with torch.device('meta'):
        modules: dict[str, nn.Module] = {
            PROMPTS: MetaPrompts(count, width, model.time_width, passes, shared=not depth),
            REARRANGEMENT: REARRANGEMENTS['joined' if depth else 'each'](channels, width),
        }
        modules |= _depth_head(ours, count) if depth else _segmentation_heads(ours, count, len(channels))
    return module_shapes(modules | {DIFFUSION: model}), dict(prompts=count, passes=passes)


def _segmentation_heads(shapes: Shapes, prompts: int, levels: int) -> dict[str, nn.Module]:
    classes, channels = shapes[f'{HEAD}.conv_seg.weight'][:2]
    of_classes = dict(num_classes=classes, norm_cfg=dict(type='BN'))  # the names of SyncBN are the same
    upernet = dict(type='UPerHead', in_channels=[prompts] * levels, in_index=list(range(levels)), channels=channels)
    width = shapes[f'{AUXILIARY}.conv_seg.weight'][1]
    fcn = dict(type='FCNHead', in_channels=prompts, channels=width, num_convs=1, concat_input=False)
    return {HEAD: MODELS.build(upernet | of_classes), AUXILIARY: MODELS.build(fcn | of_classes)}


def _depth_head(shapes: Shapes, prompts: int) -> dict[str, nn.Module]:
    start = f'{DEPTH_HEAD}.decoder.deconv_layers.'
    filters = [shape[1] for name, shape in shapes.items() if name.startswith(start) and len(shape) == 4]
    head = dict(
        type='DeconvolutionHead',
        in_channels=prompts,
        channels=shapes[f'{DEPTH_HEAD}.conv_seg.weight'][1],
        filters=filters,
        kernel=shapes[f'{start}0.weight'][-1],
        num_classes=2,
        out_channels=1,
        threshold=0.5,
    )
    return {DEPTH_HEAD: MODELS.build(head)}
