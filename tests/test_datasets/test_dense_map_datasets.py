"""Normals and depth sets: every published layout, lists of several columns, frames, scene kinds, what is refused."""

import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.datasets import NYUDataset
from mmseg.registry import DATASETS

import mmdiff2in1.components  # noqa: F401  registers the transforms
from mmdiff2in1.core.dataset_images import list_images
from mmdiff2in1.datasets.dense_map_dataset import DenseMapDataset
from mmdiff2in1.datasets.nyuv2 import VALID_BOX, NYUv2DepthDataset, NYUv2NormalDataset
from mmdiff2in1.datasets.scannet import ScanNetNormalDataset
from mmdiff2in1.synthesis.sources import label_files
from mmdiff2in1.tasks import Depth, SurfaceNormal

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', ROOT / 'data/samples'))
SIZE = (12, 16)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def write(root, *names):
    """Images, normal maps (norm, normal) and depth maps (depth, annotations) by their names; all 12 × 16."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if 'norm' in name:
            array = SurfaceNormal().encode(np.broadcast_to(np.float32([0, 0.6, 0.8]), (*SIZE, 3)))[..., ::-1]
        elif 'depth' in name or 'annotations' in name:
            array = Depth().encode(np.full(SIZE, 2.5, np.float32))
        else:
            array = np.full((*SIZE, 3), 90, np.uint8)
        assert cv2.imwrite(str(path), array)


def pairs(dataset, key):
    """[(image, map), …] below the data root."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    root = dataset.data_root
    return [(os.path.relpath(info['img_path'], root), os.path.relpath(info[key], root)) for info in infos]


def loaded(dataset_type, task, **cfg):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=dict(type=task))]
    return DATASETS.build(dict(type=dataset_type, pipeline=pipeline, **cfg))[0]


class TestNormals:
    """The three layouts of NYUv2, the two of ScanNet."""

    def test_bae(self, tmp_path):
        write(tmp_path, *(f'{part}/{kind}/{name}.png' for part, name in (('train', '000002'), ('train', '000010'),
              ('test', '000000')) for kind in ('img', 'norm')))  # fmt: skip
        train = NYUv2NormalDataset(data_root=str(tmp_path))
        assert pairs(train, 'normal_map_path') == [
            ('train/img/000002.png', 'train/norm/000002.png'),
            ('train/img/000010.png', 'train/norm/000010.png'),
        ]
        assert len(NYUv2NormalDataset(part='test', data_root=str(tmp_path))) == 1
        assert len(NYUv2NormalDataset(data_root=str(tmp_path), indices=1)) == 1
        info = train.get_data_info(0)
        assert info['seg_fields'] == [] and info['valid_box'] == VALID_BOX and 'label_axes' not in info
        # 426 × 560 pixels of 480 × 640.
        top, bottom, left, right = VALID_BOX
        assert ((bottom - top) * 480, (right - left) * 640) == pytest.approx((426, 560))
        assert label_files(train) == {
            str(tmp_path / f'train/img/{n}.png'): dict(normal_map_path=str(tmp_path / f'train/norm/{n}.png'))
            for n in ('000002', '000010')
        }
        assert list_images(train) == (
            str(tmp_path),
            [str(tmp_path / f'train/img/{n}.png') for n in ('000002', '000010')],
        )

    def test_lists_of_both_forms(self, tmp_path):
        """Bae's own list of two columns, and names as make_splits.py writes them."""
        write(tmp_path, *(f'train/{kind}/00000{i}.png' for i in range(4) for kind in ('img', 'norm')))
        (tmp_path / 'nyu_train.txt').write_text(
            'train/img/000003.png train/norm/000003.png\ntrain/img/000001.png train/norm/000001.png\n\n'
        )
        dataset = NYUv2NormalDataset(data_root=str(tmp_path), ann_file='nyu_train.txt')
        assert pairs(dataset, 'normal_map_path') == [
            ('train/img/000003.png', 'train/norm/000003.png'),
            ('train/img/000001.png', 'train/norm/000001.png'),
        ]
        tool = load_tool('make_splits')
        assert tool.main([str(tmp_path / 'train/img'), '--count', '2', '--out', str(tmp_path / 'splits')]) == 0
        drawn = (tmp_path / 'splits/2images-seed0.txt').read_text().split()
        dataset = NYUv2NormalDataset(data_root=str(tmp_path), ann_file='splits/2images-seed0.txt')
        expected = [(f'train/img/{name}.png', f'train/norm/{name}.png') for name in drawn]
        assert len(drawn) == 2 and pairs(dataset, 'normal_map_path') == expected

    def test_idisc(self, tmp_path):
        stem = 'bedroom/574125-1994190302.png'
        write(tmp_path, f'train/img/{stem}', f'train/norm/{stem}', f'train/depth/{stem}')
        (tmp_path / 'nyu_train.txt').write_text(f'train/img/{stem} train/depth/{stem} train/norm/{stem}\n')
        expected = [(f'train/img/{stem}', f'train/norm/{stem}')]
        for ann_file in ('', 'nyu_train.txt'):
            dataset = NYUv2NormalDataset(layout='idisc', data_root=str(tmp_path), ann_file=ann_file)
            assert pairs(dataset, 'normal_map_path') == expected

    def test_dsine(self, tmp_path):
        write(
            tmp_path, 'test/000000_img.png', 'test/000000_normal.png', 'test/000001_img.png', 'test/000001_normal.png'
        )
        dataset = NYUv2NormalDataset(layout='dsine', part='test', data_root=str(tmp_path))
        assert pairs(dataset, 'normal_map_path')[1] == ('test/000001_img.png', 'test/000001_normal.png')
        (tmp_path / 'test.txt').write_text('test/000001_img.png\n')
        dataset = NYUv2NormalDataset(layout='dsine', part='test', data_root=str(tmp_path), ann_file='test.txt')
        assert pairs(dataset, 'normal_map_path') == [('test/000001_img.png', 'test/000001_normal.png')]

    def test_framenet_files_are_turned_round(self, tmp_path):
        scene = 'scannet-frames/scene0000_00'
        write(tmp_path, f'{scene}/frame-000010-color.png', f'{scene}/frame-000010-normal.png')
        write(tmp_path, f'{scene}/frame-000010-orient.png')
        normal = cv2.imread(str(tmp_path / f'{scene}/frame-000010-normal.png'), cv2.IMREAD_UNCHANGED)
        normal[:4] = np.iinfo(normal.dtype).max // 2  # grey: no direction at all
        cv2.imwrite(str(tmp_path / f'{scene}/frame-000010-normal.png'), normal)
        mask = np.full(normal.shape[:2], 255, np.uint8)
        mask[:4] = 0
        cv2.imwrite(str(tmp_path / f'{scene}/frame-000010-orient-mask.png'), mask)
        (tmp_path / 'train.txt').write_text('scene0000_00/frame-000010\n')
        for ann_file in ('', 'train.txt'):
            dataset = ScanNetNormalDataset(data_root=str(tmp_path), ann_file=ann_file)
            assert pairs(dataset, 'normal_map_path') == [
                (f'{scene}/frame-000010-color.png', f'{scene}/frame-000010-normal.png')
            ]
        info = dataset.get_data_info(0)
        assert info['label_axes'] == ('-x', '-y', '-z') and 'valid_box' not in info
        found = loaded('ScanNetNormalDataset', 'SurfaceNormal', data_root=str(tmp_path))['gt_normal_map']
        np.testing.assert_allclose(found[5, 5], [0, -0.6, -0.8], atol=1e-4)
        assert not found[:4].any() and found[4:].any(-1).all()
        with pytest.raises(ValueError, match='vectors of the label file have a length like'):
            loaded('ScanNetNormalDataset', 'SurfaceNormal', data_root=str(tmp_path), mask_suffix=None)
        (tmp_path / f'{scene}/frame-000010-orient-mask.png').unlink()
        with pytest.raises(FileNotFoundError, match='expected the valid_mask_path of a sample'):
            ScanNetNormalDataset(data_root=str(tmp_path))

    def test_scannet_of_dsine_is_not(self, tmp_path):
        write(tmp_path, 'scene0532_00/000000_img.png', 'scene0532_00/000000_normal.png')
        (tmp_path / 'test.txt').write_text('scene0532_00/000000_img.png\n')
        for ann_file in ('', 'test.txt'):
            cfg = dict(data_root=str(tmp_path), layout='dsine', ann_file=ann_file)
            expected = [('scene0532_00/000000_img.png', 'scene0532_00/000000_normal.png')]
            assert pairs(ScanNetNormalDataset(**cfg), 'normal_map_path') == expected
            found = loaded('ScanNetNormalDataset', 'SurfaceNormal', **cfg)['gt_normal_map']
            np.testing.assert_allclose(found[5, 5], [0, 0.6, 0.8], atol=1e-4)

    @pytest.mark.skipif(not (SAMPLES / 'nyuv2/multitask_preview').is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_sample_in_this_frame(self, tmp_path):
        """Ladicky's normals of a NYUv2 image: a wall in front, a table top, a door on the left that faces right."""
        source = SAMPLES / 'nyuv2/multitask_preview'
        normal = cv2.imread(str(source / 'normal.png'), cv2.IMREAD_UNCHANGED)
        for part in ('img', 'norm'):
            (tmp_path / 'train' / part).mkdir(parents=True)
        image = cv2.resize(cv2.imread(str(source / 'image.png')), (640, 480))
        cv2.imwrite(str(tmp_path / 'train/img/0.png'), image)
        cv2.imwrite(str(tmp_path / 'train/norm/0.png'), normal)
        cfg = dict(data_root=str(tmp_path), label_axes=('-z', '-y', '-x'))
        found = loaded('NYUv2NormalDataset', 'SurfaceNormal', **cfg)['gt_normal_map']
        wall, table, door = found[60:250, 260:400], found[350:380, 200:240], found[60:320, 70:140]
        for region, axis, sign in ((wall, 2, 1), (table, 1, 1), (door, 0, -1)):
            mean = region.reshape(-1, 3).mean(0)
            assert sign * mean[axis] > 0.85, mean


class TestDepth:
    """mmseg's and VPD's layouts, kinds of scenes."""

    def test_mmseg(self, tmp_path):
        names = ('bookstore_0001d_00001', 'home_office_0004_00012', 'office_kitchen_0001_00003')
        write(tmp_path, *(f'images/train/{name}.jpg' for name in names))
        write(tmp_path, *(f'annotations/train/{name}.png' for name in names))
        dataset = NYUv2DepthDataset(data_root=str(tmp_path))
        assert pairs(dataset, 'depth_map_path')[0] == (
            'images/train/bookstore_0001d_00001.jpg',
            'annotations/train/bookstore_0001d_00001.png',
        )
        # The same samples and classes as mmseg's own data set reads.
        prefix = dict(img_path='images/train', depth_map_path='annotations/train')
        theirs = NYUDataset(data_root=str(tmp_path), data_prefix=prefix)
        for index in range(3):
            ours, other = dataset.get_data_info(index), theirs.get_data_info(index)
            assert all(ours[key] == other[key] for key in ('img_path', 'depth_map_path', 'category_id', 'seg_fields'))
        found = loaded('NYUv2DepthDataset', 'Depth', data_root=str(tmp_path))['gt_depth_map']
        np.testing.assert_array_equal(found, np.full(SIZE, 2.5, np.float32))

    def test_vpd(self, tmp_path):
        scenes = ('kitchen_0028b', 'nyu_office_0', 'study_room_0004')
        for scene in scenes:
            write(tmp_path, f'sync/{scene}/rgb_00045.jpg', f'sync/{scene}/sync_depth_00045.png')
        write(tmp_path, 'official_splits/test/bathroom/rgb_00507.jpg')
        write(tmp_path, 'official_splits/test/bathroom/sync_depth_00507.png')
        train = NYUv2DepthDataset(layout='vpd', data_root=str(tmp_path))
        assert pairs(train, 'depth_map_path') == [
            (f'sync/{scene}/rgb_00045.jpg', f'sync/{scene}/sync_depth_00045.png') for scene in scenes
        ]
        kinds = [train.metainfo['classes'][train.get_data_info(index)['category_id']] for index in range(3)]
        assert kinds == ['kitchen', 'office', 'study_room']
        # Lines of VPD's list begin with a slash; iDisc's have the focal length behind.
        (tmp_path / 'train_list.txt').write_text(
            '/nyu_office_0/rgb_00045.jpg /nyu_office_0/sync_depth_00045.png\n'
            'kitchen_0028b/rgb_00045.jpg kitchen_0028b/sync_depth_00045.png 518.8579\n'
        )
        train = NYUv2DepthDataset(layout='vpd', data_root=str(tmp_path), ann_file='train_list.txt')
        assert pairs(train, 'depth_map_path') == [
            (f'sync/{scene}/rgb_00045.jpg', f'sync/{scene}/sync_depth_00045.png')
            for scene in ('nyu_office_0', 'kitchen_0028b')
        ]
        (tmp_path / 'names.txt').write_text('study_room_0004/rgb_00045\n')
        named = NYUv2DepthDataset(layout='vpd', data_root=str(tmp_path), ann_file='names.txt')
        assert pairs(named, 'depth_map_path') == [
            ('sync/study_room_0004/rgb_00045.jpg', 'sync/study_room_0004/sync_depth_00045.png')
        ]
        test = NYUv2DepthDataset(layout='vpd', part='test', data_root=str(tmp_path))
        assert test.metainfo['classes'][test.get_data_info(0)['category_id']] == 'bathroom'

    @pytest.mark.parametrize('layout', ['mmseg', 'vpd'])
    def test_the_first_kind_that_occurs_as_vpd_has_it(self, tmp_path, layout):
        """Of the 27 names, in their order, each tried anywhere in the name of folder and file."""
        kinds = NYUv2DepthDataset.METAINFO['classes']
        named = dict(zip([f'{kind}_0004' for kind in kinds], kinds, strict=True)) | {'nyu_office_1': 'office'}
        for scene in named:
            if layout == 'vpd':
                write(tmp_path, f'sync/{scene}/rgb_00045.jpg', f'sync/{scene}/sync_depth_00045.png')
            else:
                write(tmp_path, f'images/train/{scene}_00045.jpg', f'annotations/train/{scene}_00045.png')
        differing = {}
        for first_kind in (False, True):
            dataset = NYUv2DepthDataset(layout=layout, first_kind=first_kind, data_root=str(tmp_path))
            for index in range(len(dataset)):
                info = dataset.get_data_info(index)
                path = info['img_path'].split('/')
                scene = path[-2] if layout == 'vpd' else path[-1].removesuffix('_00045.jpg')
                theirs = next(kind for kind in kinds if kind in f'{scene}_rgb_00045.jpg')
                found = kinds[info['category_id']]
                assert found == (theirs if first_kind else named[scene])
                if theirs != named[scene]:
                    differing[named[scene]] = theirs
        assert differing == {'study_room': 'study', 'office_kitchen': 'kitchen'}

    def test_unknown_scene(self, tmp_path):
        write(tmp_path, 'images/train/garage_0001_00001.jpg', 'annotations/train/garage_0001_00001.png')
        with pytest.raises(ValueError, match="found the scene 'garage', expected one of printer_room, bathroom"):
            NYUv2DepthDataset(data_root=str(tmp_path))

    @pytest.mark.skipif(not (SAMPLES / 'nyuv2/mmseg_layout').is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_sample(self):
        cfg = dict(
            data_root=str(SAMPLES / 'nyuv2/mmseg_layout'),
            data_prefix=dict(img_path='images', depth_map_path='annotations'),
        )
        found = loaded('NYUv2DepthDataset', 'Depth', **cfg)
        assert found['category_id'] == 26  # bookstore
        metres = found['gt_depth_map']
        assert metres.shape == (120, 160) and 0.5 < np.median(metres[metres > 0]) < 10 and metres.max() <= 10


class TestForms:
    """A line of a list in each form that published lists have."""

    IMAGE, DEPTH = 'images/train/office_0001_1.jpg', 'annotations/train/office_0001_1.png'

    @pytest.fixture
    def root(self, tmp_path):
        write(tmp_path, self.IMAGE, self.DEPTH)
        return tmp_path

    @pytest.mark.parametrize(
        'line',
        [
            'office_0001_1',
            'office_0001_1  # dark',
            'office_0001_1.jpg',
            'images/train/office_0001_1',
            f'{IMAGE} {DEPTH} 518.8579',
            f'/{IMAGE} /{DEPTH}',
            f'{IMAGE}\t{DEPTH}',
            f'{IMAGE},{DEPTH}',
            'office_0001_1.jpg office_0001_1.png',
            IMAGE.replace('/', '\\'),
            'ROOT/images/train/office_0001_1.jpg ROOT/annotations/train/office_0001_1.png',
        ],
    )
    @pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
    @pytest.mark.parametrize('end', ['\n', '\r\n', '\n\n# the end'])
    def test_one_line(self, root, line, encoding, end):
        (root / 'list.txt').write_bytes((line.replace('ROOT', str(root)) + end).encode(encoding))
        dataset = NYUv2DepthDataset(data_root=str(root), ann_file='list.txt')
        assert pairs(dataset, 'depth_map_path') == [(self.IMAGE, self.DEPTH)]

    @pytest.mark.parametrize(
        'name', ['office 1', '# office_1', 'office\u20281', 'office\x851', 'office, 1', 'office.1']
    )
    def test_odd_names(self, root, name):
        """A name is one, whatever stands in it, if the file is there."""
        write(root, f'odd/{name}.png', f'maps/{name}.png')
        for line in (name, f'{name}.png', f'odd/{name}.png'):
            (root / 'list.txt').write_text(f'{line}\n')
            prefix = dict(img_path='odd', depth_map_path='maps')
            dataset = DenseMapDataset(data_root=str(root), data_prefix=prefix, ann_file='list.txt')
            assert pairs(dataset, 'depth_map_path') == [(f'odd/{name}.png', f'maps/{name}.png')]

    def test_listed_twice_weighs_twice(self, root):
        (root / 'list.txt').write_text('office_0001_1\noffice_0001_1.jpg\n')
        dataset = NYUv2DepthDataset(data_root=str(root), ann_file='list.txt')
        assert pairs(dataset, 'depth_map_path') == [(self.IMAGE, self.DEPTH)] * 2
        assert [line.number for line in dataset.lines[f'{root}/{self.IMAGE}']] == [1, 2]

    @pytest.mark.parametrize('line', ['office_0001_1  -1', 'garage_7', '{"fpath_img": "a.jpg"}'])
    def test_what_leads_nowhere_is_named_with_its_line(self, root, line):
        (root / 'list.txt').write_text(f'office_0001_1\n\n{line}\n')
        with pytest.raises((FileNotFoundError, ValueError)) as raised:
            NYUv2DepthDataset(data_root=str(root), ann_file='list.txt', first_kind=True)
        assert f'; 1 of 2 are not there (here {line!r} of {root}/list.txt:3). Unpack' in str(raised.value)

    def test_another_encoding(self, root):
        (root / 'list.txt').write_bytes('office_0001_1\nb\xfcro\n'.encode('latin1'))
        with pytest.raises(ValueError, match=r'list\.txt:2: found the byte 0xfc, which is no UTF-8'):
            NYUv2DepthDataset(data_root=str(root), ann_file='list.txt')


class TestBadInput:
    """One error that says how many, which, and what to do."""

    def test_missing_files(self, tmp_path):
        write(tmp_path, *(f'train/img/{i}.png' for i in range(3)), 'train/norm/1.png')
        with pytest.raises(
            FileNotFoundError, match=r'norm/0.png: found no such file.*normal_map_path.*; 2 of 3 are not'
        ):
            NYUv2NormalDataset(data_root=str(tmp_path))
        (tmp_path / 'mine.txt').write_text('1\n7\n')
        with pytest.raises(FileNotFoundError, match=r'img/7.png: found no such file.*img_path.*; 1 of 2'):
            NYUv2NormalDataset(data_root=str(tmp_path), ann_file='mine.txt')

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='found no such folder'):
            NYUv2NormalDataset(data_root=str(tmp_path))
        (tmp_path / 'train/img').mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match='found no images'):
            NYUv2NormalDataset(data_root=str(tmp_path))

    def test_too_few_columns(self, tmp_path):
        (tmp_path / 'list.txt').write_text('train/img/0.png\n')
        with pytest.raises(ValueError, match=r'list.txt:1: found 1 columns, expected 2 \(img_path, normal_map_path\)'):
            NYUv2NormalDataset(data_root=str(tmp_path), ann_file='list.txt')

    @pytest.mark.parametrize(
        ('more', 'message'),
        [
            (dict(layout='nyu'), "layout='nyu': expected one of bae, idisc, dsine"),
            (dict(part='val'), "part='val': expected one of train, test"),
            (dict(label_axes=('x', 'x', 'z')), 'expected x, y and z in some order'),
            (dict(valid_box=(0.5, 0.5, 0, 1)), 'expected 0 ≤ top < bottom'),
        ],
    )
    def test_settings(self, more, message):
        with pytest.raises(ValueError, match=message):
            NYUv2NormalDataset(lazy_init=True, **more)

    def test_a_set_without_maps(self, tmp_path):
        write(tmp_path, 'a/0.png')
        dataset = DenseMapDataset(data_root=str(tmp_path), data_prefix=dict(img_path='a'), test_mode=True)
        assert set(dataset.get_data_info(0)) == {'img_path', 'seg_fields', 'sample_idx'}


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools/dataset_converters' / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool
