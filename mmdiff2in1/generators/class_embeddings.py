"""One embedding per class (VPD): computed once by the text encoder and kept, or read from a file.

K classes, D width of a token.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from safetensors.torch import save
from torch import Tensor

from mmdiff2in1.core.atomic_files import write_atomically

from .finite import check_finite
from .text import CaptionEncoder, spoken
from .weight_files import WeightFile

CACHE = 'MMDIFF2IN1_CACHE'
NAME = 'class_embeddings'


def cache_folder() -> Path:
    """``$MMDIFF2IN1_CACHE``, or ``~/.cache/mmdiff2in1``."""
    return Path(os.environ.get(CACHE) or Path.home() / '.cache' / 'mmdiff2in1')


def kept_class_embeddings(text: CaptionEncoder, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(K, D) embeddings of ``classes``, from the cache or computed now; in a process group by the first process."""
    found: list[Tensor | None] = [None]
    if is_main_process():
        file = cache_folder() / f'{NAME}-{_key(text, classes, templates)}.safetensors'
        if file.is_file():
            found = [read_class_embeddings(file, classes, text.width)]
        else:
            print_log(f'{len(classes)} × {len(templates)} sentences are encoded once; kept in {file}', 'current')
            found = [compute_class_embeddings(text, classes, templates)]
            try:
                write_class_embeddings(file, found[0], classes)
            except OSError as error:
                print_log(f'not kept, {file.parent} cannot be written ({error}); set {CACHE}', 'current')
    broadcast_object_list(found)
    return found[0]


def _key(text: CaptionEncoder, classes: Sequence[str], templates: Sequence[str]) -> str:
    """Of everything that decides the embeddings."""
    sentences = [template.format(name) for name in spoken(classes) for template in templates]
    digest = hashlib.sha256(json.dumps([list(classes), text.token_ids(sentences).tolist()]).encode())
    digest.update(text.encoder.config.to_json_string().encode())
    for name, tensor in sorted(text.encoder.state_dict().items()):
        digest.update(f'{name} {tensor.dtype}'.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:20]


def compute_class_embeddings(text: CaptionEncoder, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(K, D) float32 on the CPU; computed on the GPU if there is one."""
    before = next(text.parameters()).device
    embeddings = text.to(get_device()).class_embeddings(classes, templates)
    text.to(before)
    return embeddings.float().cpu()


def write_class_embeddings(file: Path, embeddings: Tensor, classes: Sequence[str]) -> None:
    """Writes (K, D) embeddings with the names that they belong to, whole or not at all."""
    content = save({NAME: embeddings.contiguous()}, metadata={'classes': json.dumps(list(classes))})
    write_atomically(file, content)


def copy_class_embeddings(path: str | Path, out: Path) -> None:
    """Writes the embeddings of a file that `read_class_embeddings` reads, with their names where it has them."""
    file = WeightFile(path)
    metadata = {'classes': file.metadata['classes']} if 'classes' in file.metadata else None
    ((_, embeddings),) = file.read('').items()
    write_atomically(out, save({NAME: embeddings.float().contiguous()}, metadata=metadata))


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
    file = WeightFile(path)
    names = json.loads(file.metadata.get('classes', 'null'))
    shapes = list(file.shapes.values())
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != width:
        raise ValueError(f'{path} holds {shapes}; expected one tensor (K, {width}): an embedding for each class')
    if classes is not None and len(classes) != shapes[0][0]:
        raise ValueError(f'{path} holds embeddings of {shapes[0][0]} classes; the config names {len(classes)}')
    if classes is not None and names is not None and names != list(classes):
        first = next(i for i, (a, b) in enumerate(zip(names, classes, strict=True)) if a != b)
        raise ValueError(f'{path}: class {first} is {names[first]!r} there and {classes[first]!r} in the config')
    state = file.read('')
    check_finite(state, path)
    return state.popitem()[1].float().clone()
