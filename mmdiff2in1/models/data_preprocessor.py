"""DenseDataPreProcessor: pads each map of a task with what says nothing. H, W: the padded crop."""

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS


@MODELS.register_module()
class DenseDataPreProcessor(SegDataPreProcessor):
    """mmseg's SegDataPreProcessor, which pads depth with `seg_pad_val` (255 metres) and knows no other task.

    What a map is padded with stands beside it: `pad` in the metainfo of its PixelData, written by `PackDenseInputs`.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """See mmseg's; in training all maps have the size (H, W) of the inputs afterwards."""
        if not training:
            return super().forward(data, training)
        data = self.cast_data(data)
        aside = [_popped(sample) for sample in data['data_samples']]
        data = super().forward(data, training)
        height, width = data['inputs'].shape[-2:]
        for sample, maps in zip(data['data_samples'], aside, strict=True):
            sample.set_metainfo(dict(pad_shape=(height, width)))
            for field, found in maps.items():
                padding = (0, width - found.shape[-1], 0, height - found.shape[-2])
                sample.set_data({field: PixelData(data=F.pad(found.data, padding, value=found.pad))})
        return data


def _popped(sample) -> dict[str, PixelData]:
    """The maps that say what they are padded with, taken out of a sample."""
    return {field: sample.pop(field) for field in sample.keys() if 'pad' in sample.get(field)}
