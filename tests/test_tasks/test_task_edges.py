"""Edges: probabilities in memory, two kinds of files, pseudo labels, colours."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import METRICS, MODELS, TASK_UTILS
from mmseg.structures import SegDataSample

MAP = np.array([[0.0, 1.0, 0.25], [255.0, 0.5, 1.0]], np.float32)


@pytest.fixture
def task():
    return TASK_UTILS.build(dict(type='Edges'))


def test_what_it_is(task):
    assert (task.name, task.field, task.path_key, task.channels) == ('edge', 'gt_edge', 'edge_map_path', 1)
    assert task.invalid == 255.0 and task.target_dtype == torch.float32 and task.has_confidence
    assert repr(task) == 'Edges()'


def test_files_of_data_sets_have_8_bits(task):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = task.decode(levels)
    assert array.dtype == np.float32 and array.min() == 0 and array.max() == 1
    assert task.known(array).all()  # 255 is an edge, not what says nothing
    written = task.encode(array)
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, levels)


def test_files_with_unknown_pixels_have_16_bits(task):
    written = task.encode(MAP)
    assert written.dtype == np.uint16 and written.tolist() == [[0, 65534, 16384], [65535, 32767, 65534]]
    again = task.decode(written)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, MAP, atol=1e-5)
    np.testing.assert_array_equal(task.known(again), [[True, True, True], [False, True, True]])


def test_geometry(task):
    np.testing.assert_array_equal(task.flip(MAP), MAP[:, ::-1])
    np.testing.assert_array_equal(task.resize(MAP, (4, 6)), MAP.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(task.rescale(MAP, 2.0), MAP)
    output = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(task.flip_output(output), output.flip(-1))


def test_pseudo_label(task):
    logits = torch.tensor([0.0, math.log(3), -math.log(3), math.nan]).view(1, 1, 2, 2).requires_grad_()
    target, confidence = task.pseudo_label(logits)
    assert target.flatten().tolist() == pytest.approx([0.5, 0.75, 0.25, 255.0])
    assert confidence.flatten()[:3].tolist() == pytest.approx([0.5, 0.75, 0.75]) and confidence[0, 0, 1, 1].isnan()
    assert not target.requires_grad and not confidence.requires_grad
    assert task.valid(target).flatten().tolist() == [True, True, True, False]
    assert task.head_output(logits) is logits


def test_predictions(task):
    output = torch.tensor([[[0.0, math.log(3)]]])
    sample = SegDataSample()
    sample.set_data({key: PixelData(data=data) for key, data in task.predictions(output).items()})
    assert sample.pred_edge.data.flatten().tolist() == pytest.approx([0.5, 0.75])
    assert torch.equal(task.output_of(sample), output)
    np.testing.assert_allclose(task.predicted_map(sample), [[0.5, 0.75]], rtol=1e-6)


def test_the_mean_is_one_of_probabilities(task):
    outputs = [torch.tensor([-3.0, 0.0, 90.0]).view(1, 1, 1, 3), torch.tensor([2.0, 0.0, 80.0]).view(1, 1, 1, 3)]
    mean = task.mean_output(outputs)
    p = [(1 / (1 + math.exp(3)) + 1 / (1 + math.exp(-2))) / 2, 0.5]
    assert mean.sigmoid().flatten()[:2].tolist() == pytest.approx(p)
    assert 80 < float(mean[..., 2]) < 81  # no probability of 1 whose logit were infinite
    assert task.mean_output(outputs[:1]) is outputs[0]


def test_pictures(task):
    picture = task.colours(MAP)
    assert picture[0].tolist() == [[235, 235, 235], [160, 0, 40], [216, 176, 186]] and picture[1, 0].tolist() == [0] * 3
    assert task.condition(MAP)[..., 0].tolist() == [[0, 255, 64], [0, 128, 255]]
    assert [text for text, _ in task.legend(MAP)] == ['edge: 83.3% of the pixels', 'edge 40.0%', 'no edge 60.0%']
    assert [text for text, _ in task.legend(task.unknown((2, 2)))][1] == 'edge 0.0%'


def test_defaults_can_be_built(task):
    import mmdiff2in1.components  # noqa: F401  registers

    loss = MODELS.build(task.loss)
    logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert float(loss(logits, target)) == pytest.approx(math.log(2) / 2)
    assert METRICS.build(task.metric).labels == 'gt_edge'


def test_refusals(task):
    with pytest.raises(ValueError, match=r'edge: 2 pixels hold values like -0.5, expected probabilities in \[0, 1\]'):
        task.encode(np.array([[-0.5, np.nan]], np.float32))
    with pytest.raises(ValueError, match='edge: the label file holds float32'):
        task.decode(MAP)
    with pytest.raises(ValueError, match='edge: a head gave an output of shape'):
        task.pseudo_label(torch.zeros(1, 2, 2, 2))
