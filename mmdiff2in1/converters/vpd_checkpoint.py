"""A checkpoint that VPD published → the state dict of our segmentor, with every tensor accounted for.

VPD's segmentation files are those of mmseg 0.x, its depth files hold their tensors under ``model``; both name the U-Net
and the VAE as the original latent-diffusion code does. K classes, D width of a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmdiff2in1.core.names import listed
from mmdiff2in1.generators import LatentDiffusion, ldm_blocks, vpd_taps
from mmdiff2in1.generators.ldm_names import diffusers_names
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.models.backbones.text_adapter import TextAdapter

from .vpd_heads import HEAD, depth_modules, segmentation_modules
from .vpd_layouts import ABSENT, ADAPTER, DIFFUSION, LAYOUTS, TOKENS, Layout, task_of_file

VAE_TOLERANCE = 2e-3
"""Of the largest entry of a tensor: storing it in half precision changes it by less."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class ConvertedVPD:
    """A VPD checkpoint in our names.

    Attributes:
        task: ``segmentation`` or ``depth``.
        state: Our names → float32 tensors (counters keep their type); complete.
        taken: Names in ``state`` that the file does not hold; they come from the diffusion model.
        left_out: Names in the file that have no use.
        classes: K.
        widths: Channels that neck or head is given, fine to coarse.
        map_levels: Levels whose cross-attention maps are among them.
        vae_difference: Largest difference of the VAE's encoder from the diffusion model's, relative to the largest
            entry of the tensor in either; above :data:`VAE_TOLERANCE` it is another VAE, which the decoder in
            ``state`` does not belong to.
    """

    task: str
    state: dict[str, Tensor]
    taken: list[str]
    left_out: list[str]
    classes: int
    widths: list[int]
    map_levels: tuple[int, ...]
    vae_difference: float


def convert_vpd(path: str | Path, diffusion: str | Path, task: str | None = None) -> ConvertedVPD:
    """Reads and renames; nothing is left over, nothing is missing.

    Args:
        path: The file that VPD published.
        diffusion: Folder or file of the Stable Diffusion that it was trained from, for what VPD does not store.
        task: ``segmentation`` or ``depth``; None: what the file is.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: A damaged file, one of another kind, tensors without a place, missing ones, or a diffusion model of
            other shapes; they are listed.
    """
    file = WeightFile(path)
    names = {name.removeprefix('module.'): name for name in file.shapes}
    task = task_of_file(file.path, names, task)
    layout = LAYOUTS[task]
    left_out = [name for name in names if layout.left_out.fullmatch(name)]
    shapes = {name: file.shapes[full] for name, full in names.items() if name not in left_out}
    model = LatentDiffusion.from_pretrained(diffusion)
    places = _places(shapes, layout, model)
    ours = {place: shapes[name] for name, place in places.items() if place}
    try:
        needed, classes, widths, map_levels = _needed(ours, task, model)
    except KeyError as error:
        raise ValueError(f'{path}: a tensor that VPD has is missing: {layout.in_file(error.args[0])}') from error
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    taken = [name for name in needed if name not in ours and name.startswith((*ABSENT, *layout.absent))]
    wrong = {
        'without a place': [name for name, place in places.items() if place not in needed],
        'missing': [layout.in_file(name) for name in needed if name not in ours and name not in taken],
        'of another shape': [
            f'{name} {list(shapes[name])}, expected {list(needed[place])}'
            for name, place in places.items()
            if place in needed and _sides(shapes[name]) != _sides(needed[place])
        ],
    }
    if any(wrong.values()):
        raise ValueError(
            f'{path} is not the {task} checkpoint that VPD published, or {diffusion} is not the Stable Diffusion that '
            f'it was trained from (1.5 in the published ones): tensors {listed(wrong)}'
        )
    state, values = model.state_dict(prefix=DIFFUSION), file.read('')
    difference = _vae_difference(state, {place: values[names[name]] for name, place in places.items()})
    for name, place in places.items():
        value = values[names[name]].reshape(needed[place])
        if place in state:
            state[place].copy_(value)  # into the memory of the model, which nobody needs any more
        else:
            state[place] = value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
    return ConvertedVPD(task, state, taken, left_out, classes, widths, map_levels, difference)


def _places(shapes: Shapes, layout: Layout, model: LatentDiffusion) -> dict[str, str | None]:
    """Name in the file → our name, None where there is none."""
    places: dict[str, str | None] = dict.fromkeys(shapes)
    for part, prefix, config in (('unet', layout.unet, model.unet.config), ('vae', layout.vae, model.vae.config)):
        below = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        for name, place in diffusers_names(below, part, config).items():
            places[prefix + name] = place and f'{DIFFUSION}{part}.{place}'
    for old, new in layout.renamed.items():
        places |= {name: new + name.removeprefix(old) for name in shapes if name.startswith(old)}
    return places


def _needed(ours: Shapes, task: str, model: LatentDiffusion) -> tuple[Shapes, int, list[int], tuple[int, ...]]:
    """Shapes of all of our segmentor, K, what neck or head is given, and the levels of maps among it.

    Args:
        ours: Shapes in the file, under our names.
        task: As in :data:`LAYOUTS`.
        model: The diffusion model.
    """
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
    modules |= {ADAPTER[:-1]: TextAdapter(width), DIFFUSION[:-1]: model}
    needed = {
        f'{prefix}.{name}': tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    return needed | {TOKENS: (classes, width)}, classes, widths, map_levels


def _vae_difference(of_model: Mapping[str, Tensor], of_file: Mapping[str, Tensor]) -> float:
    differences = [0.0]
    for name, value in of_file.items():
        if name.startswith(f'{DIFFUSION}vae.'):
            expected = of_model[name]
            value = value.float().reshape(expected.shape)
            scale = torch.maximum(value.abs().max(), expected.abs().max())
            change = (value - expected).abs().max() / scale if scale != 0 else scale
            differences.append(change.nan_to_num(torch.inf).item())
    return max(differences)


def _sides(shape: tuple[int, ...]) -> list[int]:
    """A linear layer may be stored as a 1×1 convolution."""
    return [side for side in shape if side != 1]
