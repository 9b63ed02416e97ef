"""ObjectPaste: labels against a slow reference, what stays, who is in front, where things go, what is drawn."""

from collections import Counter

import numpy as np
import pytest
from mmseg.registry import TASK_UTILS
from tiny_rooms import BIN, FLOOR, NORMALS, PICTURE, WALL, H, Rooms, W

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.colours import changed_colours
from mmdiff2in1.synthesis.layouts import LabelledSample, ObjectPaste
from mmdiff2in1.synthesis.layouts.draws import Draws
from mmdiff2in1.synthesis.layouts.objects import Cut, cut, hidden_share, regions_of
from mmdiff2in1.synthesis.layouts.outline import SIDES, Outline
from mmdiff2in1.synthesis.layouts.pasting import Canvas, enlarged, feet_of, mirrored, paste, visible
from mmdiff2in1.synthesis.layouts.things import learned_things
from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal

ALL = ('semantic_segmentation', 'depth', 'normal')
THINGS = {BIN, PICTURE}


@pytest.fixture(scope='module')
def rooms():
    return Rooms()


@pytest.fixture(scope='module')
def paster(rooms):
    return ObjectPaste().study(rooms)


def region_by_hand(classes, first):
    """Flood fill over 8 neighbours from the first pixel."""
    label, found, todo = classes[first], set(), [tuple(first)]
    while todo:
        y, x = todo.pop()
        if (y, x) in found or not (0 <= y < H and 0 <= x < W) or classes[y, x] != label:
            continue
        found.add((y, x))
        todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return found


def composed_by_hand(rooms, name, pasted):
    """Pixel by pixel: labels of the three tasks, and how often each pixel was pasted over."""
    target = rooms[name]
    classes, depth, normal = (target.labels[task].copy() for task in ALL)
    colours, times = target.image.copy(), np.zeros((H, W), int)
    for facts in pasted:
        source = rooms[facts['source']]
        region = region_by_hand(source.classes, tuple(facts['first']))
        top, left, height, width = facts['at']
        y0, x0, high, wide = facts['box']
        changes = []
        for y in range(height):
            for x in range(width):
                v, u = int((y + 0.5) * high / height), int((x + 0.5) * wide / width)
                if facts['mirrored']:
                    u = wide - 1 - u
                if (y0 + v, x0 + u) not in region:
                    continue
                metres = source.labels['depth'][y0 + v, x0 + u] / np.float32(facts['zoom'])
                there = (top + y, left + x)
                nearer = 1.0 if classes[there] in THINGS else 0.9
                if depth[there] < nearer * metres:
                    continue
                vector = source.labels['normal'][y0 + v, x0 + u] * (-1 if facts['mirrored'] else 1, 1, 1)
                changes.append((there, source.classes[y0 + v, x0 + u], metres, vector, source.image[y0 + v, x0 + u]))
        for there, label, metres, vector, colour in changes:
            classes[there], depth[there], normal[there], colours[there] = label, metres, vector, colour
            times[there] += 1
    return classes, depth, normal, colours, times


def test_labels_are_those_of_a_slow_reference(rooms, paster):
    zooms, flips = [], []
    for name in ('0.png', '3.png', '7.png', '9.png'):
        for seed in range(4):
            made = paster.compose(name, seed)
            classes, depth, normal, _, times = composed_by_hand(rooms, name, made.pasted)
            assert 1 <= len(made.pasted) <= 3 and times.any()
            np.testing.assert_array_equal(made.labels['semantic_segmentation'], classes)
            np.testing.assert_allclose(made.labels['depth'], depth, rtol=1e-6)
            np.testing.assert_allclose(made.labels['normal'], normal, atol=1e-5)
            # What was not pasted over is what it was.
            np.testing.assert_array_equal(made.image[times == 0], rooms[name].image[times == 0])
            assert (made.image[times > 0] != rooms[name].image[times > 0]).any(-1).mean() > 0.9
            assert made.source is rooms[name].image
            zooms += [facts['zoom'] for facts in made.pasted]
            flips += [facts['mirrored'] for facts in made.pasted]
    assert len(set(zooms)) > 5 and min(zooms) < 0.9 and max(zooms) > 1.1 and set(flips) == {True, False}


def test_at_zoom_1_and_with_hard_edges_the_colours_are_the_source_s(rooms):
    paster = ObjectPaste(zoom=(0.999, 1.001), feather=0).study(Rooms(tasks=ALL))
    piece = cut(rooms['1.png'], paster.whole[BIN][0])
    assert enlarged(piece, 1, rooms.tasks, rooms.areas) is piece
    made = [(name, paster.compose(name, seed)) for name in rooms for seed in range(2)]
    assert sum(len(each.pasted) for _, each in made) > 0
    for name, each in made:
        *_, colours, _ = composed_by_hand(rooms, name, each.pasted)
        if all(facts['at'][2:] == facts['box'][2:] for facts in each.pasted):
            assert np.abs(each.image.astype(int) - colours).max() <= 1


def test_other_colours_change_no_label_and_only_what_was_pasted(rooms):
    """Half of the things: with hard edges and nothing enlarged their pixels are the source's under those colours."""
    paster = ObjectPaste(zoom=(0.999, 1.001), feather=0, recolour=0.5).study(rooms)
    recoloured = []
    for name in ('0.png', '3.png', '7.png', '9.png'):
        for seed in range(4):
            made = paster.compose(name, seed)
            classes, *_, times = composed_by_hand(rooms, name, made.pasted)
            np.testing.assert_array_equal(made.labels['semantic_segmentation'], classes)
            np.testing.assert_array_equal(made.image[times == 0], rooms[name].image[times == 0])
            recoloured += ['hue' in facts for facts in made.pasted]
            (facts,) = made.pasted if len(made.pasted) == 1 else (None,)
            if facts is None or facts['at'][2:] != facts['box'][2:] or 'hue' not in facts:
                continue
            y, x, height, width = facts['box']
            piece = rooms[facts['source']].image[y : y + height, x : x + width]
            strengths = {each: facts[each] for each in ('hue', 'brightness', 'saturation')}
            expected = changed_colours(np.ascontiguousarray(piece[..., ::-1]), strengths)[..., ::-1]
            expected = expected[:, ::-1] if facts['mirrored'] else expected
            top, left = facts['at'][:2]
            window = slice(top, top + height), slice(left, left + width)
            seen = times[window] > 0
            assert seen.any() and np.abs(made.image[window][seen].astype(int) - expected[seen]).max() <= 1
            recoloured.append('compared')
    assert recoloured.count('compared') >= 1 and 0.2 < recoloured.count(True) / len(recoloured) < 0.8


def test_equal_seeds_give_equal_bytes_whatever_was_composed_before(rooms, paster):
    again = ObjectPaste().study(Rooms())
    again.compose('5.png', 9)
    for name, seed in (('2.png', 0), ('2.png', 1), ('4.png', 0)):
        one, other = paster.compose(name, seed), again.compose(name, seed)
        assert one.pasted == other.pasted and one.caption == other.caption
        arrays = [(each.image, each.redraw, *each.labels.values()) for each in (one, other)]
        for a, b in zip(*arrays, strict=True):
            assert a.tobytes() == b.tobytes()
    assert paster.compose('2.png', 0).image.tobytes() != paster.compose('2.png', 1).image.tobytes()


@pytest.mark.parametrize('tasks', [('semantic_segmentation',), ('depth',), ('normal',), ('normal', 'depth')])
def test_any_tasks(tasks):
    """Things are cut by the class map, whether or not it is learned."""
    rooms = Rooms(tasks=tasks)
    paster = ObjectPaste().study(rooms)
    made = [paster.compose('0.png', seed) for seed in range(3)]
    assert all(tuple(each.labels) == tasks and each.pasted for each in made)
    for task in tasks:
        assert any((each.labels[task] != rooms['0.png'].labels[task]).any() for each in made)


def test_classes_are_drawn_evenly_however_rare(rooms):
    """One picture in twelve rooms is pasted as often as any bin."""
    few = Rooms()
    for name in list(few)[1:]:
        sample = few[name]
        classes = np.where(sample.classes == PICTURE, WALL, sample.classes).astype(np.uint8)
        few._samples[name] = LabelledSample(name, '', sample.image, {'semantic_segmentation': classes}, classes)
    few.tasks = {'semantic_segmentation': few.areas}
    first = few['0.png']
    few._samples['0.png'] = LabelledSample(
        '0.png', '', first.image, {'semantic_segmentation': first.classes}, first.classes
    )
    paster = ObjectPaste(objects=(1, 1)).study(few)
    assert len(paster.whole[PICTURE]) == 1 < len(paster.whole[BIN])
    made = [paster.compose(name, seed) for name in list(few)[1:] for seed in range(11)]
    counts = Counter(facts['class'] for each in made for facts in each.pasted)
    assert sum(counts.values()) > 120 and abs(counts['picture'] - counts['bin']) < 0.25 * sum(counts.values())


def test_things_stand_and_hang_where_theirs_do(paster, rooms):
    """Bins on the floor, pictures within the wall; without distances things grow towards the viewer."""
    flat = ObjectPaste().study(Rooms(tasks=('semantic_segmentation',)))
    for each in (paster, flat):
        for name in rooms:
            for seed in range(2):
                for facts in each.compose(name, seed).pasted:
                    top, left, height, width = facts['at']
                    under = rooms[name].classes[min(top + height, H - 1), left : left + width]
                    assert (
                        np.isin(under, [WALL, PICTURE]) if facts['class'] == 'picture' else under != WALL
                    ).mean() > 0.5
    rows = np.array([0.6, 0.9])
    small, large = flat.context.zoom(BIN, 0.75, rows)
    assert small < 1 < large
    assert 0.7 < large / small / (8.0 / 8.0 * ((0.9 * H - 24 + 8) / (0.6 * H - 24 + 8))) < 1.4


def canvas_of(sample, things=frozenset(THINGS)):
    feet = feet_of(sample.classes, things)
    return Canvas(sample.image, sample.labels, sample.classes, feet, np.zeros(feet.shape, bool))


def test_the_nearer_wins_pixel_by_pixel(rooms):
    """Half of a flat thing at 3 m lies over a bin at 2 m, the other over the floor, into which it does not sink."""
    classes = np.full((8, 8), FLOOR, np.uint8)
    classes[2:6, 4:] = BIN
    depth = np.where(classes == BIN, 2.0, 2.9).astype(np.float32)
    sample = LabelledSample('', '', np.zeros((8, 8, 3), np.uint8), dict(depth=depth), classes)
    tasks = dict(depth=Depth())
    piece = Cut(np.ones((3, 6), bool), np.full((3, 6, 3), 9, np.uint8), dict(depth=np.full((3, 6), 3.0, np.float32)),
                np.full((3, 6), PICTURE, np.uint8))  # fmt: skip
    seen = visible(canvas_of(sample), piece, 2, 1, tasks, frozenset(THINGS))
    np.testing.assert_array_equal(seen, np.tile(np.arange(6) < 3, (3, 1)))
    after = paste(canvas_of(sample), piece, seen, 2, 1, 0.0)
    np.testing.assert_array_equal(after.labels['depth'][2:5, 1:7], np.tile([3, 3, 3, 2, 2, 2], (3, 1)))
    assert (after.classes[2:5, 1:4] == PICTURE).all() and (after.classes[2:5, 4:7] == BIN).all()
    # Enlarged it is nearer, in front of all.
    near = enlarged(piece, 4 / 3, tasks, rooms.areas)
    assert near.mask.shape == (4, 8)
    np.testing.assert_allclose(near.labels['depth'], 2.25)
    assert visible(canvas_of(sample), near, 2, 0, tasks, frozenset(THINGS)).sum(0).tolist() == [4] * 4 + [0] * 4
    nearer = enlarged(near, 1.125, tasks, rooms.areas)
    narrow = Cut(
        nearer.mask[:, :8], nearer.image[:, :8], dict(depth=nearer.labels['depth'][:, :8]), nearer.classes[:, :8]
    )
    assert visible(canvas_of(sample), narrow, 2, 0, tasks, frozenset(THINGS)).all()
    # A surface far in front hides it after all, and what nobody knows hides nothing.
    wall = np.full((8, 8), 2.0, np.float32)
    wall[:, 0] = 0
    hidden = LabelledSample('', '', sample.image, dict(depth=wall), np.full((8, 8), WALL, np.uint8))
    assert visible(canvas_of(hidden), piece, 2, 0, tasks, frozenset(THINGS)).sum(0).tolist() == [3, 0, 0, 0, 0, 0]


def test_without_distances_what_reaches_further_down_is_in_front():
    classes = np.full((8, 8), FLOOR, np.uint8)
    classes[0:7, 4:] = BIN  # its foot is row 6
    sample = LabelledSample('', '', np.zeros((8, 8, 3), np.uint8), {}, classes)
    piece = Cut(np.ones((3, 6), bool), np.zeros((3, 6, 3), np.uint8), {}, np.full((3, 6), PICTURE, np.uint8))
    behind = visible(canvas_of(sample), piece, 2, 1, {}, frozenset(THINGS))
    assert behind.sum(0).tolist() == [3, 3, 3, 0, 0, 0]
    assert visible(canvas_of(sample), piece, 5, 1, {}, frozenset(THINGS)).all()


def test_a_mirrored_thing_has_mirrored_labels(rooms):
    region = regions_of(rooms['0.png'], rooms.areas, 4)
    piece = cut(rooms['0.png'], next(each for each in region if each.label == BIN))
    turned = mirrored(piece, rooms.tasks, rooms.areas)
    np.testing.assert_array_equal(turned.image, piece.image[:, ::-1])
    np.testing.assert_array_equal(turned.labels['depth'], piece.labels['depth'][:, ::-1])
    x, y, z = NORMALS[BIN]
    np.testing.assert_allclose(turned.labels['normal'][turned.mask], np.tile([-x, y, z], (piece.mask.sum(), 1)))
    arms = SemanticSegmentation(4, mirrored_pairs=[(2, 3)])
    assert (mirrored(piece, rooms.tasks, arms).classes[turned.mask] == 3).all()


def test_neither_colours_nor_labels_of_the_surroundings_leak_in():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 2] = mask[2, :] = True
    image = np.where(mask[..., None], np.uint8([200, 10, 50]), np.uint8(0))
    normal = np.where(mask[..., None], np.float32([0, 0.6, 0.8]), np.float32([1, 0, 0]))
    piece = Cut(mask, image, dict(normal=normal), np.where(mask, BIN, WALL).astype(np.uint8))
    for zoom in (0.6, 1.0, 1.7, 3.0):
        large = enlarged(piece, zoom, dict(normal=SurfaceNormal()), SemanticSegmentation(4))
        assert np.abs(large.image[large.mask].astype(int) - [200, 10, 50]).max() <= 1
        vectors = large.labels['normal'][large.mask]
        known = vectors.any(-1)
        np.testing.assert_allclose(vectors[known], np.tile([0, 0.6, 0.8], (known.sum(), 1)), atol=1e-6)
        assert (large.classes[large.mask] == BIN).all()


def test_the_seam_is_soft_in_the_image_alone():
    sample = LabelledSample('', '', np.zeros((12, 12, 3), np.uint8), {}, np.full((12, 12), WALL, np.uint8))
    piece = Cut(np.ones((6, 6), bool), np.full((6, 6, 3), 200, np.uint8), {}, np.full((6, 6), BIN, np.uint8))
    after = paste(canvas_of(sample), piece, piece.mask, 3, 3, 1.0)
    assert not after.image[:3].any() and not after.image[:, 9:].any()
    assert 0 < after.image[3, 3, 0] < after.image[3, 6, 0] < 200 == after.image[6, 6, 0]
    np.testing.assert_array_equal(after.pasted, after.classes == BIN)
    assert after.pasted.sum() == 36 and (after.feet[after.pasted] == 8).all() and not sample.image.any()


@pytest.mark.parametrize('redraw', ['seam', 'surroundings', 'all'])
def test_what_a_generator_may_redraw(rooms, redraw):
    paster = ObjectPaste(redraw=redraw, seam=1, feather=0, objects=(1, 1)).study(rooms)
    made = next(each for each in (paster.compose('0.png', seed) for seed in range(9)) if each.pasted)
    pasted = composed_by_hand(rooms, '0.png', made.pasted)[-1] > 0
    padded = np.pad(pasted, 1, mode='edge')
    inner = np.all([padded[dy : dy + H, dx : dx + W] for dy in range(3) for dx in range(3)], axis=0)
    outer = np.any([np.pad(pasted, 1)[dy : dy + H, dx : dx + W] for dy in range(3) for dx in range(3)], axis=0)
    expected = dict(seam=outer & ~inner, surroundings=~inner, all=np.ones_like(inner))[redraw]
    np.testing.assert_array_equal(made.redraw > 0.5, expected)
    np.testing.assert_array_equal(made.redrawn(np.zeros_like(made.image)), made.image * ~expected[..., None])


def test_the_caption_names_what_was_pasted(rooms, paster):
    made = paster.compose('3.png', 1)
    assert made.caption == ', '.join(['room 3', *(facts['class'] for facts in made.pasted)])
    assert all(facts['class'] == ('bin', 'picture')[facts['label'] - BIN] for facts in made.pasted)


def test_what_ends_within_the_picture_is_a_thing(rooms):
    regions = [region for name in rooms for region in regions_of(rooms[name], rooms.areas, 4)]
    assert learned_things(regions, 4) == [BIN, PICTURE]


def test_an_unlabelled_frame_is_a_border(rooms):
    sample = rooms['0.png']
    framed = np.full((H, W), 255, np.uint8)
    framed[4:-4, 4:-4] = sample.classes[4:-4, 4:-4]
    framed[10:14, 4:9] = PICTURE
    found = regions_of(LabelledSample('', '', sample.image, {}, framed), rooms.areas, 4)
    assert [region.at_border for region in found if region.box[:2] == (10, 4)] == [True]
    assert all(region.at_border for region in found if region.label in (WALL, FLOOR))
    assert not any(region.edges for region in found)


def test_a_thing_at_an_edge_is_put_at_that_edge():
    rooms = Rooms(tasks=('semantic_segmentation',))
    for name in rooms:
        sample = rooms[name]
        classes = np.full((H, W), WALL, np.uint8)
        classes[24:] = FLOOR
        classes[30:44, :9] = BIN
        rooms._samples[name] = LabelledSample(name, '', sample.image, {'semantic_segmentation': classes}, classes)
    target = rooms['0.png'].classes.copy()
    target[target == BIN] = FLOOR
    target[30:44, :9] = WALL
    target[:] = np.where(np.arange(H)[:, None] < 24, WALL, FLOOR)
    rooms._samples['0.png'] = LabelledSample(
        '0.png', '', rooms['0.png'].image, {'semantic_segmentation': target}, target
    )
    paster = ObjectPaste(classes=['bin'], objects=(1, 1)).study(rooms)
    found = [facts for seed in range(20) for facts in paster.compose('0.png', seed).pasted]
    assert {facts['at'][1] if not facts['mirrored'] else facts['at'][1] + facts['at'][3] for facts in found} == {0, W}
    assert len(found) > 10


def test_a_hidden_thing_is_not_cut_out():
    classes = np.full((12, 12), WALL, np.uint8)
    classes[2:10, 2:8] = BIN
    classes[4:9, 6:11] = PICTURE
    depth = np.where(classes == PICTURE, 1.0, np.where(classes == BIN, 2.0, 3.0)).astype(np.float32)
    for known in (dict(depth=depth), {}):
        sample = LabelledSample('', '', np.zeros((12, 12, 3), np.uint8), known, classes)
        found = {region.label: region for region in regions_of(sample, SemanticSegmentation(4), 4)}
        bin, picture = (
            hidden_share(sample, found[label], dict(depth=Depth()), frozenset(THINGS)) for label in (BIN, PICTURE)
        )
        assert bin > 0.1 and (picture == 0) == bool(known), 'without distances either may be in front'


def test_contacts_are_the_pixels_beside_the_mask():
    mask = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]], bool)
    classes = np.array([
        [0, 0, 1, 2, 0, 0],
        [0, 0, 9, 9, 0, 0],
        [3, 9, 9, 9, 9, 1],
        [0, 0, 9, 9, 2, 0],
        [0, 0, 3, 1, 0, 0],
    ], np.uint8)  # fmt: skip
    found = Outline.of(mask).contacts(classes, np.array([[3.0, 2.5]]), np.ones(1), 4)[0]
    expected = dict(below=[0, 0.5, 0, 0.5], above=[0, 0.5, 0.5, 0], beside=[3 / 6, 1 / 6, 1 / 6, 1 / 6])
    for side, shares in zip(SIDES, found, strict=True):
        np.testing.assert_allclose(shares, expected[side], err_msg=side)
    # Beyond the picture nothing is known.
    gone = Outline.of(mask).contacts(classes, np.array([[4.0, 2.5]]), np.ones(1), 4)[0]
    assert not gone[SIDES.index('below')].any()
    assert np.array_equal(
        Outline.of(mask[:, ::-1]).pixels['below'][:, 0], Outline.of(mask).mirrored().pixels['below'][:, 0]
    )


def test_draws_are_the_same_for_ever():
    draws = Draws('layout', 'a.png', 3)
    assert [round(draws.share(), 6) for _ in range(3)] == [0.349942, 0.00754, 0.984187]
    values = np.array([Draws('x', i).share() for i in range(2000)])
    assert abs(values.mean() - 0.5) < 0.02 and 0 <= values.min() and values.max() < 1
    assert Counter(Draws('y', i).integer(1, 3) for i in range(3000)).keys() == {1, 2, 3}
    assert sorted(Draws('z').shuffled([1, 2, 3, 4])) == [1, 2, 3, 4]


def test_nothing_fits_and_nothing_is_changed(rooms):
    """A picture of floor alone: bins would need other distances, pictures a wall."""
    empty = Rooms()
    classes = np.full((H, W), WALL, np.uint8)
    depth = np.full((H, W), 50.0, np.float32)
    sample = empty['0.png']
    labels = dict(semantic_segmentation=classes, depth=depth, normal=sample.labels['normal'])
    empty._samples['0.png'] = LabelledSample('0.png', 'a desert', sample.image, labels, classes)
    made = ObjectPaste().study(empty).compose('0.png', 0)
    assert made.pasted == [] and made.caption == 'a desert'
    np.testing.assert_array_equal(made.image, sample.image)
    assert not made.redraw.any()


def test_settings_are_told_in_full_and_built_again(rooms):
    layout = TASK_UTILS.build(dict(type='ObjectPaste', objects=(2, 2), classes=['bin'], redraw='all'))
    assert TASK_UTILS.build({k: v for k, v in layout.settings.items() if k != 'version'}).settings == layout.settings
    assert layout.settings['version'] == 1 and layout.settings['objects'] == [2, 2]
    assert set(layout.study(rooms).whole) == {BIN}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(objects=(0, 2)), r'objects=\(0, 2\)'),
        (dict(zoom=(1.2, 2)), 'zoom='),
        (dict(mirror=1.5), 'mirror=1.5: expected a share'),
        (dict(feather=-1), 'feather=-1'),
        (dict(redraw='some'), "unknown layout.redraw='some'; known: seam, surroundings, all"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ObjectPaste(**settings)


def test_classes_that_are_not_there(rooms):
    with pytest.raises(ValueError, match="holds 'lamp', which is no class of the data set; known: Wall, Floor, Bin"):
        ObjectPaste(classes=['lamp']).study(rooms)
    with pytest.raises(ValueError, match='found no whole thing in 12 labelled images; classes of things: floor'):
        ObjectPaste(classes=[FLOOR], smallest=0.9).study(rooms)
