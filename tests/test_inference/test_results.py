"""What a result says of itself and writes: names, shares, maps in the encoding of label files, pictures."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.inference.generation import Generation
from mmdiff2in1.inference.perception import Perception, SeenMap
from mmdiff2in1.inference.perceptions import Perceptions
from mmdiff2in1.tasks import Depth, Edges, SemanticSegmentation, SurfaceNormal

ROOMS = SemanticSegmentation(
    6, palette=[[10 * i, 0, 255 - i] for i in range(6)], classes=('floor', 'wall', 'door', 'bed', 'bin', 'ball')
)


def seen(task, array):
    return SeenMap(map=array, confidence=None, colours=task.colours(array), task=task)


def rooms():
    """Of 100 pixels 41 floor, 30 wall, 15 door, 10 bed, 4 bin."""
    return np.repeat(np.arange(5, dtype=np.uint8), [41, 30, 15, 10, 4]).reshape(10, 10)


@pytest.fixture
def image():
    return np.full((10, 10, 3), 200, np.uint8)


def test_repr_names_and_shares(image):
    one = Perception(image=image, maps=dict(semantic_segmentation=seen(ROOMS, rooms())), path='/data/room.png')
    assert repr(one) == 'Perceived room.png: 10×10, floor 41 %, wall 30 %, door 15 %, bed 10 %, …'
    assert one.classes == ROOMS.classes
    assert list(one.shares.items()) == [('floor', 0.41), ('wall', 0.3), ('door', 0.15), ('bed', 0.1), ('bin', 0.04)]
    unnamed = seen(SemanticSegmentation(3), np.uint8([[2, 2], [2, 255]]))
    assert repr(unnamed) == 'class 2 75 %, ignored 25 %' and unnamed.classes is None
    assert repr(Perception(image=image, maps=dict(a=unnamed))) == 'Perceived an image: 10×10, ' + repr(unnamed)


def test_repr_of_other_tasks_and_of_created_images(image):
    depth = np.float32([[0.75, 0], [3.25, 2]])
    edges = np.float32([[0.9, 0], [0, 0]])
    normal = np.zeros((2, 2, 3), np.float32)
    normal[0, :, 2] = 1
    assert repr(seen(Depth(10.0), depth)) == 'depth 0.8 … 3.2 m'
    assert repr(seen(Depth(10.0), depth * 0)) == 'no depth known'
    assert repr(seen(Edges(), edges)) == 'edges on 25 %'
    assert repr(seen(Edges(), edges * 0 + 255)) == 'no edge known'
    assert repr(seen(SurfaceNormal(), normal)) == 'normal known in 50 %'
    made = Generation(
        image=image, maps=dict(depth=seen(Depth(10.0), depth), s=seen(ROOMS, rooms())), caption='a bed', seed=3, T=600,
        grid='even', num_calls=20, solver='dpm++', guidance_scale=1.0, calls=12, perception_calls=1, path='x/room.png',
    )  # fmt: skip
    assert repr(made).startswith("Created 'a bed' from room.png (seed 3, T=600): 10×10, depth 0.8 … 3.2 m · floor 41 %")


def test_maps_are_saved_as_label_files(image, tmp_path):
    depth = np.linspace(0, 9, 100, dtype=np.float32).reshape(10, 10)
    one = Perception(image=image, maps=dict(s=seen(ROOMS, rooms())))
    path = one.save(tmp_path / 'new' / 'map.png')
    assert path == tmp_path / 'new' / 'map.png' and np.array_equal(read_png(path), rooms())
    assert np.array_equal(np.asarray(Image.open(path)), rooms())
    both = Perception(image=image, maps=dict(s=seen(ROOMS, rooms()), depth=seen(Depth(10.0), depth)))
    both.save(tmp_path / 'depth.png', task='depth')
    assert np.abs(Depth(10.0).decode(read_png(tmp_path / 'depth.png')) - depth).max() <= 0.0005 + 1e-6
    with pytest.raises(ValueError, match='this model sees s, depth; name one'):
        both.save(tmp_path / 'map.png')
    for arguments, message in (
        (('map.jpg',), 'found .jpg, expected .png'),
        (('map',), 'found no ending, expected .png'),
        (('map.png', 'overlay'), "kind='overlay': expected 'map' or 'picture'"),
        (('map.png', 'map', 'normal'), "there is no task 'normal'; this model sees s, depth"),
    ):
        with pytest.raises(ValueError, match=message):
            both.save(tmp_path / arguments[0], *arguments[1:])
    assert not list(tmp_path.glob('map*'))


def test_label_files_that_count_from_one(image, tmp_path):
    array = rooms()
    array[0, :3] = 255
    one = replace(seen(ROOMS, array), shift=1)
    stored = read_png(Perception(image=image, maps=dict(s=one)).save(tmp_path / 'map.png'))
    assert np.array_equal(stored[1:], array[1:] + 1) and stored[0].tolist() == [0] * 3 + [1] * 7
    assert np.array_equal(one.decode(stored), array) and stored.dtype == np.uint8


def test_pictures_show_the_map_over_the_image_and_a_legend(image, tmp_path):
    one = Perception(image=image, maps=dict(s=seen(ROOMS, rooms())), path='room.png')
    picture = read_png(one.save(tmp_path / 'one.png', kind='picture'))
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    for blended in 0.45 * 200 + 0.55 * ROOMS.palette[:5].astype(float):
        assert any(np.abs(np.subtract(colour, blended)).max() <= 1 for colour in colours), 'the map over the image'
    assert {tuple(c) for c in ROOMS.palette[:5].tolist()} <= colours, 'the legend'
    assert (200, 200, 200) in colours, 'the image'
    depth = seen(Depth(10.0), np.full((10, 10), 2, np.float32))
    both = Perception(image=image, maps=dict(s=seen(ROOMS, rooms()), depth=depth))
    assert len(read_png(both.save(tmp_path / 'both.png', 'picture'))) > len(picture) + 300
    assert len(read_png(both.save(tmp_path / 's.png', 'picture', 's'))) <= len(picture)


def test_a_list_of_results_is_saved(image, tmp_path):
    def one(path, label):
        maps = dict(s=seen(ROOMS, np.full((10, 10), label, np.uint8)))
        return Perception(image=image, maps=maps, path=path)

    alone = Perceptions([one('/data/room.jpg', 3)])
    assert alone.save(tmp_path / 'map.png') == [tmp_path / 'map.png'] and (read_png(tmp_path / 'map.png') == 3).all()
    three = Perceptions([one('/data/a.jpg', 1), one('/data/b.png', 2), one(None, 4)])
    files = three.save(tmp_path / 'maps')
    assert [path.name for path in files] == ['a.png', 'b.png', '000002.png']
    assert [read_png(path)[0, 0] for path in files] == [1, 2, 4]
    (picture,) = alone.save(tmp_path / 'pictures', kind='picture')
    assert picture == tmp_path / 'pictures' / 'room.png' and read_png(picture).ndim == 3
    with pytest.raises(ValueError, match='is one file, and there are 3 results; name a folder'):
        three.save(tmp_path / 'map.png')
    with pytest.raises(ValueError, match='two images are called a, and one would replace the other'):
        Perceptions([one('x/a.jpg', 1), one('y/a.jpg', 2)]).save(tmp_path / 'other')
    assert not (tmp_path / 'other').exists()
