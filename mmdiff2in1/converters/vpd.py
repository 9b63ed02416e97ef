"""Checkpoints of VPD: what it calls its tensors, what these are called in our segmentor, and what it needs.

VPD's segmentation files are those of mmseg 0.x, its depth files hold their tensors under ``model``; both name the U-Net
and the VAE as the original latent-diffusion code does. K classes, D width of a token.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from mmdiff2in1.generators import LatentDiffusion, ldm_blocks, vpd_taps
from mmdiff2in1.models.backbones.text_adapter import TextAdapter

from . import ldm_rules
from .base import OURS, THEIRS, register
from .rules import Layout, Rule, below, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, module_shapes
from .vpd_heads import HEAD, depth_modules, segmentation_modules

VAE_TOLERANCE = 2e-3
"""Of the largest entry of a tensor: storing it in half precision changes it by less."""
TOKENS, ADAPTER, DIFFUSION = 'backbone.tokens', 'backbone.text_adapter', 'backbone.diffusion'
UNETS = {'segmentation': 'unet.unet.diffusion_model.', 'depth': 'encoder.unet.unet.diffusion_model.'}
"""Task → where its files keep the U-Net."""
METAPROMPTS = 'a checkpoint of MetaPrompts, which mmdiff2in1 convert metaprompts converts'
_ADDED = 'of Stable Diffusion itself, which VPD does not store'


def _encoder_rules(start: str) -> list[Rule]:
    """Of what both kinds of files hold; ``start`` of its names in theirs."""
    return [
        *below(ldm_rules.UNET, f'{start}unet.unet.diffusion_model.', f'{DIFFUSION}.unet.'),
        *below(ldm_rules.VAE, f'{start}encoder_vq.', f'{DIFFUSION}.vae.'),
        Rule(f'{start}class_embeddings', TOKENS),
        Rule(f'{start}gamma', f'{ADAPTER}.gamma'),
        Rule(f'{start}text_adapter.fc', f'{ADAPTER}.mlp'),
    ]


_DEPTH_HEAD = {
    'encoder.layer1': f'{HEAD}.conv1',
    'encoder.layer2.0': f'{HEAD}.conv2',
    'encoder.out_layer': f'{HEAD}.conv_aggregation',
    'decoder': f'{HEAD}.decoder',
    'last_layer_depth': f'{HEAD}.depth_pred_layer',
}
_UNUSED = {
    'of the noise schedule, which a config holds': re.compile(r'sd_model\.\w+'),
    "of the VAE's way back to pixels, taken from Stable Diffusion": re.compile(
        r'(encoder\.)?encoder_vq\.(post_quant_conv|decoder)\..+'
    ),
}
_NO_OUTPUT = {'of the end of the U-Net, which VPD deletes': re.compile(rf'{re.escape(UNETS["depth"])}out\..+')}
LAYOUTS = {
    'segmentation': Layout([*_encoder_rules(''), *rules({'neck': 'neck', 'decode_head': HEAD})], _UNUSED),
    'depth': Layout([*_encoder_rules('encoder.'), *rules(_DEPTH_HEAD)], _UNUSED | _NO_OUTPUT, key='model'),
}
ABSENT = tuple(f'{DIFFUSION}.{part}.' for part in ('text', 'vae.decoder', 'vae.post_quant_conv'))
"""Parts that we take from Stable Diffusion; of a depth model also :data:`UNET_END`, which VPD has deleted there."""
UNET_END = tuple(f'{DIFFUSION}.unet.{layer}.' for layer in ('conv_norm_out', 'conv_out'))


@register('vpd')
class VPD(TableConverter):
    """The checkpoints of segmentation and of depth.

    Settings: ``task``; ``classes``, K; ``widths``, channels that neck or head is given, fine to coarse; ``map_levels``,
    whose cross-attention maps are among them; ``vae_difference``, the largest difference of the VAE's encoder from the
    diffusion model's, relative to the largest entry of the tensor in either: above :data:`VAE_TOLERANCE` it is another
    VAE, to which the decoder does not belong.

    Args:
        diffusion: Folder or file of the Stable Diffusion that it was trained from, or the model itself: what VPD does
            not store, and the shapes of the rest.
        task: ``segmentation`` or ``depth``, refuses the other; None: what the file is.
    """

    whose = 'VPD'
    marks = {
        **dict.fromkeys(('meta_prompts', 'encoder.meta_prompts'), METAPROMPTS),
        **dict.fromkeys(UNETS.values(), THEIRS),
        'model.diffusion_model.': 'Stable Diffusion itself, which belongs to --diffusion',
        f'{DIFFUSION}.': OURS,
        'backbone.encoder_vq.': "a checkpoint of mmseg's port of VPD, which is not read here",
    }
    arguments = {
        '--diffusion': dict(required=True, help='diffusers folder or one file of Stable Diffusion 1.5'),
        '--task': dict(choices=LAYOUTS, help='refuse a file of the other kind (default: take what it is)'),
    }
    parts = {
        'U-Net': (f'{DIFFUSION}.unet.',),
        'VAE, encoder': (f'{DIFFUSION}.vae.encoder.', f'{DIFFUSION}.vae.quant_conv.'),
        'VAE, decoder': (f'{DIFFUSION}.vae.decoder.', f'{DIFFUSION}.vae.post_quant_conv.'),
        'text encoder': (f'{DIFFUSION}.text.',),
        'class embeddings': (TOKENS,),
        'text adapter': (f'{ADAPTER}.',),
        'neck': ('neck.',),
        'head': ('decode_head.',),
    }

    def __init__(self, diffusion: str | Path | LatentDiffusion, task: str | None = None):
        self.diffusion = diffusion
        self.task = task
        self.doubt = ', or --diffusion is not the Stable Diffusion that it was trained from (1.5 in the published ones)'

    def layout(self, names: Iterable[str]) -> Layout:
        return LAYOUTS[self._task(names)]

    def our_model(self, ours: Tensors) -> OurModel:
        task = self._task(ours)
        given = self.diffusion
        model = given if isinstance(given, LatentDiffusion) else LatentDiffusion.from_pretrained(given)
        needed, settings = _needed({name: tuple(tensor.shape) for name, tensor in ours.items()}, task, model)
        own = model.state_dict(prefix=f'{DIFFUSION}.')
        absent = ABSENT + (UNET_END if task == 'depth' else ())
        added = {name: tensor for name, tensor in own.items() if name.startswith(absent)}
        return OurModel(settings | dict(task=task, vae_difference=vae_difference(own, ours)), needed, {_ADDED: added})

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, {settings["task"]}'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        classes, widths, difference = (settings[name] for name in ('classes', 'widths', 'vae_difference'))
        depth = settings['task'] == 'depth'
        feature = "preset='vpd_depth'" if depth else f"preset='vpd', map_levels={settings['map_levels']}"
        lines = [f'VAE encoder against --diffusion: largest difference {difference:.1e} of an entry\n']
        if difference > VAE_TOLERANCE:
            lines += [
                'WARNING: that is another VAE, and VPD never trains it. Is --diffusion the Stable Diffusion that it '
                'was trained from?\n  Perception uses the encoder of CHECKPOINT, creation the decoder of --diffusion: '
                'created images may look wrong.\n'
            ]
        lines += [
            "backbone: regime='finetune', text_adapter=True,",
            f'          feature=dict({feature})',
            f'          {classes} tokens: classes of that many names, or class_embeddings',
        ]
        if not depth:
            lines += [f'neck:     FPN, in_channels={widths}', f'head:     FPNHead, num_classes={classes}']
        else:
            lines += [
                f'head:     VPDDepthDecodeHead, in_channels={widths}, fmap_border=1 (images of 480 × 480)',
                f'model:    SceneConditionedEstimator; category_id 0 … {classes - 1} of each sample, among the '
                'meta_keys',
            ]
        return '\n'.join(lines)

    def _task(self, names: Iterable[str]) -> str:
        signs = (UNETS['depth'], f'{HEAD}.depth_pred_layer.')
        found = 'depth' if any(name.startswith(signs) for name in names) else 'segmentation'
        if self.task not in (None, found):
            raise ValueError(f'it is a {found} checkpoint of VPD, and {self.task} was asked for')
        return found


def vae_difference(of_model: Tensors, of_file: Tensors) -> float:
    """Of the VAE's encoder, relative to the largest entry of the tensor; what has another shape does not count."""
    differences = [0.0]
    for name, value in of_file.items():
        expected = of_model.get(name)
        if name.startswith(f'{DIFFUSION}.vae.') and expected is not None and value.shape == expected.shape:
            value = value.float()
            scale = torch.maximum(value.abs().max(), expected.abs().max())
            change = (value - expected).abs().max() / scale if scale != 0 else scale
            differences.append(change.nan_to_num(torch.inf).item())
    return max(differences)


def _needed(ours: Shapes, task: str, model: LatentDiffusion) -> tuple[Shapes, dict[str, Any]]:
    """Shapes of all of our segmentor; K, what neck or head is given, and the levels of maps among it."""
    classes, width = ours[TOKENS]
    blocks = ldm_blocks(model.unet)
    widths = [blocks[tap].channels for tap in reversed(vpd_taps(model.unet))]
    map_levels: tuple[int, ...] = ()
    if task == 'depth':
        modules = depth_modules(ours, widths)
    else:
        modules = segmentation_modules(ours)
        predicted, given = modules[HEAD].num_classes, modules['neck'].in_channels
        if predicted != classes:
            raise ValueError(f'there are embeddings of {classes} classes, and the head predicts {predicted}')
        map_levels = tuple(level for level, (a, b) in enumerate(zip(given, widths, strict=False)) if a == b + classes)
        expected = [w + classes * (level in map_levels) for level, w in enumerate(widths)]
        if given != expected:
            raise ValueError(
                f'the neck takes {given} channels; the U-Net of the diffusion model gives {widths}, each with or '
                f'without the maps of {classes} classes. Is it the Stable Diffusion that VPD was trained from?'
            )
        widths = given
    modules |= {ADAPTER: TextAdapter(width), DIFFUSION: model}
    needed = module_shapes(modules) | {TOKENS: (classes, width)}
    return needed, dict(classes=classes, widths=widths, map_levels=map_levels)
