"""Class names as cross-attention tokens (VPD): read from a file, or computed once by the text encoder and kept.

K classes, D width of a token.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmseg.registry import DATASETS
from mmseg.utils import get_predefined_templates
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ...atomic import write_atomically
from ...diffusion.text import CaptionEncoder
from ...diffusion.weight_files import WeightFile

TEMPLATES: tuple[str, ...] = tuple(get_predefined_templates('imagenet'))
"""CLIP's 80 sentences for ImageNet, which VPD averages over."""
CACHE = 'MMDIFF2IN1_CACHE'
NAME = 'class_embeddings'


def cache_folder() -> Path:
    """``$MMDIFF2IN1_CACHE``, or ``~/.cache/mmdiff2in1``."""
    return Path(os.environ.get(CACHE) or Path.home() / '.cache' / 'mmdiff2in1')


def class_names(classes: str | Sequence[str]) -> list[str]:
    """The names, or those in the METAINFO of the registered dataset that is named.

    Raises:
        ValueError: No such dataset, or it has no names.
    """
    if not isinstance(classes, str):
        return list(classes)
    names = (getattr(DATASETS.get(classes), 'METAINFO', None) or {}).get('classes', ())
    if not names:
        raise ValueError(f"{classes}: no such dataset in mmseg's registry, or it has no METAINFO['classes']")
    return list(names)


def kept_class_embeddings(text: CaptionEncoder, classes: Sequence[str]) -> Tensor:
    """(K, D) embeddings of ``classes`` by ``text``, from the cache or computed now; one process of a node computes."""
    digest = hashlib.sha256(json.dumps([list(classes), TEMPLATES, text.tokenizer.model_max_length]).encode())
    for name, tensor in sorted(text.encoder.state_dict().items()):
        digest.update(f'{name} {tensor.dtype}'.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    file = cache_folder() / f'{NAME}-{digest.hexdigest()[:20]}.safetensors'
    if not file.is_file() and is_main_process():
        print_log(f'{len(classes)} × {len(TEMPLATES)} sentences are encoded once; kept in {file}', 'current')
        write_class_embeddings(file, compute_class_embeddings(text, classes), classes)
    barrier()
    return read_class_embeddings(file, classes, text.width)


def compute_class_embeddings(text: CaptionEncoder, classes: Sequence[str]) -> Tensor:
    """(K, D) float32 on the CPU; computed on the GPU if there is one."""
    before = next(text.parameters()).device
    embeddings = text.to(get_device()).class_embeddings(classes, TEMPLATES)
    text.to(before)
    return embeddings.float().cpu()


def write_class_embeddings(file: Path, embeddings: Tensor, classes: Sequence[str]) -> None:
    """Writes (K, D) embeddings with the names that they belong to, whole or not at all."""
    content = save({NAME: embeddings.contiguous()}, metadata={'classes': json.dumps(list(classes))})
    write_atomically(file, content, writer=str(os.getpid()))


def read_class_embeddings(path: str | Path, classes: Sequence[str] | None, width: int) -> Tensor:
    """(K, D) embeddings from a file of this module, or the only tensor of a ``.pth`` or ``.safetensors`` file.

    Args:
        path: The file.
        classes: The names that are expected, in order; None: whatever the file holds.
        width: D, what the U-Net attends to.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds another number of classes, other names, or tokens of another width.
    """
    path = Path(path).expanduser()
    names = None
    if path.suffix == '.safetensors' and path.is_file():
        with safe_open(path, 'pt') as file:
            names = json.loads((file.metadata() or {}).get('classes', 'null'))
    found = list(WeightFile(path).read('').values())
    shapes = [tuple(tensor.shape) for tensor in found]
    if len(found) != 1 or len(shapes[0]) != 2 or shapes[0][1] != width:
        raise ValueError(f'{path} holds {shapes}; expected one tensor (K, {width}): an embedding for each class')
    if classes is not None and len(classes) != len(found[0]):
        raise ValueError(f'{path} holds embeddings of {len(found[0])} classes; the config names {len(classes)}')
    if classes is not None and names is not None and names != list(classes):
        first = next(i for i, (a, b) in enumerate(zip(names, classes, strict=True)) if a != b)
        raise ValueError(f'{path}: class {first} is {names[first]!r} there and {classes[first]!r} in the config')
    return found[0].float()
