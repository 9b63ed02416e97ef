"""What a data preprocessor is to a training that reads features from a cache."""

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseDataPreprocessor
from mmseg.registry import MODELS

from .backbones import FrozenFeatures


@MODELS.register_module()
class CachedViewsPreProcessor(BaseDataPreprocessor):
    """Cached features become a batch of `FrozenFeatures`; all else goes through the preprocessor that was there before.

    Pixels were normalised and padded, and labels padded, when the cache was made.

    Args:
        preprocessor: Config of the one before; its attributes are this one's too.
    """

    def __init__(self, preprocessor: dict) -> None:
        super().__init__()
        self.preprocessor = MODELS.build(preprocessor)

    def forward(self, data: dict, training: bool = False) -> Any:
        """See mmseg's SegDataPreProcessor; `inputs` of a cache: name → the tensors of B samples."""
        if not isinstance(data['inputs'], Mapping):
            return self.preprocessor(data, training)
        data = self.cast_data(data)
        return data | dict(inputs=FrozenFeatures.of_kept(data['inputs']))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'preprocessor':
                raise
            return getattr(self.preprocessor, name)
