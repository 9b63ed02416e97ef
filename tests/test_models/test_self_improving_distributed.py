"""Two processes (gloo) whose batches are mixed differently, without a search for unused parameters.

Real SyncBN does not run on a CPU; `MeetingBatchNorm` stands in: it takes its statistics over all processes, so a rank
that ran a head more often than the other would wait for ever.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.distributed as dist
from mmengine.config import ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from patience import patient
from torch import nn
from torch.distributed.nn.functional import all_reduce

import mmdiff2in1
from mmdiff2in1.models.self_improving import SelfImprovingSegmentor

K, SIZE = 3, 16
STEPS = {  # which of the four samples of a rank are synthetic
    0: [[False] * 4, [False, True, False, False], [True] * 4],
    1: [[False, True, True, True], [False] * 4, [False, False, True, False]],
}


@MMENGINE_MODELS.register_module()
class MeetingBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        moments = torch.cat([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = (all_reduce(moments) / dist.get_world_size()).chunk(2)
        variance = square - mean.square()
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach(), self.momentum)
        x = (x - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def build(norm):
    torch.manual_seed(0)
    norm_cfg = dict(type=norm, requires_grad=True)
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(0, 1), norm_cfg=norm_cfg,
    )  # fmt: skip
    head = dict(in_channels=8, in_index=1, channels=4, dropout_ratio=0, num_classes=K, norm_cfg=norm_cfg)
    fcn = dict(type='FCNHead', num_convs=1, concat_input=False) | head
    segmentor = ConfigDict(
        type='CascadeEncoderDecoder',
        num_stages=2,
        backbone=backbone,
        decode_head=[fcn, dict(type='OCRHead', ocr_channels=4) | head],
        auxiliary_head=fcn | dict(in_channels=4, in_index=0),
        test_cfg=dict(mode='whole'),
    )
    model = SelfImprovingSegmentor(segmentor, synthetic_weight=0.3)
    model.init_weights()
    return model.train()


def batch(rank, step):
    generator = torch.Generator().manual_seed(10 * rank + step)
    samples = []
    for synthetic in STEPS[rank][step]:
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, img_shape=(SIZE, SIZE)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, K, (1, SIZE, SIZE), generator=generator))
        samples.append(sample)
    return dict(inputs=torch.randn(4, 3, SIZE, SIZE, generator=generator), data_samples=samples)


def train(norm):
    """Three steps; the gradients of the first and the state after the last."""
    wrapper = MMDistributedDataParallel(build(norm), broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in wrapper.parameters() if p.requires_grad], lr=0.1)
    gradients = {}
    for step in range(3):
        losses = wrapper(**batch(dist.get_rank(), step), mode='loss')
        wrapper.module.parse_losses(losses)[0].backward()
        gradients = gradients or {name: p.grad.clone() for name, p in wrapper.module.exploiter.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    return gradients, wrapper.module.state_dict()


def work(rank, folder):
    torch.set_num_threads(1)
    meet, timeout = f'file://{folder}/meet', datetime.timedelta(seconds=patient(120))
    dist.init_process_group('gloo', meet, rank=rank, world_size=2, timeout=timeout)
    torch.save({norm: train(norm) for norm in ('BN', 'MeetingBatchNorm')}, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp('ranks')
    paths = Path(mmdiff2in1.__file__).parents[1], Path(__file__).parents[1]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    started = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)], env=env) for rank in (0, 1)]
    try:
        assert [process.wait(timeout=patient(300)) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_gradients_are_the_mean_over_unlike_ranks(ranks):
    (gradients, state), (_, other_state) = (found['BN'] for found in ranks)
    local = []
    for rank in (0, 1):
        model = build('BN')
        model.parse_losses(model(**batch(rank, 0), mode='loss'))[0].backward()
        local.append({name: p.grad for name, p in model.exploiter.named_parameters()})
    assert gradients.keys() == local[0].keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, (local[0][name] + local[1][name]) / 2)
    for name, parameter in build('BN').named_parameters():
        assert torch.equal(state[name], other_state[name]), name
        assert torch.equal(state[name], parameter) == name.startswith('creator.'), name


@pytest.mark.slow
def test_unlike_ranks_meet_in_every_collective(ranks):
    (_, state), (_, other_state) = (found['MeetingBatchNorm'] for found in ranks)
    assert all(torch.equal(tensor, other_state[name]) for name, tensor in state.items())
    means = [name for name in state if name.startswith('exploiter.') and name.endswith('running_mean')]
    assert means and all(state[name].abs().max() > 0 for name in means)


if __name__ == '__main__':
    work(int(sys.argv[1]), sys.argv[2])
