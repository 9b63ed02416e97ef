"""GenerativeDecodeHead: any decode head, for real images and for images that have just been created."""

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

READINGS = ('perceive', 'released')


@MODELS.register_module()
class GenerativeDecodeHead(BaseModule):
    """Wraps a decode head; for real images it is that head, unchanged.

    Args:
        head: Any mmseg decode head config.
        created: How an image that has just been created is read. ``perceive``: one extra perception forward of its
            final latent under the backbone's own feature config, as a real image would be. ``released``: the features
            of the last denoising call, which the code released with Diff-2-in-1 reads; they belong to another
            timestep, prompt and latent than the head was trained on.
    """

    def __init__(self, head: dict, created: str = 'perceive', init_cfg: dict | None = None):
        super().__init__(init_cfg)
        if created not in READINGS:
            raise ValueError(f'unknown reading {created!r}; known: {", ".join(READINGS)}')
        self.head, self.created = MODELS.build(head), created

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            # num_classes, out_channels, align_corners, ignore_index, threshold …: what mmseg asks a head for.
            return getattr(super().__getattr__('head'), name)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Feature maps → logits (B, C, h, w)."""
        return self.head(inputs)

    def predict_created(self, segmentor, creation, batch_img_metas: list[dict]) -> Tensor:
        """Logits (B, C, H, W) for the images of a :class:`~mmdiff2in1.generators.Creation`.

        Args:
            segmentor: The encoder-decoder that this head belongs to; its backbone is a ``DiffusionBackbone``.
            creation: What ``LatentDiffusion.create`` returned.
            batch_img_metas: Per image at least ``img_shape``; ``category_id`` where the segmentor needs it.
        """
        size = tuple(creation.images.shape[-2:])
        frozen = segmentor.backbone.created_features(creation, size, self.created)
        if hasattr(segmentor, 'conditioned'):
            frozen = segmentor.conditioned(frozen, batch_img_metas)
        return self.head.predict(segmentor.extract_feat(frozen), batch_img_metas, segmentor.test_cfg)
