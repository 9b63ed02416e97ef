"""The `vpd` preset against VPD written out, on random weights of Stable Diffusion's kinds of layers."""

import pytest
import torch
from ldm_names import ldm_names
from tiny_stable_diffusion import stable_diffusion
from vpd_reference import vpd_features

from mmdiff2in1.models.backbones import DiffusionBackbone


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('size', [(32, 32), (32, 48)])
def test_features_are_those_of_vpd(tmp_path, version, size):
    diffusion = stable_diffusion(version)
    diffusion.save_folder(tmp_path / 'weights')
    torch.manual_seed(5)
    embeddings = torch.randn(7, diffusion.text.width)
    torch.save(embeddings, tmp_path / 'classes.pth')
    backbone = DiffusionBackbone(
        str(tmp_path / 'weights'),
        class_embeddings=str(tmp_path / 'classes.pth'),
        feature=dict(preset='vpd', map_levels=(1,)),
        regime='finetune',
        text_adapter=True,
    ).eval()
    adapter = backbone.text_adapter
    assert torch.equal(adapter.gamma, torch.full_like(adapter.gamma, 1e-4))
    adapter.gamma.data.fill_(0.5)  # visible
    images = torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        first, act, second = adapter.mlp
        hidden = torch.nn.functional.gelu(embeddings @ first.weight.T + first.bias)
        tokens = embeddings + 0.5 * (hidden @ second.weight.T + second.bias)
        heads = (lambda width: 8) if version == 1 else (lambda width: width // 64)
        # Three levels of two layers: 1 and 4 stand for VPD's 1, 4 and 7; the maps of the middle grid are appended.
        expected = vpd_features(ldm_names(diffusion), images, tokens, heads, [1, 4], [size[1] // 4])
        found = backbone(images)
    assert [level.shape for level in found] == [level.shape for level in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert backbone.out_channels == [level.shape[1] for level in expected]
