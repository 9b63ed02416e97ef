"""One process of a distributed evaluation, and the data of both."""

import json
from pathlib import Path

import torch
from mmengine.dataset import DefaultSampler

from mmdiff2in1.evaluation.class_iou_metric import ClassIoUMetric
from mmdiff2in1.evaluation.depth_metric import PooledDepthMetric
from mmdiff2in1.evaluation.edge_metric import EdgeMetric
from mmdiff2in1.evaluation.saliency_metric import SaliencyMetric
from mmdiff2in1.evaluation.surface_normal_metric import SurfaceNormalMetric


def metrics():
    return {
        'normal': SurfaceNormalMetric(thresholds=(5, 11.25, 11.5, 30), per_image_rmse=True),
        'pixels': PooledDepthMetric(),
        'images': PooledDepthMetric(average='images'),
        'parts': ClassIoUMetric(dict(type='HumanParts')),
        'saliency': SaliencyMetric(),
        'edge': EdgeMetric(max_distance=0.1, thresholds=(0.1, 0.3, 0.5, 0.7), workers=1),
    }


def samples(count=5):
    """Images of different sizes, with invalid pixels; one without a valid one."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for index in range(count):
        size = (8 + index, 12)
        normal = torch.nn.functional.normalize(torch.randn(3, *size, generator=generator), dim=0)
        depth = torch.rand(1, *size, generator=generator) * 9 + 0.5
        valid = (torch.rand(1, *size, generator=generator) > 0.3) & (index != 1)
        noise = torch.randn(4, *size, generator=generator)
        found.append(
            dict(
                pred_normal_map=dict(data=torch.cat([normal, torch.ones(1, *size)]) + noise * 0.3),
                gt_normal_map=dict(data=normal * valid),
                pred_depth_map=dict(data=depth * (noise[:1] * 0.3).exp()),
                gt_depth_map=dict(data=depth * valid),
                **of_classes(valid),
            )
        )
    return found


def of_classes(valid):
    """Parts, saliency and edges of one image; what is not `valid` (1, H, W) says nothing."""
    generator = torch.Generator().manual_seed(int(valid.sum()))
    _, height, width = valid.shape
    classes = torch.randint(7, (2, 1, height, width), generator=generator)
    noise = torch.rand(3, height, width, generator=generator)
    edge = ((noise[:1] > 0.5) & (torch.arange(width) % 4 == 1)).float()
    return dict(
        pred_human_parts=dict(data=classes[0]),
        gt_human_parts=dict(data=classes[classes[0, 0, 0, 0] % 2].where(valid, 255)),
        saliency_logits=dict(data=noise[:2] * 4),
        gt_saliency=dict(data=(noise[:1] < noise[1:2] + noise[2:] - 0.5).long().where(valid, 255)),
        pred_edge=dict(data=(edge + noise[1:2]) / 2),
        gt_edge=dict(data=edge.where(valid, 255.0)),
    )


def main(rank, meeting, out):
    """Writes the figures that this process gets to the file `out` as JSON; the two meet in the file `meeting`."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{meeting}', rank=rank, world_size=2)
    data = samples()
    seen = list(DefaultSampler(data, shuffle=False))
    figures = {}
    for name, metric in metrics().items():
        for index in seen:
            metric.process({}, [data[index]])
        figures[name] = metric.evaluate(len(data))
    Path(out).write_text(json.dumps(dict(seen=seen, figures=figures)))
    torch.distributed.destroy_process_group()
