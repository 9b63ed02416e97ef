"""DenseEstimator: an encoder-decoder for any set of tasks. B samples, C channels of the output, of all tasks."""

from collections.abc import Sequence
from typing import Any

from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmdiff2in1.tasks import TaskSet


@MODELS.register_module()
class DenseEstimator(EncoderDecoder):
    """mmseg's EncoderDecoder with predictions of any tasks: `pred_normal_map`, `pred_depth_map`, `pred_sem_seg`.

    mmseg's own `DepthEstimator` knows depth alone, and its mode `slide` is overwritten by `whole`. A sample that lacks
    the ground truth of a task teaches nothing of it.

    Args:
        task: What is predicted, a task or several, see `TaskSet`; the decode head must put out their channels. For
            several: `TaskHeads`, or one head for all.
        test_cfg: As mmseg's, mode `whole` or `slide`; with `flip=True` the mean of the image's and the mirrored image's
            output is taken.
        **segmentor: Arguments of EncoderDecoder.

    Raises:
        ValueError: The decode head has another number of channels than the tasks.
    """

    def __init__(self, *, task: dict | Sequence[dict], **segmentor: Any) -> None:
        super().__init__(**segmentor)
        self.tasks = TaskSet(task)
        if self.out_channels != self.tasks.channels:
            raise ValueError(
                f'the decode head puts out {self.out_channels} channels, {self.tasks!r} has {self.tasks.channels}; '
                'give head and segmentor the same task'
            )
        told = getattr(self.decode_head, 'tasks', None)
        if told is None and hasattr(self.decode_head, 'task'):
            told = TaskSet({next(iter(self.tasks)): self.decode_head.task})
        if told is not None and repr(told) != repr(self.tasks):
            raise ValueError(
                f'the segmentor predicts {self.tasks!r}, the decode head {told!r}; give both the same tasks in the '
                'same order: the output of a head holds them one behind the other'
            )

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Any]:
        """See EncoderDecoder."""
        height, width = inputs.shape[-2:]
        return super().loss(inputs, self.tasks.completed(data_samples, (height, width), inputs.device))

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Output (B, C, H, W) at the size of the inputs."""
        output = super().inference(inputs, batch_img_metas)
        if not self.test_cfg.get('flip', False):
            return output
        mirrored = super().inference(inputs.flip(-1), batch_img_metas)
        return (output + self.tasks.flip_output(mirrored)) / 2

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """Samples with the output (C, h, w) as their prediction: without padding, not mirrored, at `ori_shape`.

        Args:
            seg_logits: Output (B, C, H, W) of `inference`.
            data_samples: B samples, or None: new ones get the output as it is.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in seg_logits]
        height, width = seg_logits.shape[-2:]
        for output, sample in zip(seg_logits.split(1), data_samples, strict=True):
            meta = sample.metainfo
            left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
            output = output[..., top : height - bottom, left : width - right]
            if meta.get('flip'):
                if meta.get('flip_direction') != 'horizontal':
                    raise ValueError(f'flip_direction={meta.get("flip_direction")!r}: expected horizontal')
                output = self.tasks.flip_output(output)
            size = tuple(meta.get('ori_shape', output.shape[-2:])[:2])
            for name, part in self.tasks.split(output).items():
                task = self.tasks[name]
                own = task.predictions(task.resize_output(part, size, self.align_corners)[0])
                sample.set_data({key: PixelData(data=data) for key, data in own.items()})
        return data_samples
