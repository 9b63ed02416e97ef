"""torch.compile as mmengine asks for it, `compile=dict(…)`: the same losses, and an average that the graph does see."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.generators.taps import layer_pairs

SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(16, 16)),
    backbone=dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,),
                  downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,)),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=3, in_index=-1,
                     dropout_ratio=0.0),  # which would draw from one stream for both
)  # fmt: skip


def batch(step):
    """Two real and two created images, with labels for the real ones."""
    generator = torch.Generator().manual_seed(step)
    samples = []
    for synthetic in (False, False, True, True):
        label = torch.randint(0, 3, (1, 16, 16), generator=generator)
        meta = dict(synthetic=synthetic, img_shape=(16, 16), ori_shape=(16, 16))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta))
    return dict(
        inputs=[torch.randint(0, 256, (3, 16, 16), generator=generator).float() for _ in samples],
        data_samples=samples,
    )


def trained(model, steps=3):
    """Losses of some steps; after each of them θ_C ← (θ_C + θ_E) / 2, as the hook does it."""
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    losses = []
    for step in range(steps):
        logged = model.train_step(copy.deepcopy(batch(step)), optimizer)
        losses.append({name: float(value.detach()) for name, value in logged.items()})
        with torch.no_grad():
            pairs = model.ema_tensors()
            torch._foreach_lerp_(pairs.averaged_creator, pairs.averaged_exploiter, 0.5)
    return losses


@pytest.mark.slow
def test_a_compiled_step_has_the_losses_of_the_plain_one():
    """Labels of created images are θ_C's: a graph that had kept its first weights would give others."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    plain = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=SEGMENTOR)).train()
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    cfg = ConfigDict(compile=dict(backend='aot_eager'))
    Runner._maybe_compile(SimpleNamespace(model=compiled, cfg=cfg, logger=logging.getLogger()), 'train_step')
    before = compiled.train_step
    expected, found = trained(plain), trained(compiled)
    assert compiled.train_step is before and torch._dynamo.utils.counters['stats']['calls_captured'] > 100
    assert set(expected[0]) == set(found[0]) and 'synthetic/decode.loss_ce' in expected[0]
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    # A checkpoint is that of the plain model, by name and by value.
    state = compiled.state_dict()
    assert list(state) == list(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_layers_of_the_unet_are_one_graph_each(tiny_diffusion):
    """Residual layer and attention without a break, in the class of attention that this package puts in."""
    unet = tiny_diffusion.unet
    resnet, attention = layer_pairs(unet.down_blocks[1])[0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 8, 8, generator=generator)
    temb = torch.randn(2, resnet.time_emb_proj.in_features, generator=generator)
    context = torch.randn(2, 5, 16, generator=generator)

    def layer(x):
        return attention(resnet(x, temb), encoder_hidden_states=context, return_dict=False)[0]

    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(layer, backend='aot_eager', fullgraph=True)(x)
        torch.testing.assert_close(found, layer(x), rtol=1e-4, atol=1e-5)
