"""DenseTTAModel: several scales and mirror images of a test image, averaged, for continuous tasks."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS


@MODELS.register_module()
class DenseTTAModel(BaseTTAModel):
    """What mmseg's SegTTAModel is for classes: around a `DenseEstimator`, or a self-improving one of it.

    Each view has been brought back to its image's own size and side by `postprocess_result`.
    """

    def merge_preds(self, data_samples_list: list[list]) -> list:
        """Views of each image → the first of its samples, with their mean as the prediction."""
        task = self.module.task
        merged = []
        for views in data_samples_list:
            mean = torch.stack([view.get(task.prediction).data for view in views]).mean(0)
            # For its vectors, whose mean is shorter than one; the size stays.
            mean = task.resize_output(mean[None], mean.shape[-2:])[0]
            views[0].set_data({task.prediction: PixelData(data=mean)})
            merged.append(views[0])
        return merged
