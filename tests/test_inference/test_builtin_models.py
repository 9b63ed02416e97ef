"""The trained models that come with the package."""

import warnings

import numpy as np
import pytest

from mmdiff2in1 import Diff2in1
from mmdiff2in1.datasets.scenes import CLASSES, render_scene
from mmdiff2in1.datasets.scenes.write import PART_STARTS
from mmdiff2in1.inference.model_folder import BUILT_IN

MODELS = ['builtin:scenes', 'builtin:unet_scenes']
SCENES = 20
FLOOR = 0.65


@pytest.mark.parametrize('name', MODELS)
def test_each_sees_rendered_rooms(name):
    """Scenes of the test part, which no training has seen; read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = Diff2in1.from_pretrained(name, device='cpu')
    scenes = [render_scene(0, PART_STARTS['test'] + number) for number in range(SCENES)]
    counts = np.zeros((len(CLASSES), len(CLASSES)))
    for scene, seen in zip(scenes, model([scene.image for scene in scenes]), strict=True):
        np.add.at(counts, (scene.semantic, seen.map), 1)
        assert seen.classes == tuple(CLASSES)
    occurs = counts.sum(1) > 0
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    assert iou[occurs].mean() > FLOOR


def test_the_perceiver_creates_what_a_caption_says_and_sees_it(tmp_path, capfd):
    model = Diff2in1.from_pretrained('builtin:scenes', device='cpu')
    caption = 'a red bed in a room with blue walls'
    made = model.generate(prompts=[caption, caption], seeds=[0, 1], num_calls=10, guidance_scale=3.0)
    table = {name: index for index, name in enumerate(CLASSES)}
    for one in made:
        red, _, blue = one.image[one.map == table['wall']].mean(0)
        assert one.image.shape == (64, 64, 3) and blue > red + 20 and one.shares['wall'] > 0.2
        bed = one.image[one.map == table['bed']]
        assert len(bed) > 40 and bed.mean(0)[0] > bed.mean(0)[2] + 20
    made[0].save(tmp_path / 'map.png')
    assert (tmp_path / 'map.png').is_file()
    told = capfd.readouterr()
    assert told.out == told.err == ''


def test_cards_and_size():
    """Scores, how many seeds and the licence of each; all together, with the generator, are small."""
    for folder in BUILT_IN.iterdir():
        card = (folder / 'README.md').read_text()
        assert 'license: apache-2.0' in card and '| mIoU |' in card and 'one seed' in card, folder.name
    package = BUILT_IN.parents[1]
    files = [*BUILT_IN.rglob('*'), *(package / 'generators' / 'builtin').rglob('*')]
    assert sum(file.stat().st_size for file in files if file.suffix == '.safetensors') < 20e6
