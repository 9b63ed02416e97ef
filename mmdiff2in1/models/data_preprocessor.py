"""DenseDataPreProcessor: pads maps of continuous tasks with what says nothing. H, W: the padded crop."""

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS

from mmdiff2in1.tasks import VALID_REGION, Depth, SurfaceNormal

FIELDS = (Depth.field, SurfaceNormal.field, VALID_REGION)
"""Padded with zero, which is invalid in all of them."""


@MODELS.register_module()
class DenseDataPreProcessor(SegDataPreProcessor):
    """mmseg's SegDataPreProcessor, which pads depth with `seg_pad_val` (255 metres) and normals not at all."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """See mmseg's; in training the maps of depth and normals have the size (H, W) of the inputs afterwards."""
        if not training:
            return super().forward(data, training)
        data = self.cast_data(data)
        aside = [{f: s.pop(f).data for f in FIELDS if f in s} for s in data['data_samples']]
        data = super().forward(data, training)
        height, width = data['inputs'].shape[-2:]
        for sample, maps in zip(data['data_samples'], aside, strict=True):
            sample.set_metainfo(dict(pad_shape=(height, width)))
            for field, array in maps.items():
                padding = (0, width - array.shape[-1], 0, height - array.shape[-2])
                sample.set_data({field: PixelData(data=F.pad(array, padding))})
        return data
