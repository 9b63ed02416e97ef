"""Image and maps keep together: a rendered room after zoom, crop, mirror and padding is still that room."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny_multitask import PERSON, box, in_8_bits, write

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.datasets.scenes import render_scene
from mmdiff2in1.datasets.scenes.layout import draw_layout
from mmdiff2in1.datasets.scenes.vocabulary import CLASSES, STANDING
from mmdiff2in1.datasets.transforms import DenseRandomCrop, IgnoreWithoutPersons
from mmdiff2in1.models.image_region import image_region
from mmdiff2in1.tasks import Edges, HumanParts, SurfaceNormal

S, SCENE = 64, (7, 3)
CROP = (48, 60)
TASKS = ('Depth', 'SurfaceNormal', 'HumanParts', 'Saliency', 'Edges')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def scene():
    return render_scene(*SCENE, S)


@pytest.fixture(scope='module')
def loaded(scene, tmp_path_factory):
    """Results after loading, with an image whose channels are the coordinates (x, y) of pixel centres, and 100."""
    init_default_scope('mmseg')
    root = tmp_path_factory.mktemp('scene')
    rng = np.random.default_rng(0)
    maps = dict(
        image=scene.image,
        seg=scene.semantic,
        normal=in_8_bits(scene.normal),
        human_parts=rng.integers(0, 7, (S, S)).astype(np.uint8),
        saliency=rng.integers(0, 2, (S, S)).astype(np.uint8),
        edge=rng.integers(0, 256, (S, S)).astype(np.uint8),
    )
    for name, array in maps.items():
        write_png(root / f'{name}.png', array)
    write(root / 'depth.npy', scene.depth)
    info = {f'{name}_map_path': str(root / f'{name}.png') for name in maps} | dict(
        img_path=str(root / 'image.png'),
        depth_map_path=str(root / 'depth.npy'),
        reduce_zero_label=False,
        seg_fields=[],
    )
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadClassAnnotation')]
    results = Compose([*steps, *(dict(type='LoadDenseAnnotation', task=dict(type=task)) for task in TASKS)])(info)
    y, x = np.mgrid[:S, :S] + 0.5
    results['img'] = np.stack([x, y, np.full((S, S), 100.0)], -1).astype(np.float32)
    return results


def fresh(loaded):
    """A copy, maps and lists included."""
    return {key: value.copy() if hasattr(value, 'copy') else value for key, value in loaded.items()}


STEPS = [
    dict(type='RandomZoom', ratio_range=(0.5, 2.0)),
    dict(type='DenseRandomCrop', crop_size=CROP, cat_max_ratio=0.75),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='PackDenseInputs'),
]
FIELDS = dict(
    gt_sem_seg=255, gt_depth_map=0, gt_normal_map=0, gt_human_parts=255, gt_saliency=255, gt_edge=255.0
)  # fmt: skip


def one(loaded, steps=STEPS):
    """Padded: image (3, H, W), fields by name, metainfo."""
    packed = Compose(steps)(fresh(loaded))
    preprocessor = MODELS.build(dict(type='DenseDataPreProcessor', size=(64, 70), centred=True))
    data = preprocessor(pseudo_collate([packed]), training=True)
    (sample,) = data['data_samples']
    return data['inputs'][0].numpy(), {key: sample.get(key).data.numpy() for key in FIELDS}, sample.metainfo


@pytest.mark.parametrize('seed', range(8))
def test_a_rendered_room_stays_that_room(loaded, scene, seed):
    """Every value of every map stands where the image shows the pixel that it belongs to; outside nothing is known."""
    np.random.seed(seed)
    image, found, meta = one(loaded)
    rows, columns = image_region(meta, image.shape[-2:])
    outside = np.ones(image.shape[-2:], bool)
    outside[rows, columns] = False
    assert not image[:, outside].any()
    for field, nothing in FIELDS.items():
        assert set(found[field][:, outside].ravel().tolist()) == {nothing}

    x, y, hundred = image[:, rows, columns]
    np.testing.assert_allclose(hundred, 100, rtol=1e-6)
    between = (np.abs(x - np.round(x)) > 1e-3) & (np.abs(y - np.round(y)) > 1e-3)  # not on the edge of two pixels
    assert between.mean() > 0.4
    inside = {field: array[:, rows, columns][:, between] for field, array in found.items()}
    v, u = y[between].astype(int), x[between].astype(int)
    zoom = float(np.sqrt(np.prod(meta['scale_factor'])))
    mirror = -1 if meta['flip'] else 1
    assert mirror * (x[:, -1] - x[:, 0]).mean() > 0
    np.testing.assert_array_equal(inside['gt_sem_seg'][0], scene.semantic[v, u])
    np.testing.assert_allclose(inside['gt_depth_map'][0], scene.depth[v, u] / zoom, rtol=1e-5)
    normal = SurfaceNormal().decode(in_8_bits(scene.normal)) * np.float32([mirror, 1, 1])
    np.testing.assert_array_equal(inside['gt_normal_map'].T, normal[v, u])
    for field in ('gt_human_parts', 'gt_saliency', 'gt_edge'):
        np.testing.assert_array_equal(inside[field][0], loaded[field][v, u])


def off_the_plane(image, found, meta, sign=1):
    """How far neighbours lie off the plane that their normal says they share: |n · d|, d of length 1.

    After a zoom by s with depth over s it is the room at 1 / s of its size, seen with s times the focal length.
    """
    rows, columns = image_region(meta, image.shape[-2:])
    x, y, _ = np.floor(image[:, rows, columns]) + 0.5
    mirror = -1 if meta['flip'] else 1
    focal = S / 2 / np.tan(draw_layout(np.random.default_rng(list(SCENE))).camera.fov / 2)
    ray = np.stack([mirror * (x - S / 2) / focal, (y - S / 2) / focal, np.ones_like(x)], -1)
    points = ray * found['gt_depth_map'][0, rows, columns][..., None]
    normal = -found['gt_normal_map'][:, rows, columns].transpose(1, 2, 0) * np.float32([sign, 1, 1])
    classes = found['gt_sem_seg'][0, rows, columns]
    values = []
    for here, there in (((slice(None), slice(None, -3)), (slice(None), slice(3, None))),
                        ((slice(None, -3), slice(None)), (slice(3, None), slice(None)))):  # fmt: skip
        d = points[here] - points[there]
        length = np.linalg.norm(d, axis=-1)
        same = (normal[here] == normal[there]).all(-1) & (classes[here] == classes[there]) & (length > 1e-6)
        values.append(np.abs((normal[here] * d).sum(-1))[same] / length[same])
    return np.concatenate(values)


@pytest.fixture(scope='module')
def rendered(loaded, scene):
    """Saliency and edges as the renderer gives them, too."""
    return loaded | dict(gt_saliency=scene.saliency, gt_edge=scene.edge)


GEOMETRY = {
    'none': [],
    'zoom': STEPS[:1],
    'enlarged': [dict(type='DenseResize', scale=(96, 96), keep_ratio=True, scale_values=True)],
    'reduced': [dict(type='DenseResize', scale=(40, 40), keep_ratio=True, scale_values=True)],
    'crop': STEPS[1:2],
    "mmseg's crop": [dict(type='RandomCrop', crop_size=CROP, cat_max_ratio=0.75)],
    'mirror': [dict(type='DenseRandomFlip', prob=1.0)],
    'all': STEPS[:3],
}


@pytest.mark.parametrize('steps', GEOMETRY.values(), ids=GEOMETRY)
def test_saliency_and_edges_still_belong_to_the_classes(rendered, steps):
    """What is salient are the classes that stand in the room; edges lie within a pixel of where classes meet."""
    standing = [CLASSES.index(name) for name in STANDING]
    for seed in range(4):
        np.random.seed(seed)
        results = Compose(steps)(fresh(rendered))
        classes, salient, edge = (results[key] for key in ('gt_seg_map', 'gt_saliency', 'gt_edge'))
        np.testing.assert_array_equal(salient, np.isin(classes, standing))
        meet = np.zeros(classes.shape, bool)
        down, up, right, left = np.s_[1:], np.s_[:-1], np.s_[:, 1:], np.s_[:, :-1]
        diagonals = (np.s_[1:, 1:], np.s_[:-1, :-1]), (np.s_[1:, :-1], np.s_[:-1, 1:])
        for here, there in ((down, up), (right, left), *diagonals):
            differ = classes[here] != classes[there]
            meet[here] |= differ
            meet[there] |= differ
        near = cv2.dilate(meet.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        rows, columns = (slice(2, side - 2) for side in classes.shape)  # a border may lie just outside of a crop
        lines = edge[rows, columns] == 1
        assert lines.sum() > 20 and set(np.unique(edge)) == {0, 1}
        assert near[rows, columns][lines].all()
        assert (edge[rows, columns] == 1)[meet[rows, columns]].mean() > 0.3  # and edges are where classes meet
    mirrored = results | dict(gt_saliency=results['gt_saliency'][:, ::-1])
    assert (mirrored['gt_saliency'] != np.isin(classes, standing)).any()


@pytest.mark.parametrize('seed', range(6))
def test_depth_and_normals_still_describe_the_same_surfaces(loaded, seed):
    np.random.seed(seed)
    image, found, meta = one(loaded)
    right = off_the_plane(image, found, meta)
    assert len(right) > 500 and (right < 0.02).mean() > 0.95
    wrong = off_the_plane(image, found, meta, sign=-1)  # a mirror that leaves x as it is
    assert (wrong < 0.02).mean() < (right < 0.02).mean() - 0.1


def test_the_factor_is_one_for_all_and_sizes_are_cut_off(loaded):
    for factor, size in ((0.5, (32, 32)), (1.3, (83, 83)), (2.0, (128, 128))):
        _, found, meta = one(loaded, [dict(type='RandomZoom', ratio_range=(factor, factor)), STEPS[-1]])
        assert meta['img_shape'] == size
    np.testing.assert_array_equal(found['gt_depth_map'][0], loaded['gt_depth_map'].repeat(2, 0).repeat(2, 1) / 2)
    with pytest.raises(ValueError, match='ratio_range=.* expected two factors above 0'):
        Compose([dict(type='RandomZoom', ratio_range=(2.0, 0.5))])


class TestCrop:
    """`cat_max_ratio` where there are classes."""

    def results(self, **maps):
        image = np.zeros((20, 60, 3), np.uint8)
        image[..., 0] = np.arange(60)
        return dict(img=image, seg_fields=list(maps), **maps)

    def share(self, **maps):
        """How many of 300 crops have at most 3/4 of one class: those whose left column is 36 … 40 of 0 … 40."""
        np.random.seed(0)
        crop = DenseRandomCrop((20, 20), cat_max_ratio=0.75)
        return np.mean([crop(self.results(**maps))['img'][0, 0, 0] >= 36 for _ in range(300)])

    def test_ten_tries(self):
        """1 − (36/41)^11 = 0.76, as the eleventh place is taken unseen; 5/41 = 0.12 where nobody looks."""
        classes = np.zeros((20, 60), np.uint8)
        classes[:, 50:] = 1
        for key in ('gt_seg_map', 'gt_sem_seg'):
            assert self.share(**{key: classes}) == pytest.approx(1 - (36 / 41) ** 11, abs=0.07)
        assert self.share() == pytest.approx(5 / 41, abs=0.06)
        assert self.share(gt_seg_map=np.full_like(classes, 255)) == pytest.approx(5 / 41, abs=0.06)

    def test_without_classes_one_place_is_drawn(self):
        np.random.seed(5)
        DenseRandomCrop((20, 20), cat_max_ratio=0.75)(self.results(gt_seg_map=np.full((20, 60), 255, np.uint8)))
        state = np.random.get_state()[1].tolist()
        np.random.seed(5)
        np.random.randint(0, 1), np.random.randint(0, 41)
        assert np.random.get_state()[1].tolist() == state


def test_a_crop_without_persons_is_ignored():
    task = HumanParts()
    parts = np.zeros((40, 56), np.uint8)
    parts[PERSON[3]['head']], parts[box(0, 3, 0, 56)] = 1, 255
    step = IgnoreWithoutPersons()

    def after(array, **others):
        return step(dict(gt_human_parts=array, dense_tasks=dict(gt_human_parts=task), **others))['gt_human_parts']

    np.testing.assert_array_equal(after(parts), parts)
    np.testing.assert_array_equal(after(parts[:, 25:]), 255)
    edge = np.zeros((4, 4), np.float32)
    kept = step(dict(gt_edge=edge, dense_tasks=dict(gt_edge=Edges())))['gt_edge']
    np.testing.assert_array_equal(kept, edge)


class TestCentredPadding:
    """NYUD-MT's 425 × 560 in 448 × 576: 11 above, 12 below, 8 at both sides."""

    MEAN = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)

    def data(self, *sizes):
        init_default_scope('mmseg')
        packed = []
        for height, width in sizes:
            results = dict(
                img=np.full((height, width, 3), 200, np.uint8),
                img_shape=(height, width),
                ori_shape=(height, width),
                gt_seg_map=np.full((height, width), 4, np.uint8),
            )
            packed.append(Compose([dict(type='PackDenseInputs')])(results))
        return pseudo_collate(packed)

    def test_training(self):
        preprocessor = MODELS.build(dict(type='DenseDataPreProcessor', size=(448, 576), centred=True, **self.MEAN))
        data = preprocessor(self.data((425, 560), (448, 576), (448, 500)), training=True)
        assert data['inputs'].shape == (3, 3, 448, 576)
        regions = [(slice(11, 436), slice(8, 568)), (slice(0, 448), slice(0, 576)), (slice(0, 448), slice(38, 538))]
        for image, sample, region in zip(data['inputs'], data['data_samples'], regions, strict=True):
            inside = torch.zeros(448, 576, dtype=torch.bool)
            inside[region] = True
            assert image_region(sample.metainfo, (448, 576)) == region
            assert (image[:, inside] > 1).all() and not image[:, ~inside].any(), 'the mean is 0'
            assert torch.equal(sample.gt_sem_seg.data[0], torch.where(inside, 4, 255))
        assert data['data_samples'][0].padding_size == (8, 8, 11, 12)

    def test_test(self):
        preprocessor = MODELS.build(
            dict(
                type='DenseDataPreProcessor', size=(448, 576), centred=True, test_cfg=dict(size=(448, 576)), **self.MEAN
            )
        )
        data = preprocessor(self.data((425, 560)), training=False)
        assert data['inputs'].shape == (1, 3, 448, 576) and data['data_samples'][0].img_padding_size == (8, 8, 11, 12)
        assert not data['inputs'][..., :11, :].any() and (data['inputs'][..., 11:436, 8:568] > 1).all()
        assert data['data_samples'][0].gt_sem_seg.data.shape == (1, 425, 560)
        without = MODELS.build(dict(type='DenseDataPreProcessor', size=(448, 576), centred=True, **self.MEAN))
        assert without(self.data((425, 560)), training=False)['inputs'].shape == (1, 3, 425, 560)
