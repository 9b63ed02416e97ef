"""DenseTTAModel: several scales and mirror images of a test image, averaged, for any tasks."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS


@MODELS.register_module()
class DenseTTAModel(BaseTTAModel):
    """Mean of several views, as mmseg's SegTTAModel for classes: around a `DenseEstimator`, or a self-improving one.

    Each view has been brought back to its image's own size and side by `postprocess_result`.
    """

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """Views of each image → the first of its samples, with their mean as the prediction."""
        merged = []
        for views in data_samples_list:
            for task in self.module.tasks.values():
                mean = torch.stack([task.output_of(view) for view in views]).mean(0)
                # For its vectors, whose mean is shorter than one; the size stays.
                mean = task.resize_output(mean[None], mean.shape[-2:])[0]
                views[0].set_data({key: PixelData(data=data) for key, data in task.predictions(mean).items()})
            merged.append(views[0])
        return merged
