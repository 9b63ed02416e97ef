"""A model as an ONNX file: RGB image in, maps out, the data preprocessor inside; checked against torch.

B images; H, W in pixels; K classes. Needs the packages of the extra `onnx`.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.models.utils import Upsample
from torch import Tensor, nn

from mmdiff2in1 import __version__
from mmdiff2in1.tasks import TaskSet

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
IMAGE = 'image'
OPSET = 18
LARGEST = 1_500_000_000
"""Bytes of weights that stay inside the file, which can hold two gigabytes; larger ones lie beside it."""
TOLERANCE = 1e-3
"""Largest difference to torch that passes, as a share of the largest value in torch's map."""
UNITS = {'depth': 'metres', 'normal': 'unit vectors, zero where there is no direction', 'edge': 'probabilities'}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One batch through onnxruntime and torch.

    Attributes:
        shape: Of the images, (B, 3, H, W).
        difference: Largest absolute difference of all maps.
        largest: Largest absolute value of torch's maps.
    """

    shape: tuple[int, ...]
    difference: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """What was written.

    Attributes:
        files: The file, and the one that holds the weights where they do not fit in.
        outputs: Task → what its map holds and its shape.
        checks: How it was checked.
    """

    files: tuple[Path, ...]
    outputs: dict[str, str]
    checks: tuple[Check, ...]


class _Perceiving(nn.Module):
    """A segmentor with its data preprocessor: float32 RGB in 0 … 255, (B, 3, H, W), to one map a task."""

    def __init__(self, segmentor: Any, tasks: TaskSet) -> None:
        super().__init__()
        self.segmentor, self.tasks = segmentor, tasks
        preprocessor = segmentor.data_preprocessor
        self.shows_bgr = not preprocessor._channel_conversion  # pipelines load BGR
        self.normalises = preprocessor._enable_normalize

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = image.flip(1) if self.shows_bgr else image
        if self.normalises:
            x = (x - self.segmentor.data_preprocessor.mean) / self.segmentor.data_preprocessor.std
        size = tuple(image.shape[-2:])
        output = self.segmentor.inference(x, [dict(ori_shape=size, img_shape=size, pad_shape=size)])
        return tuple(_map(self.tasks[name], part) for name, part in self.tasks.split(output).items())


def write_onnx(
    path: Path,
    segmentor: Any,
    tasks: TaskSet,
    dataset_meta: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    free_size: bool = False,
) -> OnnxFile:
    """Writes the file, after onnxruntime has computed the same from it as torch.

    The input is `image`, float32 RGB in 0 … 255, (B, 3, H, W), B free. There is one output a task, under its name: of
    classes logits (B, K, H, W), whose softmax are probabilities; of depth metres (B, 1, H, W); of normals unit vectors
    (B, 3, H, W); of edges probabilities (B, 1, H, W). The frozen part is computed in float32. The file's metadata name
    the classes.

    Args:
        path: Ends in `.onnx`.
        segmentor: Any mmseg segmentor, in eval mode, on the CPU.
        tasks: What it predicts.
        dataset_meta: `classes`.
        size: H, W; None: that of the data preprocessor, the crop of the training.
        free_size: H and W are free as well; checked at twice the height. What the model needs multiples of, still is.

    Raises:
        ImportError: A package is missing.
        ValueError: Another ending, no size, one that the model cannot take as it is, an operation that ONNX has not, a
            backbone that draws, or another result than torch's. Nothing is written then.
    """
    size = check_onnx(path, segmentor, size, free_size)
    model = _Perceiving(segmentor, tasks)
    checked = [(1, *size), (3, *size)] + ([(2, 2 * size[0], size[1])] if free_size else [])
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_float32(segmentor), torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent, prefix='.onnx') as place:
        model(_images((2, *size)))  # what a model checks of its first images is checked, and not part of the graph
        part = Path(place, path.name)
        _export(model, part, size, free_size, _metadata(segmentor, tasks, dataset_meta))
        checks = tuple(_checked(model, part, shape, size) for shape in checked)
        written = sorted(Path(place).iterdir(), reverse=True)  # weights first
        for file in written:
            os.replace(file, path.parent / file.name)
    outputs = {name: _said(tasks[name]) for name in tasks}
    return OnnxFile(files=tuple(path.parent / file.name for file in written[::-1]), outputs=outputs, checks=checks)


def check_packages() -> None:
    """Raises ImportError if a package of the extra is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'an ONNX file needs {" and ".join(missing)}, which {"is" if len(missing) == 1 else "are"} not installed: '
            'pip install "mmdiff2in1[onnx]"'
        )


def check_onnx(path: Path, segmentor: Any, size: tuple[int, int] | None, free_size: bool) -> tuple[int, int]:
    """The size (H, W), everything being checked that can be before the export; errors are those of `write_onnx`."""
    check_packages()
    if path.suffix.lower() != '.onnx':
        raise ValueError(f'{path}: found {path.suffix or "no ending"}, expected .onnx')
    preprocessor = segmentor.data_preprocessor
    size = size or preprocessor.size
    if size is None:
        raise ValueError("the data preprocessor names no size; give --size HEIGHT WIDTH, the images' size in the graph")
    height, width = (int(side) for side in size)
    backbone = segmentor.backbone
    feature = getattr(backbone, 'feature', None)
    drawn = [f"posterior='{feature.posterior}'"] * (feature.posterior == 'sample') if feature else []
    drawn += ['noise=True'] * bool(feature and feature.noise)
    if drawn:
        raise ValueError(
            f'the backbone draws random numbers ({", ".join(drawn)} of its feature), and a graph draws none; export a '
            "model that was trained with posterior='mode' and noise=False"
        )
    if hasattr(segmentor, 'conditioned'):
        raise ValueError(
            f'{type(segmentor).__name__} must be told the kind of scene of each image, for which the graph has no input'
        )
    test = segmentor.test_cfg or {}
    if test.get('mode') == 'slide' and (free_size or height > test['crop_size'][0] or width > test['crop_size'][1]):
        crop = ' '.join(map(str, test['crop_size']))
        raise ValueError(
            f'this model is tested by sliding windows, and the graph holds one: give --size {crop}, without '
            '--free-size, and slide over larger images yourself'
        )
    pads = getattr(preprocessor, 'test_cfg', None) or {}
    divisor = pads.get('size_divisor') or 1
    least = pads.get('size') or (height + -height % divisor, width + -width % divisor)
    if tuple(least) != (height, width):
        raise ValueError(
            f'the data preprocessor pads {height}×{width} to {least[0]}×{least[1]}, and the graph pads nothing; give '
            f'--size {least[0]} {least[1]} and pad yourself'
        )
    return height, width


@contextlib.contextmanager
def in_float32(segmentor: nn.Module) -> Iterator[None]:
    """Parts that compute in bfloat16 where the device does, for a while in float32, which is the same everywhere."""
    parts = [(part, part.bf16) for part in segmentor.modules() if hasattr(part, 'bf16')]
    try:
        for part, _ in parts:
            part.bf16 = False
        yield
    finally:
        for part, before in parts:
            part.bf16 = before


def _export(model: nn.Module, file: Path, size: tuple[int, int], free_size: bool, metadata: dict[str, str]) -> None:
    import onnx_ir

    free = torch.export.Dim.DYNAMIC
    axes = {0: free, 2: free, 3: free} if free_size else {0: free}
    try:
        with _quiet(), _sizes_kept_free(model):
            program = torch.onnx.export(
                model,
                (_images((2, *size)),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=list(model.tasks),
                dynamic_shapes=(axes,),
                verbose=False,
            )
    except Exception as error:  # of many kinds; which operation it was stands somewhere in the text
        name = f'{type(model.segmentor).__name__} with {type(model.segmentor.backbone).__name__}'
        cure = '; leave out --free-size' if free_size else ''
        raise ValueError(f'{name} cannot be written as ONNX: {_reason(error)}{cure}') from error
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        value.shape = onnx_ir.Shape(_named(value.shape))
    program.model.metadata_props.update(metadata)
    large = sum(each.numel() * each.element_size() for each in model.parameters()) > LARGEST
    onnx_ir.save(program.model, file, external_data=f'{file.name}.data' if large else None)


@contextlib.contextmanager
def _sizes_kept_free(model: nn.Module) -> Iterator[None]:
    """torch's layers, for a while, in the place of mmseg's `Upsample`, which computes a size with `int`: a number in
    the graph. For a whole factor both are the same.
    """
    swapped = []
    for parent in model.modules():
        for name, layer in parent.named_children():
            factor = getattr(layer, 'scale_factor', None)
            if isinstance(layer, Upsample) and not layer.size and isinstance(factor, float) and factor.is_integer():
                swapped.append((parent, name, layer))
    try:
        for parent, name, layer in swapped:
            free = nn.Upsample(None, layer.scale_factor, layer.mode, layer.align_corners)
            setattr(parent, name, free)
        yield
    finally:
        for parent, name, layer in swapped:
            setattr(parent, name, layer)


def _named(shape: Sequence[Any]) -> list[Any]:
    """Free sides by what they are; a side of an output may be computed from those of the input."""
    names = ('batch', None, 'height', 'width')
    return [side if isinstance(side, int) else name for side, name in zip(shape, names, strict=True)]


def _checked(model: nn.Module, file: Path, shape: tuple[int, int, int], size: tuple[int, int]) -> Check:
    """The same images (B, H, W) through both; the graph was traced at `size`.

    Raises:
        ValueError: They differ.
    """
    import onnxruntime

    images = _images(shape)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])
    found = [torch.from_numpy(np.array(each)) for each in session.run(None, {IMAGE: images.numpy()})]
    expected = model(images)
    both = list(zip(found, expected, strict=True))
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in both)
    largest = max(float(each.abs().max()) for each in expected)
    if not difference <= TOLERANCE * max(largest, 1.0):
        cure = '' if shape[1:] == size else '; the exporter has fixed the size somewhere: leave out --free-size'
        raise ValueError(
            f'nothing was written: onnxruntime computes other maps than torch, which differ by {difference:.3g} where '
            f'the largest value is {largest:.3g}, images {"×".join(map(str, images.shape))}{cure}'
        )
    return Check(shape=tuple(images.shape), difference=difference, largest=largest)


def _images(shape: tuple[int, int, int]) -> Tensor:
    """Some images (B, 3, H, W), float32 in 0 … 255: coarse noise, the same for the same shape."""
    count, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    fine = torch.rand(count, 3, height, width, generator=generator) * 32 - 16
    return (nn.functional.interpolate(coarse, (height, width), mode='bilinear') + fine).clamp(0, 255).round()


def _map(task: Any, output: Tensor) -> Tensor:
    return task.class_logits(output) if task.num_classes else task.pseudo_label(output)[0]


def _said(task: Any) -> str:
    channels = task.num_classes or task.target_channels
    kind = f'logits of {task.num_classes} classes' if task.num_classes else UNITS.get(task.name, task.name)
    return f'{kind}, (B, {channels}, H, W)'


def _metadata(segmentor: nn.Module, tasks: TaskSet, dataset_meta: Mapping[str, Any]) -> dict[str, str]:
    classes = {name: list(each) for name in tasks if (each := getattr(tasks[name], 'classes', None))}
    if not classes and dataset_meta.get('classes') and len(tasks) == 1:
        classes = {next(iter(tasks)): list(dataset_meta['classes'])}
    outputs = {name: _said(tasks[name]) for name in tasks}
    return dict(
        producer=f'mmdiff2in1 {__version__}',
        input='RGB in 0 … 255, float32 (B, 3, H, W)',
        outputs=json.dumps(outputs, ensure_ascii=False),
        classes=json.dumps(classes, ensure_ascii=False),
    )


def _reason(error: BaseException) -> str:
    """What an exporter's error says in one line, the operation named where it is one."""
    text = '\n'.join(str(each) for each in _chain(error))
    missing = re.search(r"No (?:ONNX function|decompositions).*?(?:op='([\w.]+)'|([\w]+\.[\w.]+))", text, re.S)
    if missing:
        return f'ONNX has nothing for the operation {missing[1] or missing[2]}'
    lines = [line.strip() for line in str(list(_chain(error))[-1]).splitlines() if line.strip()]
    return f'{lines[0].rstrip(".")}' if lines else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its steps, and of every package that it could use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                yield
    finally:
        logging.disable(before)
