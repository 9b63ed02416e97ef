"""`cached_views` of a config: what is asked for, and where it would be wrong."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from mmengine.config import Config
from mmengine.dataset import Compose
from torch import nn

from mmdiff2in1.core.names import type_name
from mmdiff2in1.datasets.synthetic_records import unwrapped
from mmdiff2in1.models.self_improving import SelfImprovingSegmentor

KEY = 'cached_views'
DTYPES = ('float16', 'float32')
FOLDER = 'views'


@dataclass(frozen=True)
class CachedViews:
    """Train on a few augmented views of each image, whose frozen features are computed once and read from disk.

    An approximation: without it every step augments anew. V views of 60 images are 60 · V pictures, however long the
    training. Without random transforms one view is all there is, and the training is the same, to the bit in float32
    (where the backbone is frozen and computes an image the same in any batch of equal size).

    Attributes:
        views: V, at least 1.
        dtype: In which features are kept: ``float16``, 11 bits of each number, or ``float32``, as they are.
        seed: Of the views.
        folder: Where they are kept; None: ``views`` in the work dir. A folder may serve many trainings.
        fix_draws: That a backbone which draws (noise, a sampled posterior) draws once for each view, instead of
            anew at each step.
    """

    views: int
    dtype: str = DTYPES[0]
    seed: int = 0
    folder: str | None = None
    fix_draws: bool = False

    def __post_init__(self) -> None:
        for name, least in (('views', 1), ('seed', 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f'{KEY}.{name} is {value!r}, expected an integer of {least} or more')
        if self.dtype not in DTYPES:
            raise ValueError(f'{KEY}.dtype is {self.dtype!r}; known: {", ".join(DTYPES)}')

    @classmethod
    def of(cls, cfg: Mapping) -> Self | None:
        """Those of a stage's config; None if it asks for none.

        Raises:
            ValueError: An unknown key, no number of views, or an impossible value.
        """
        asked = cfg.get(KEY)
        if not asked:
            return None
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(asked) - set(known))
        if unknown or 'views' not in asked:
            found = f'has {", ".join(unknown)}' if unknown else 'does not say how many views'
            raise ValueError(f'{KEY} {found}; known: {", ".join(known)}, for instance {KEY}=dict(views=8)')
        return cls(**asked)

    def place(self, cfg: Config) -> Path:
        """Folder of all caches of a stage or a plain config."""
        return Path(self.folder) if self.folder else Path(cfg.work_dir) / FOLDER

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the result of a training: all but the place."""
        return {name: value for name, value in asdict(self).items() if name != 'folder'}


def check_cached_views(settings: CachedViews, model: Any, dataset: Any) -> None:
    """Refuses a training in which cached features would be wrong.

    Args:
        settings: What is asked for.
        model: The built model.
        dataset: The built training set, a `SyntheticSampleDataset`.

    Raises:
        ValueError: Something that is trained stands before the end of the frozen features, they are drawn anew at
            each step, they depend on more than one image, or something else reads the pixels. Which, and what to do.
    """
    reason = _of_model(model) or _of_draws(settings, model) or _of_data(model, dataset)
    if reason:
        raise ValueError(f'{KEY} cannot be used here: {reason}. Leave {KEY} out of this stage')


def draws(backbone: nn.Module) -> bool:
    """True if two looks of a backbone at an image differ in training."""
    feature = getattr(backbone, 'feature', None)
    return feature is not None and (feature.noise or feature.posterior == 'sample')


def _of_model(model: Any) -> str:
    segmentor = getattr(model, 'exploiter', model)
    backbone = getattr(segmentor, 'backbone', None)
    kind, feature = type(backbone).__name__, getattr(backbone, 'feature', None)
    if not hasattr(backbone, 'frozen_features'):
        return f'{kind} is trained from the first layer on, nothing of it is frozen'
    if getattr(backbone, 'text_adapter', None) is not None:
        return 'the text adapter is trained, and stands before the U-Net, whose features change with it'
    if feature is not None and feature.prompt == 'learned':
        return f'the prompts of {kind} are trained, and stand before the U-Net, whose features change with them'
    if feature is not None and feature.tokens == 'category':
        return "with feature.tokens='category' the U-Net is shown the class of each scene behind the frozen features"
    frozen = {id(p) for module in backbone.frozen_modules() for p in module.parameters()}
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
    if [name for name in trained if not name.startswith('detail.stem')] or not frozen:
        return f'parts of {kind} are trained ({trained[0] if trained else "all"}), and what it shows changes with them'
    if isinstance(model, SelfImprovingSegmentor) and model.teachers is not None:
        return 'teachers look at the pixels of created images, which a cache does not hold'
    return ''


def _of_draws(settings: CachedViews, model: Any) -> str:
    if not draws(getattr(model, 'exploiter', model).backbone):
        return ''
    if not settings.fix_draws:
        return (
            'the features have noise or a sampled posterior, drawn anew at every step; fix_draws=True gives each view '
            'one draw'
        )
    return '' if getattr(model, 'share_draws', True) else 'share_draws=False asks for draws of its own for θ_C'


def _of_data(model: Any, dataset: Any) -> str:
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        return 'data_preprocessor.batch_augments changes images anew at every step'
    for leaf in unwrapped(dataset.dataset):
        for step in leaf.pipeline.transforms if isinstance(leaf.pipeline, Compose) else ():
            if hasattr(step, 'mix_transform') or hasattr(step, 'get_indices') or hasattr(step, 'get_indexes'):
                return f'{type_name(step)} puts several images into one'
    return ''
