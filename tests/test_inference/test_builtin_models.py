"""The trained models that come with the package."""

import warnings

import numpy as np

from mmdiff2in1 import Diff2in1
from mmdiff2in1.datasets.scenes import CLASSES, render_scene
from mmdiff2in1.datasets.scenes.write import PART_STARTS
from mmdiff2in1.inference.model_folder import BUILT_IN

SCENES = 20
FLOOR = 0.65


def test_the_small_unet_sees_rendered_rooms():
    """Scenes of the test part, which no training has seen."""
    model = Diff2in1.from_pretrained('builtin:unet_scenes', device='cpu')
    scenes = [render_scene(0, PART_STARTS['test'] + number) for number in range(SCENES)]
    counts = np.zeros((len(CLASSES), len(CLASSES)))
    for scene, seen in zip(scenes, model([scene.image for scene in scenes]), strict=True):
        np.add.at(counts, (scene.semantic, seen.map), 1)
        assert seen.classes == tuple(CLASSES)
    occurs = counts.sum(1) > 0
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    assert iou[occurs].mean() > FLOOR


def test_a_model_is_read_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        Diff2in1.from_pretrained('builtin:unet_scenes', device='cpu')


def test_cards_and_size():
    """Scores, how many seeds and the licence of each; all together are small."""
    for folder in BUILT_IN.iterdir():
        card = (folder / 'README.md').read_text()
        assert 'license: apache-2.0' in card and '| mIoU |' in card and 'one seed' in card, folder.name
    assert sum(file.stat().st_size for file in BUILT_IN.rglob('*') if file.is_file()) < 20e6
