"""The prompt that a denoiser is shown when it perceives.

K classes; L tokens of width D; P numbers of pooled text.
"""

from collections.abc import Sequence

import torch
from mmseg.registry import DATASETS
from mmseg.utils import get_predefined_templates
from torch import Tensor

from mmdiff2in1.generators import Perceiver
from mmdiff2in1.generators.class_embeddings import kept_class_embeddings, read_class_embeddings

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


def shown_prompt(
    perceiver: Perceiver, prompt: str, classes: str | Sequence[str] | None, class_embeddings: str | None
) -> tuple[Tensor, Tensor | None]:
    """(L, D) tokens that every image is shown with, and pooled text (P,) where the model takes it.

    Args:
        perceiver: The model.
        prompt: See :class:`.FeatureConfig`.
        classes: Names, or a dataset that has them; L = K.
        class_embeddings: File that is read instead.

    Raises:
        FileNotFoundError, ValueError: No classes where the prompt needs them, a file that does not fit, or a model
            that cannot be shown classes.
    """
    if prompt == 'learned':
        raise ValueError("prompt='learned' belongs to a MetaPromptBackbone; choose another prompt, or that backbone")
    text = perceiver.class_text
    if prompt != 'empty' and text is None:
        raise ValueError(
            f'{type(perceiver).__name__} cannot be shown one token per class, which prompt={prompt!r} means; set '
            "feature=dict(prompt='empty', map_levels=(), …)"
        )
    names = class_names(classes) if classes else None
    if class_embeddings is not None:
        if prompt != 'class_embeddings':
            raise ValueError(f'class_embeddings={class_embeddings!r} is given, but the prompt is {prompt!r}')
        return read_class_embeddings(class_embeddings, names, text.width), None
    if prompt == 'empty':
        with torch.no_grad():
            tokens, pooled = perceiver.encode_prompt([''])
        return tokens[0], None if pooled is None else pooled[0]
    if not names:
        raise ValueError(f"prompt={prompt!r} needs classes=[…] (the dataset's METAINFO['classes']), found none")
    tokens = text.class_tokens(names) if prompt == 'class_names' else kept_class_embeddings(text, names, TEMPLATES)
    return tokens, None


def shown_tokens(tokens: Tensor, which: str, frozen: FrozenFeatures) -> Tensor:
    """(B, L, D): what each image is shown of the tokens (K, D); `which` as `FeatureConfig.tokens`.

    Raises:
        ValueError: ``category``, and the classes of the images are not known.
    """
    if which == 'all':
        return tokens.expand(frozen.shape[0], -1, -1)
    if frozen.category is None:
        raise ValueError(
            "feature.tokens='category' needs the class of each image, found none; use SceneConditionedEstimator, "
            "which takes it from the samples' category_id, or tokens='all'"
        )
    return tokens[frozen.category][:, None]
