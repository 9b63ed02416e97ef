"""Layers of a U-Net compiled one by one: one graph each, the same numbers; and what a training step waits for."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from waits import Waits

from mmdiff2in1.engine.compile_layers_hook import COMPILED_LAYERS, compile_layers

sys.path.append(str(Path(__file__).parents[2] / 'tools'))  # at the end: tools/test.py is not the standard library's

from benchmarks.cells import Cell  # noqa: E402
from benchmarks.model import build_segmentor  # noqa: E402

SIZE = 64


def model_of(case):
    return build_segmentor(Cell(case, model='tiny', size=SIZE, batch=2), 'cpu', case == 'mixed')


def batch(device='cpu'):
    """Two images, the second one created, and random classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator) * 2 - 1
    samples = []
    for synthetic in (False, True):
        shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))
        sample = SegDataSample(metainfo=dict(synthetic=synthetic, **shape))
        classes = torch.randint(5, (1, SIZE, SIZE), generator=generator).to(device)
        samples.append(sample.set_data(dict(gt_sem_seg=PixelData(data=classes))) or sample)
    return images.to(device), samples


def test_layers_are_one_graph_each_and_give_the_same():
    """The transformers with the maps of their attention, too: `fullgraph` refuses every break."""
    plain, compiled = model_of('finetune').backbone, model_of('finetune').backbone
    images, _ = batch()
    names = list(compiled.state_dict())
    count = compile_layers(compiled.diffusion.denoiser, backend='aot_eager')
    assert count == sum(type(module).__name__ in COMPILED_LAYERS for module in plain.diffusion.denoiser.modules()) > 10
    assert list(compiled.state_dict()) == names
    torch._dynamo.utils.counters.clear()
    expected, found = plain(images), compiled(images)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
    assert not torch._dynamo.utils.counters['graph_break']
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)
    for maps in (expected, found):
        sum(each.square().mean() for each in maps).backward()
    gradients = [
        {name: weight.grad for name, weight in each.named_parameters() if weight.grad is not None}
        for each in (plain, compiled)
    ]
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_nothing_to_compile_is_an_error():
    with pytest.raises(ValueError, match='Linear has no layer to compile, expected ResnetBlock2D or'):
        compile_layers(nn.Linear(1, 1))


@pytest.mark.parametrize(('case', 'batches'), [('frozen', 1), ('finetune', 1), ('mixed', 2)])
def test_a_step_waits_for_mmseg_alone(case, batches):
    """Losses and backward pass, after a first step, which looks at the range of its images.

    mmseg's cross entropy counts the pixels that are not ignored, its accuracy picks them out: three times for each
    batch, of real images and of created ones.
    """
    model, (images, samples) = model_of(case), batch()
    model.loss(images, samples)
    with Waits() as waits:
        losses = model.loss(images, samples)
        sum(value.sum() for name, value in losses.items() if 'loss' in name).backward()
    assert waits.found == ['mmseg'] * 3 * batches


def test_what_waits_is_seen():
    values = torch.ones(3)
    with Waits() as waits:
        values.sum().item(), values[values > 0], values[values > 0].nonzero()
    assert len(waits.found) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('case', ['frozen', 'finetune'])
def test_features_and_head_wait_for_nothing_on_a_gpu(case):
    """Without mmseg's loss, which waits."""
    model, (images, _) = model_of(case).cuda(), batch('cuda')
    model.backbone(images)
    torch.cuda.set_sync_debug_mode('error')
    try:
        model.decode_head(model.neck(model.backbone(images))).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
