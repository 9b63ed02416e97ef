"""DenseDataPreProcessor: pads each map of a task with what says nothing. H, W: the padded crop."""

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS


@MODELS.register_module()
class DenseDataPreProcessor(SegDataPreProcessor):
    """mmseg's SegDataPreProcessor, which pads depth with `seg_pad_val` (255 metres) and knows no other task.

    What a map is padded with stands beside it: `pad` in the metainfo of its PixelData, written by `PackDenseInputs`.

    Args:
        *args: See mmseg's.
        centred: Pad on all four sides, an odd rest below and at the right, as ATRC, InvPT and TaskPrompter do; else
            below and at the right. Images are normalised before: what is filled in is 0 (`pad_val`).
        **kwargs: See mmseg's.
    """

    def __init__(self, *args, centred: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.centred = centred

    def forward(self, data: dict, training: bool = False) -> dict:
        """See mmseg's; in training all maps have the size (H, W) of the inputs afterwards."""
        if training:
            data = self.cast_data(data)
            aside = [_popped(sample) for sample in data['data_samples']]
            data = super().forward(data, training)
            height, width = data['inputs'].shape[-2:]
            for sample, maps in zip(data['data_samples'], aside, strict=True):
                sample.set_metainfo(dict(pad_shape=(height, width)))
                for field, found in maps.items():
                    padding = (0, width - found.shape[-1], 0, height - found.shape[-2])
                    sample.set_data({field: PixelData(data=F.pad(found.data, padding, value=found.pad))})
        else:
            data = super().forward(data, training)
        if self.centred:
            self._centre(data, 'padding_size' if training else 'img_padding_size', training)
        return data

    def _centre(self, data: dict, key: str, with_maps: bool) -> None:
        """Moves images, and maps, by half of what was filled in below and at the right."""
        for number, sample in enumerate(data['data_samples'] or []):
            left, right, top, bottom = sample.metainfo.get(key, (0, 0, 0, 0))
            shift = bottom // 2, right // 2
            if left or top or not any(shift):
                continue
            data['inputs'][number] = torch.roll(data['inputs'][number], shift, (-2, -1))
            sample.set_metainfo({key: (shift[1], right - shift[1], shift[0], bottom - shift[0])})
            for field in sample.keys() if with_maps else ():
                found = sample.get(field).data
                if found.shape[-2:] == data['inputs'].shape[-2:]:
                    sample.get(field).data = torch.roll(found, shift, (-2, -1))


def _popped(sample) -> dict[str, PixelData]:
    """The maps that say what they are padded with, taken out of a sample."""
    return {field: sample.pop(field) for field in sample.keys() if 'pad' in sample.get(field)}
