"""Captions of new scenes: which there are, that none is an old one, how often a class is told."""

import json
from collections import Counter
from math import log

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmdiff2in1.captions import ListedCaptions, RecombinedCaptions, WrittenCaptions, scene_captions
from mmdiff2in1.captions.classes import names_in, plural, singular, told_names
from mmdiff2in1.captions.recombined import recombined, split_caption
from mmdiff2in1.datasets.scenes.render import render_scene

SCENES = [
    'a red bed and a bin in a room with white walls',
    'two balls in a room with blue walls',
    'a door in a room with green walls',
    'an empty room with grey walls',
]


@pytest.fixture(scope='module')
def rendered():
    return [render_scene(0, number, 32).caption for number in range(60)]


# Recombined.


@pytest.mark.parametrize(
    ('caption', 'parts'),
    [
        (SCENES[0], ('a red bed and a bin', 'in', 'a room with white walls')),
        (SCENES[3], ('', 'in', 'a room with grey walls')),
        ('an empty office with a red floor', ('', 'in', 'an office with a red floor')),
        (
            'a kitchen with a stove, a sink and a refrigerator',
            ('a kitchen', 'with', 'a stove, a sink and a refrigerator'),
        ),
        ('a cat sitting on a couch in a living room', ('a cat sitting', 'on', 'a couch in a living room')),
        ('a man standing in front of a bus', ('a man standing', 'in front of', 'a bus')),
        ('a photo of wall, floor and table', ('a photo of wall and floor', ',', 'table')),
        ('a photo of sky, tree, road and car', ('a photo of sky and tree', ',', 'road and car')),
    ],
)
def test_captions_are_taken_apart_and_are_whole_again(caption, parts):
    found = split_caption(caption)
    assert (found.things, found.connective, found.place) == parts
    assert str(found) == caption


def test_one_phrase_has_no_parts(rendered):
    assert split_caption('a bedroom') is None
    with pytest.raises(ValueError, match="'a bedroom' has no parts"):
        recombined(SCENES[0], 'a bedroom')
    assert [str(split_caption(caption)) for caption in rendered] == rendered


def test_things_of_one_in_the_place_of_another():
    assert recombined(SCENES[1], SCENES[3]) == 'two balls in a room with grey walls'
    assert recombined(SCENES[3], SCENES[1]) == 'an empty room with blue walls'
    assert recombined('a photo of sky and tree', 'a photo of road, car and tree') == 'a photo of sky and tree'
    assert recombined('a bus, tree and car', 'a bin, tree and road') == 'a bus, tree and road'


def test_all_new_captions_come_once_and_then_again():
    rooms = ('white', 'blue', 'green', 'grey')
    things = {'a red bed and a bin': 'white', 'two balls': 'blue', 'a door': 'green'}
    expected = {f'{what} in a room with {room} walls' for what, own in things.items() for room in rooms if room != own}
    drawn = RecombinedCaptions(SCENES).captions(20)
    assert set(drawn[:9]) == expected and len(expected) == 9
    assert drawn == [*drawn[:9], *drawn[:9], *drawn[:2]]


def test_a_draw_is_seeded_and_begins_as_a_larger_one(rendered):
    drawn = RecombinedCaptions(rendered, seed=3).captions(500)
    assert drawn == RecombinedCaptions(rendered[::-1], seed=3).captions(500)
    assert all(RecombinedCaptions(rendered, seed=3).captions(count) == drawn[:count] for count in (1, 20, 499))
    assert set(drawn[:50]) != set(RecombinedCaptions(rendered, seed=4).captions(50))
    assert len(set(drawn)) == 500 and not set(drawn) & set(rendered)
    avoided = RecombinedCaptions(rendered, seed=3, avoid=drawn[:100]).captions(200)
    assert not set(avoided) & {*drawn[:100], *rendered}


def test_every_room_and_every_thing_is_used_equally_often():
    captions = [f'thing {i} in a room {i}' for i in range(7)]
    drawn = [split_caption(each) for each in RecombinedCaptions(captions).captions(7 * 4)]
    assert set(Counter(each.things for each in drawn).values()) == {4}
    assert set(Counter(each.place for each in drawn).values()) == {4}


def test_words_between_are_not_mixed():
    captions = ['a cat on a couch', 'a dog on a bed', 'a kitchen with a sink', 'a bath with a tub', 'a bedroom']
    drawn = RecombinedCaptions(captions).captions(4)
    assert set(drawn) == {'a dog on a couch', 'a cat on a bed', 'a bath with a sink', 'a kitchen with a tub'}


def test_around_an_image_its_place_stays(rendered):
    own = rendered[:10] * 3
    drawn = RecombinedCaptions(rendered).around(own)
    for caption, new in zip(own, drawn, strict=True):
        assert split_caption(new).place == split_caption(caption).place
        assert new not in rendered
    assert all(len({drawn[i], drawn[10 + i], drawn[20 + i]}) == 3 for i in range(10))
    assert RecombinedCaptions(rendered).around(own[:13]) == drawn[:13]
    lonely = RecombinedCaptions([*SCENES, 'a bedroom']).around(['a bedroom', SCENES[0], 'a bedroom'])
    assert lonely[0] != lonely[2] and not {*lonely} & {*SCENES, 'a bedroom'}


@pytest.mark.parametrize('captions', [[], ['a bedroom', 'a kitchen'], SCENES[:1], [SCENES[3], 'an empty hall']])
def test_nothing_new_is_an_error(captions):
    with pytest.raises(ValueError, match=rf"no new caption can be made of {len(captions)} .*type='classes'"):
        RecombinedCaptions(captions)


# Written from classes.

NAMES = ('wall', 'bed', 'ball', 'office_chair')
# 15 images: weights (16/16)^-1, (8/16)^-1, (4/16)^-1, (1/16)^-1 with balance 1
OCCURRENCES = [['wall', 'wall'] + ['bed'] * (i < 7) + ['ball'] * (i < 3) for i in range(15)]


def written(**options):
    return WrittenCaptions(NAMES, lambda: OCCURRENCES, **options)


@pytest.mark.parametrize(('balance', 'weights'), [(1, (1, 2, 4, 16)), (0.5, (1, 2**0.5, 2, 4)), (0, (1, 1, 1, 1))])
def test_rare_classes_are_told_more_often(balance, weights):
    source = written(balance=balance)
    assert source.weights == pytest.approx(dict(zip(NAMES, weights, strict=True)))
    count = 4000
    first = Counter(source.drawn(number)[0] for number in range(count))
    for name, weight in zip(NAMES, weights, strict=True):
        p = weight / sum(weights)
        assert abs(first[name] - count * p) < 4 * (count * p * (1 - p)) ** 0.5
    # Without replacement: P(bed then wall) = p_bed · p_wall / (1 - p_bed).
    pairs = Counter(tuple(written(balance=balance, num_names=(2, 2)).drawn(number)) for number in range(count))
    p_wall, p_bed = (weight / sum(weights) for weight in weights[:2])
    p = p_bed * p_wall / (1 - p_bed)
    assert abs(pairs['bed', 'wall'] - count * p) < 4 * (count * p * (1 - p)) ** 0.5


def test_numbers_of_names_and_things():
    drawn = [written(num_names=(1, 3)).drawn(number) for number in range(900)]
    counts = Counter(map(len, drawn))
    assert set(counts) == {1, 2, 3} and all(abs(count - 300) < 4 * (900 * 2 / 9) ** 0.5 for count in counts.values())
    texts = WrittenCaptions(['ball'], list, max_count=3, num_names=(1, 1)).captions(300)
    assert set(texts) == {'a photo of a ball', 'a photo of two balls', 'a photo of three balls'}
    one = WrittenCaptions(['office_chair', 'shelf'], list, max_count=2, num_names=(2, 2), plurals=dict(shelf='boards'))
    assert {'a photo of an office chair and two boards', 'a photo of two office chairs and a shelf'} < set(
        one.captions(100)
    ) | set(one.captions(200))


def test_templates_and_bare_names():
    source = written(template='{names} in a room', max_count=None, num_names=(4, 4), without=['wall'])
    told = source.captions(300)
    assert all(
        sorted(text.replace(',', ' ').split()) == sorted('ball bed and chair in a room office'.split()) for text in told
    )
    assert len(set(told)) == 6  # the orders of three
    assert written().captions(30) == written().captions(50)[:30] != written(seed=1).captions(30)


def test_captions_to_avoid_are_drawn_again():
    plain = written(num_names=(1, 1))
    told = set(plain.captions(200))
    assert len(told) == 4
    kept = sorted(told)[:1]
    assert set(written(num_names=(1, 1), avoid=told - set(kept)).captions(200)) == set(kept)
    assert set(written(num_names=(1, 1), avoid=told).captions(9)) <= told  # cannot be avoided


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(template='a photo'), 'no place for {names}'),
        (dict(num_names=(3, 2)), r'num_names is \[3, 2\]'),
        (dict(max_count=7), 'max_count is 7, expected 1 … 6'),
        (dict(balance=-1), 'balance is -1'),
        (dict(without=['x']), 'x: no such class to leave out; known: wall, bed'),
        (dict(without=NAMES), 'there are no class names'),
    ],
)
def test_impossible_settings_of_written_captions(options, message):
    with pytest.raises(ValueError, match=message):
        written(**options)


def test_what_captions_tell():
    nouns = ('ball', 'box', 'bench', 'city', 'key', 'shelf', 'glass', 'brush')
    plurals = ('balls', 'boxes', 'benches', 'cities', 'keys', 'shelves', 'glasses', 'brushes')
    assert tuple(map(plural, nouns)) == plurals and tuple(map(singular, plurals)) == nouns
    captions = ['two balls and a bed on a shelf', 'a red ball, a bedroom', 'Office chairs']
    assert names_in(captions, NAMES) == [{'ball', 'bed'}, {'ball'}, {'office_chair'}]
    assert told_names([*SCENES, 'a green ball in a room']) == ['ball', 'bed', 'bin', 'door']


# A list.


def test_captions_of_a_file_come_in_turn(tmp_path):
    (tmp_path / 'list.txt').write_text('a bed\n\n  two   balls \na ü\n')
    assert ListedCaptions(tmp_path / 'list.txt').captions(5) == ['a bed', 'two balls', 'a ü', 'a bed', 'two balls']
    assert ListedCaptions(tmp_path / 'list.txt').around(['x', 'y']) == ['a bed', 'two balls']
    lines = [dict(image='0.png', caption='a bed'), dict(caption='a bin'), 'a ball']
    (tmp_path / 'list.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    assert ListedCaptions(tmp_path / 'list.jsonl').captions(3) == ['a bed', 'a bin', 'a ball']


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.txt', '\n \n', 'holds no captions'),
        ('a.jsonl', '{"caption": "x"}\n{"text": "y"}', r'a\.jsonl:2: found .*text.* expected {"caption"'),
        ('a.jsonl', '3', r'a\.jsonl:1'),
    ],
)
def test_bad_lists(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        ListedCaptions(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='caption list .* does not exist'):
        ListedCaptions(tmp_path / 'none.txt')


# From the settings.


@pytest.fixture
def dataset(tmp_path):
    """Three images: all have class a, the first b as well, none c."""
    init_default_scope('mmseg')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'images').mkdir()
    for index in range(3):
        label = np.zeros((4, 4), np.uint8)
        label[0] = 1 if index == 0 else 255
        cv2.imwrite(str(tmp_path / f'labels/{index}.png'), label)
        cv2.imwrite(str(tmp_path / f'images/{index}.png'), np.zeros((4, 4, 3), np.uint8))
    prefix = dict(img_path='images', seg_map_path='labels')
    info = dict(classes=('a', 'b', 'c'), palette=[[0] * 3] * 3)
    return DATASETS.build(
        dict(
            type='BaseSegDataset',
            data_root=str(tmp_path),
            img_suffix='.png',
            data_prefix=prefix,
            metainfo=info,
            pipeline=[],
        )
    )


def test_label_frequencies_are_those_of_the_maps(dataset):
    source = scene_captions(dict(type='classes', balance=1.0), [''] * 3, dataset, 0)
    assert source.weights == pytest.approx(dict(a=1.0, b=2.0, c=4.0))
    told = scene_captions(
        dict(type='classes', balance=1.0, counted_in='captions'), ['an a and two bs', 'a', ''], dataset, 0
    )
    assert told.weights == pytest.approx(dict(a=1.0, b=1.5, c=3.0))
    named = scene_captions(dict(type='classes', names=['bed'], num_names=(1, 1)), [], dataset, 0)
    assert named.captions(2) == ['a photo of a bed'] * 2


def test_names_may_come_from_the_captions(dataset):
    dataset.metainfo.clear()
    dataset._metainfo = {}
    source = scene_captions(dict(type='classes', num_names=(1, 1)), SCENES, dataset, 0)
    assert set(source.names) == {'ball', 'bed', 'bin', 'door'}
    assert source.weights['bed'] == pytest.approx((2 / 5) ** -0.5)


def test_training_captions_are_avoided(dataset):
    settings = dict(type='classes', num_names=(1, 1), max_count=None)
    source = scene_captions(settings, ['a photo of a', 'a photo of b'], dataset, 0)
    assert set(source.captions(50)) == {'a photo of c'}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(), 'expected a type; known: recombined, classes, file'),
        (dict(type='blip'), 'known: recombined, classes, file'),
        (dict(type='recombined', path='x'), "type 'recombined': unknown path; known: nothing"),
        (dict(type='file'), "type 'file': no path"),
        (dict(type='classes', size=3), 'unknown size; known: names, counted_in, template, num_names, max_count'),
        (dict(type='classes', counted_in='x'), "counted_in is 'x'"),
    ],
)
def test_unknown_settings(settings, message, dataset):
    with pytest.raises(ValueError, match=message):
        scene_captions(settings, SCENES, dataset, 0)


def test_the_first_key_of_the_draw_is_exponential():
    """-ln u / w of the smallest of one name is all there is: its mean over many draws is 1 / w."""
    source = written(balance=1)
    keys = [-log((source._word(number, 'ball') + 1) / 2**63) / source.weights['ball'] for number in range(4000)]
    assert np.mean(keys) == pytest.approx(1 / 4, rel=4 / 4000**0.5)
