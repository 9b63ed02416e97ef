"""Edges that a class map gives: where, when not, and through the whole pipeline of rendered scenes."""

import cv2
import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.region_borders import region_borders
from mmdiff2in1.core.thinning import thin
from mmdiff2in1.datasets.scenes.render import render_scene
from mmdiff2in1.datasets.transforms import EdgesFromClasses


def test_by_hand():
    classes = np.zeros((6, 6), np.uint8)
    classes[:, 3:] = 4
    classes[0, :] = 255
    edges = EdgesFromClasses().transform(dict(gt_seg_map=classes))['gt_edge']
    assert edges.dtype == np.float32 and (edges[0] == 255).all()
    np.testing.assert_array_equal(edges[1:], np.eye(6, dtype=np.float32)[[2] * 5])


def test_what_is_known_stays():
    classes = np.array([[0, 1], [0, 1]], np.uint8)
    given = np.array([[0.5, 255], [0, 0]], np.float32)
    assert EdgesFromClasses().transform(dict(gt_seg_map=classes, gt_edge=given))['gt_edge'] is given
    unknown = np.full((2, 2), 255, np.float32)
    assert EdgesFromClasses().transform(dict(gt_seg_map=classes, gt_edge=unknown))['gt_edge'].max() == 1
    assert 'gt_edge' not in EdgesFromClasses().transform({})


def test_lines_of_a_scene_stay_thin_through_zoom_crop_and_mirror(tmp_path):
    init_default_scope('mmseg')
    scene = render_scene(0, 0, 48)
    cv2.imwrite(str(tmp_path / 'image.png'), scene.image)
    cv2.imwrite(str(tmp_path / 'classes.png'), scene.semantic)
    pipeline = Compose(
        [
            *(dict(type='LoadImageFromFile'), dict(type='LoadClassAnnotation')),
            *(dict(type='DenseResize', scale=(96, 96)), dict(type='RandomCrop', crop_size=(64, 64))),
            *(dict(type='DenseRandomFlip', prob=1.0), dict(type='EdgesFromClasses'), dict(type='PackDenseInputs')),
        ]
    )
    info = dict(img_path=str(tmp_path / 'image.png'), seg_map_path=str(tmp_path / 'classes.png'), seg_fields=[])
    sample = pipeline(dict(info, reduce_zero_label=False, label_map=None))['data_samples']
    classes, edges = sample.gt_sem_seg.data[0].numpy(), sample.gt_edge.data[0].numpy()
    assert edges.shape == (64, 64) and 0.01 < edges.mean() < 0.3
    np.testing.assert_array_equal(edges > 0, thin(region_borders(classes)))
