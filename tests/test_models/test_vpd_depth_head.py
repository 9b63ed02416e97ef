"""VPD's depth head: its output lies on the pixels of the input, whatever their number; layers as in mmseg's head."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import VPDDepthHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import mmdiff2in1.tasks  # noqa: F401  registers
from mmdiff2in1.models.decode_heads.vpd_depth_head import VPDDepthDecodeHead
from mmdiff2in1.models.losses import scale_invariant_log  # noqa: F401  registers

TASK = dict(type='Depth', max_depth=10.0)
LAYERS = dict(in_channels=[16, 16, 16, 16], embed_dim=4, feature_dim=32, num_deconv_filters=(8, 8, 8))


def head(**options):
    return VPDDepthDecodeHead(**(dict(task=TASK, **LAYERS) | options)).eval()


def pyramid(height, width, seed=0, batch=1):
    """Features of SD: strides 8 to 64, sides rounded up."""
    generator = torch.Generator().manual_seed(seed)
    sides = [[-(-side // stride) for side in (height, width)] for stride in (8, 16, 32, 64)]
    return [torch.randn(batch, 16, *side, generator=generator) for side in sides]


def sample(depth, **meta):
    found = SegDataSample(metainfo=dict(img_shape=tuple(depth.shape[-2:]), **meta))
    found.set_data(dict(gt_depth_map=PixelData(data=depth)))
    return found


class ColumnDecoder(nn.Module):
    """In place of the decoder: raw value = column of the output, hence the depth is known in closed form."""

    def __init__(self, per_cell=32):
        super().__init__()
        self.per_cell, self.deconv_layers = per_cell, [None] * 9

    def forward(self, cells):
        rows, columns = (side * self.per_cell for side in cells.shape[-2:])
        return ((torch.arange(columns) + 0.5) / 100).expand(len(cells), 1, rows, columns)


def by_column(**options):
    """Depth at pixel column c of the input: sigmoid((c + 0.5) / 100) · 10 m."""
    made = head(**options)
    made.decoder, made.depth_pred_layer = ColumnDecoder(), nn.Identity()
    return made


def expected_by_column(height, width, pixels_per_value=1.0):
    values = ((torch.arange(width) + 0.5) / pixels_per_value / 100).sigmoid() * 10
    return values.expand(1, 1, height, width)


@pytest.mark.parametrize(
    ('size', 'features', 'border'),
    [
        ((480, 480), (512, 512), 1),  # VPD: padded to 512, the last cells cut off
        ((480, 480), (512, 512), 0),
        ((480, 480), (480, 480), 0),  # the padding cropped by the backbone, an odd number of cells
        ((96, 128), (96, 128), 0),
        ((500, 333), (500, 333), 0),
        ((480, 640), (512, 640), (1, 0)),
    ],
)
def test_output_and_loss_lie_on_the_pixels(size, features, border):
    made = by_column(fmap_border=border)
    with torch.no_grad():
        raw = made(pyramid(*features))
        found = made.predict_by_feat(raw, [dict(img_shape=size)])
    expected = expected_by_column(*size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    loss = made.loss_by_feat(raw, [sample(expected[0])])
    assert list(loss) == ['loss_silog'] and loss['loss_silog'].item() == pytest.approx(0, abs=1e-6)
    shifted = sample(expected_by_column(size[0], size[1] + 1)[0, ..., 1:])
    assert made.loss_by_feat(raw, [shifted])['loss_silog'].item() > 1e-4


def test_ground_truth_that_is_padded_stays_aligned():
    """512 × 512 with a frame of zeros, as a preprocessor would pad; mmseg's head squeezes 480 columns onto 512."""
    depth = nn.functional.pad(expected_by_column(480, 480), (0, 32, 0, 32))
    made = by_column()
    with torch.no_grad():
        raw = made(pyramid(512, 512))
    assert made.loss_by_feat(raw, [sample(depth[0])])['loss_silog'].item() == pytest.approx(0, abs=1e-6)
    theirs = VPDDepthHead(**LAYERS, fmap_border=1)
    stretched = theirs.loss_by_feat(expected_by_column(480, 480), [sample(depth[0])])
    assert stretched['loss_silog'].item() > 5e-3


def test_another_stride_is_resized_by_its_factor():
    """A VAE that halves: cells of 8 pixels, 32 values each."""
    made = by_column(stride=2)
    features = [torch.randn(1, 16, side, side) for side in (32, 16, 8, 4)]
    with torch.no_grad():
        found = made.predict_by_feat(made(features), [dict(img_shape=(62, 64))])
    assert found.shape == (1, 1, 62, 64)
    # Pixel centres: values 4c + 1 and 4c + 2 are averaged.
    columns = torch.arange(64.0)
    expected = (((4 * columns + 1.5) / 100).sigmoid() + ((4 * columns + 2.5) / 100).sigmoid()) * 5
    torch.testing.assert_close(found[0, 0, 7], expected, atol=1e-5, rtol=0)


def test_layers_and_values_are_those_of_mmseg_and_of_vpd():
    """Padded to even cells, mmseg's head with fmap_border gives VPD's output; the first pixels of ours are the same."""
    torch.manual_seed(0)
    theirs, ours = VPDDepthHead(**LAYERS, fmap_border=1).eval(), head(fmap_border=1)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert ours.load_state_dict(theirs.state_dict()) is not None and list(ours.state_dict()) == list(
        theirs.state_dict()
    )
    features = pyramid(128, 192, batch=2)
    with torch.no_grad():
        found = ours.predict_by_feat(ours(features), [dict(img_shape=(96, 160))])
        expected = theirs(features)
    assert expected.std() > 1e-3 and expected.shape == (2, 1, 96, 160)
    torch.testing.assert_close(found, expected)


def test_it_starts_as_vpd_does():
    made = head()
    torch.manual_seed(0)
    made.init_weights()
    for module, deviation in (
        (made.conv2, 0.02),
        (made.decoder.conv_layers[0], 1e-3),
        (made.depth_pred_layer[0], 1e-3),
    ):
        assert module.weight.std().item() == pytest.approx(deviation, rel=0.2)
    with torch.no_grad():
        depth = made.predict_by_feat(made(pyramid(64, 64)), [dict(img_shape=(64, 64))])
    torch.testing.assert_close(depth, torch.full_like(depth, 5), atol=1e-2, rtol=0)


def test_every_layer_is_trained():
    made = MODELS.build(dict(type='VPDDepthDecodeHead', task=TASK, **LAYERS)).train()
    losses = made.loss(pyramid(64, 96, batch=2), [sample(torch.rand(1, 64, 96) * 9 + 0.1) for _ in range(2)], None)
    losses['loss_silog'].backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_what_does_not_fit_is_named():
    made = head(fmap_border=1)
    with pytest.raises(ValueError, match=r'\(3, 3\) cells of 32 pixels were decoded.*\(4, 4\).*fmap_border=\(1, 1\)'):
        made.predict_by_feat(made(pyramid(128, 128)), [dict(img_shape=(128, 128))])
    with pytest.raises(ValueError, match='puts out one channel'):
        head(task=dict(type='SurfaceNormal'))
    empty = SegDataSample(metainfo=dict(img_shape=(64, 64), img_path='a.png'))
    with pytest.raises(ValueError, match='none of the 1 samples has gt_depth_map'):
        head().loss(pyramid(64, 64), [empty], None)
