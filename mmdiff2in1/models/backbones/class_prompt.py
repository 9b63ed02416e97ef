"""The tokens that a U-Net attends to when it perceives.

K classes; L tokens of width D.
"""

from collections.abc import Sequence

import torch
from mmseg.registry import DATASETS
from mmseg.utils import get_predefined_templates
from torch import Tensor

from mmdiff2in1.generators.class_embeddings import kept_class_embeddings, read_class_embeddings
from mmdiff2in1.generators.text import CaptionEncoder

from .frozen_features import FrozenFeatures

TEMPLATES: tuple[str, ...] = tuple(get_predefined_templates('imagenet'))
"""CLIP's 80 sentences for ImageNet, which VPD averages over."""


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


def prompt_tokens(
    text: CaptionEncoder, prompt: str, classes: str | Sequence[str] | None, class_embeddings: str | None
) -> Tensor:
    """(L, D) tokens that every image is shown with.

    Args:
        text: The text encoder.
        prompt: See :class:`.FeatureConfig`.
        classes: Names, or a dataset that has them; L = K.
        class_embeddings: File that is read instead.

    Raises:
        FileNotFoundError, ValueError: No classes where the prompt needs them, or a file that does not fit.
    """
    names = class_names(classes) if classes else None
    if class_embeddings is not None:
        if prompt != 'class_embeddings':
            raise ValueError(f'class_embeddings={class_embeddings!r} is given, but the prompt is {prompt!r}')
        return read_class_embeddings(class_embeddings, names, text.width)
    if prompt == 'empty':
        with torch.no_grad():
            return text(text.token_ids(['']))[0]
    if not names:
        raise ValueError(f"prompt={prompt!r} needs classes=[…] (the dataset's METAINFO['classes']), found none")
    return text.class_tokens(names) if prompt == 'class_names' else kept_class_embeddings(text, names, TEMPLATES)


def shown_tokens(tokens: Tensor, which: str, frozen: FrozenFeatures) -> Tensor:
    """(B, L, D): what each image is shown of the tokens (K, D); `which` as `FeatureConfig.tokens`.

    Raises:
        ValueError: ``category``, and the classes of the images are not known.
    """
    if which == 'all':
        return tokens.expand(len(frozen), -1, -1)
    if frozen.category is None:
        raise ValueError(
            "feature.tokens='category' needs the class of each image, found none; use SceneConditionedEstimator, "
            "which takes it from the samples' category_id, or tokens='all'"
        )
    return tokens[frozen.category][:, None]
