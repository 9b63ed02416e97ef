"""SceneConditionedEstimator: shows the U-Net the class of each image's scene alone, as VPD's depth model does."""

from collections.abc import Sequence
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from ..backbones import DiffusionBackbone, FrozenFeatures
from .dense_estimator import DenseEstimator


@MODELS.register_module()
class SceneConditionedEstimator(DenseEstimator):
    """DenseEstimator whose backbone, with ``feature=dict(tokens='category')``, is told the class of each image's scene.

    The class is the metainfo ``category_id`` of a sample, an index into the backbone's tokens: the dataset gives it
    (mmseg's NYUDataset reads it from file names), and the key must stand among the ``meta_keys`` of the pipeline's
    PackDenseInputs. It is needed at test time too: the figures are those of a model that was told what the scene is. A
    synthetic sample has the class of its source.

    Args:
        **estimator: Arguments of DenseEstimator.

    Raises:
        ValueError: A backbone that does not take classes; when used: a sample without one.
    """

    def __init__(self, **estimator: Any) -> None:
        super().__init__(**estimator)
        feature = getattr(self.backbone, 'feature', None)
        if not isinstance(self.backbone, DiffusionBackbone) or feature.tokens != 'category':
            raise ValueError(
                f'SceneConditionedEstimator got a {type(self.backbone).__name__} that takes no classes; expected a '
                "DiffusionBackbone with feature=dict(preset='vpd_depth') or tokens='category'. Use DenseEstimator else"
            )

    def conditioned(self, inputs: Tensor | FrozenFeatures, batch_img_metas: Sequence[dict]) -> FrozenFeatures:
        """Images (B, 3, H, W), or frozen features of them, with the classes; those that have them stay as they are.

        Raises:
            ValueError: An image without a class, or with one that the backbone has no token of.
        """
        if isinstance(inputs, FrozenFeatures) and (inputs.category is not None or inputs.pyramid is not None):
            return inputs
        found = [int(meta.get('category_id', -1)) for meta in batch_img_metas]
        if -1 in found:
            meta = batch_img_metas[found.index(-1)]
            raise ValueError(
                f'{meta.get("img_path", "an image")} has no scene class (category_id is '
                f"{meta.get('category_id', 'missing')}): put 'category_id' among the meta_keys of PackDenseInputs, and "
                "use a dataset that gives it, or show all classes to all images (DenseEstimator, tokens='all')"
            )
        return self.backbone.conditioned(inputs, found)

    def loss(self, inputs: Tensor | FrozenFeatures, data_samples: list) -> dict[str, Any]:
        """See EncoderDecoder."""
        return super().loss(self.conditioned(inputs, _metas(inputs, data_samples)), data_samples)

    def encode_decode(self, inputs: Tensor | FrozenFeatures, batch_img_metas: list[dict]) -> Tensor:
        """See EncoderDecoder; also of a window, or of mirrored images."""
        return super().encode_decode(self.conditioned(inputs, batch_img_metas), batch_img_metas)

    def _forward(self, inputs: Tensor | FrozenFeatures, data_samples: list | None = None) -> Any:
        return super()._forward(self.conditioned(inputs, _metas(inputs, data_samples)), data_samples)


def _metas(inputs: Tensor | FrozenFeatures, samples: list | None) -> list[dict]:
    return [{}] * len(inputs) if samples is None else [sample.metainfo for sample in samples]
