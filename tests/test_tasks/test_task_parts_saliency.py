"""Human parts and saliency: classes under their own names, beside mmseg's."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import METRICS, MODELS, TASK_UTILS
from mmseg.structures import SegDataSample

from mmdiff2in1.tasks import HumanParts, Saliency, SemanticSegmentation, TaskSet


def test_what_they_are():
    parts, saliency = TASK_UTILS.build(dict(type='HumanParts')), TASK_UTILS.build(dict(type='Saliency'))
    assert (parts.name, parts.field, parts.path_key) == ('human_parts', 'gt_human_parts', 'human_parts_map_path')
    assert (parts.channels, parts.num_classes, parts.invalid, parts.prediction) == (7, 7, 255, 'pred_human_parts')
    assert parts.classes == (
        'background', 'head', 'torso', 'upper arms', 'lower arms', 'upper legs', 'lower legs',
    )  # fmt: skip
    assert (saliency.name, saliency.field, saliency.path_key) == ('saliency', 'gt_saliency', 'saliency_map_path')
    assert (saliency.channels, saliency.num_classes, saliency.invalid) == (2, 2, 255)
    assert parts.has_confidence and saliency.has_confidence
    for task in (parts, saliency):
        assert len({tuple(colour) for colour in task.palette.tolist()} | {(0, 0, 0)}) == task.num_classes + 1


def test_the_name_of_a_segmentation_task_marks_teachers_and_has_not_changed():
    assert repr(SemanticSegmentation(4)) == (
        'SemanticSegmentation(mirrored_pairs=(), num_classes=4, threshold=None, channels=4, ignore_index=255, '
        'invalid=255)'
    )


def test_predictions_stand_beside_each_other():
    tasks = TaskSet([SemanticSegmentation(3), HumanParts(), Saliency()])
    output = torch.randn(1, 12, 2, 3, generator=torch.Generator().manual_seed(0))
    sample = SegDataSample()
    for name, part in tasks.split(output).items():
        own = tasks[name].predictions(part[0])
        sample.set_data({key: PixelData(data=data) for key, data in own.items()})
    assert set(sample.keys()) == {
        *('seg_logits', 'pred_sem_seg', 'human_parts_logits', 'pred_human_parts'),
        *('saliency_logits', 'pred_saliency'),
    }
    for name, part in tasks.split(output).items():
        assert torch.equal(tasks[name].output_of(sample), part[0])
        np.testing.assert_array_equal(tasks[name].predicted_map(sample), part[0].argmax(0).numpy())


def test_left_and_right_are_one_class_unless_told():
    array = np.array([[0, 1, 2]], np.uint8)
    np.testing.assert_array_equal(HumanParts().flip(array), [[2, 1, 0]])
    sides = HumanParts(classes=('background', 'left arm', 'right arm'), mirrored_pairs=[(1, 2)])
    assert (sides.channels, len(sides.palette)) == (3, 3)
    np.testing.assert_array_equal(sides.flip(array), [[1, 2, 0]])
    output = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sides.flip_output(output), output.flip(-1)[:, [0, 2, 1]])


def test_names_of_a_data_set_are_those_of_its_own_classes():
    meta = dict(classes=tuple('abcdefg'), palette=[[9, 9, 9]] * 7)
    for task in (HumanParts(), Saliency()):
        assert task.of_dataset(meta) is task
        assert task.legend(np.array([[0, 1]], np.uint8))[0][0] == '0 background 50.0%'


def test_saliency_is_an_even_choice_at_equal_logits():
    target, confidence = Saliency().pseudo_label(torch.tensor([[0.0, 1.0], [0.0, 1 + math.log(3)]]).view(1, 2, 1, 2))
    assert target.flatten().tolist() == [0, 1] and confidence.flatten().tolist() == pytest.approx([0.5, 0.75])


def test_defaults_can_be_built():
    import mmdiff2in1.components  # noqa: F401  registers

    for task in (HumanParts(), Saliency()):
        loss = MODELS.build(task.loss)
        output = torch.zeros(1, task.channels, 2, 2)
        share = 1.0 if task.channels == 7 else 0.5  # both classes there, in equal parts
        target = torch.tensor([[[[0, 1], [1, 0]]]])
        assert float(loss(output, target)) == pytest.approx(share * math.log(task.channels))
        METRICS.build(task.metric)
    named = METRICS.build(HumanParts(classes=('a', 'b'), ignore_index=9).metric)
    assert named.task.classes == ('a', 'b') and named.task.ignore_index == 9


def test_refusals():
    with pytest.raises(ValueError, match=r'human_parts: a label map holds \[7\], expected classes 0 to 6 or 255'):
        HumanParts().decode(np.full((2, 2), 7, np.uint8))
    with pytest.raises(ValueError, match=r'saliency: a label map holds \[2\]'):
        Saliency().encode(np.full((2, 2), 2, np.uint8))
    with pytest.raises(ValueError, match=r'saliency: a head gave an output of shape \(1, 1, 2, 2\)'):
        Saliency().head_output(torch.zeros(1, 1, 2, 2))
