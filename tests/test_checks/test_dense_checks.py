"""The checker on normals and depth: the frame is recognised, units and bits are, and clean sets are left in peace."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

import mmdiff2in1.components  # noqa: F401  registers the transforms
import mmdiff2in1.datasets.nyuv2
import mmdiff2in1.datasets.scannet  # noqa: F401  registers the data sets
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.checks.pictures import dataset_pictures
from mmdiff2in1.checks.report import report_text
from mmdiff2in1.datasets.scenes import render_scene
from mmdiff2in1.tasks import Depth, SurfaceNormal
from mmdiff2in1.tasks.normal_frames import FRAMES, frame_problems, normal_facts, normal_notes, to_camera

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', ROOT / 'data/samples'))
H, W = 36, 48


@pytest.fixture(scope='module')
def normals():
    """20 rendered rooms with exact normals in this package's frame."""
    return [render_scene(0, 20_000_000 + index, 48).normal for index in range(20)]


@pytest.fixture
def folder(tmp_path):
    """Three images of 36 × 48 pixels."""
    init_default_scope('mmseg')
    random = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), random.integers(0, 256, (H, W, 3), np.uint8))
    return tmp_path


def stored_in(frame, normal):
    """A map as a set in another frame stores it: `reorient(stored, frame)` is the map."""
    stored = np.empty_like(normal)
    for ours, name in enumerate(frame):
        stored[..., 'xyz'.index(name[-1])] = normal[..., ours] * (-1 if name[0] == '-' else 1)
    np.testing.assert_array_equal(SurfaceNormal().reorient(stored, frame), normal)
    return stored


def facts_of(normals, frame, declared=None):
    return [normal_facts(stored_in(frame, normal), declared, 16) for normal in normals]


def config(root, key, pipeline=(), **dataset):
    prefix = {'img_path': 'images', key: 'maps'}
    cfg = dict(type='DenseMapDataset', data_root=str(root), data_prefix=prefix, pipeline=list(pipeline)) | dataset
    return ConfigDict(train_dataloader=dict(dataset=cfg), model=dict(decode_head=dict(num_classes=1)))


def write_maps(root, arrays):
    (root / 'maps').mkdir()
    for number, array in enumerate(arrays):
        cv2.imwrite(str(root / f'maps/{number}.png'), array[..., ::-1] if array.ndim == 3 else array)


def report(cfg):
    return check_datasets(cfg, workers=2, progress=False)


def problems(cfg, *severities):
    found = report(cfg)[0]
    return {problem.check: problem for severity in severities for _, problem in found.problems(severity)}


class TestFrames:
    """Which of the 48 signed orders of the axes normals are stored in."""

    def test_there_are_48(self):
        assert len(set(FRAMES)) == 48 and FRAMES[0] == ('x', 'y', 'z') and ('-x', '-y', '-z') in FRAMES

    def test_directions_to_the_camera(self):
        """60 degrees wide: at the middle of the right border the camera is 30 degrees to the left."""
        c = to_camera((301, 601))
        np.testing.assert_allclose(np.linalg.norm(c, axis=-1), 1)
        np.testing.assert_allclose(c[150, 300], [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(c[150, 600], [0.5, 0, np.sqrt(0.75)], atol=1e-3)
        assert c[0, 300, 1] < 0 < c[300, 300, 1]

    @pytest.mark.parametrize('noise', [0.0, 0.2])
    def test_all_48_are_recognised(self, normals, noise):
        """In every frame the right one is the best, is asked for when another is declared, and passes when declared.

        Noise of 0.2 per component turns vectors by some 13 degrees on average.
        """
        random = np.random.default_rng(0)
        noisy = [normal + noise * random.standard_normal(normal.shape) for normal in normals]
        noisy = [(normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32) for normal in noisy]
        for frame in FRAMES:
            facts = facts_of(noisy, frame)
            assert FRAMES[np.argmin(np.mean([fact.away for fact in facts], axis=0))] == frame
            found = frame_problems(facts, None, 'maps')
            if frame == FRAMES[0]:
                assert not found
            else:
                assert f'label_axes={frame}' in found[0].next_step and '20 maps' in found[0].found
            assert not frame_problems(facts_of(noisy, frame, frame), frame, 'maps')

    def test_exact_normals_never_face_away(self, normals):
        away = np.array([fact.away for fact in facts_of(normals, FRAMES[0])])
        assert (away[:, 0] == 0).all() and np.sort(away.mean(0))[1] > 0.1

    def test_floors_point_up(self, normals):
        (note,) = normal_notes(facts_of(normals, FRAMES[0]), None)
        assert note == (
            'normals: 0.0% of the pixels face away from the camera; '
            'of the level surfaces in the lowest third 100% face up'
        )
        (note,) = normal_notes(facts_of(normals, ('x', '-y', 'z')), None)
        assert note.endswith('0% face up')

    def test_one_wall_says_nothing(self):
        """Its normal fits eight frames: no warning, whichever is declared."""
        wall = np.broadcast_to(np.float32([0, 0, 1]), (H, W, 3))
        fitting = [frame for frame in FRAMES if not frame_problems([normal_facts(wall, frame, 8)], frame, 'maps')]
        assert fitting == [frame for frame in FRAMES if frame[2] == 'z'] and len(fitting) == 8

    def test_pixels_without_normal_do_not_count(self, normals):
        half = normals[0].copy()
        half[::2] = 0
        whole, less = normal_facts(normals[0], None, 8).away, normal_facts(half, None, 8).away
        assert np.abs(whole - less).max() < 0.02 and normal_facts(half * 0, None, 8) is None

    @pytest.mark.skipif(not (SAMPLES / 'nyuv2/multitask_preview').is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_sample(self):
        """Ladicky's map of one NYUv2 image, whose frame is (-z, -y, -x) by its picture."""
        file = cv2.imread(str(SAMPLES / 'nyuv2/multitask_preview/normal.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
        facts = [normal_facts(SurfaceNormal().decode(file), None, 8)]
        (problem,) = frame_problems(facts, None, 'maps')
        assert "Set label_axes=('-z', '-y', '-x')" in problem.next_step
        right = ('-z', '-y', '-x')
        assert not frame_problems([normal_facts(SurfaceNormal().decode(file), right, 8)], right, 'maps')


class TestNormalSets:
    """The same through the whole checker, with files."""

    def maps(self, normals, frame=FRAMES[0], dtype=np.uint16):
        full = np.iinfo(dtype).max
        crops = [stored_in(frame, normal[6:42]) for normal in normals[:3]]
        return [np.round((normal + 1) / 2 * full).astype(dtype) for normal in crops]

    def test_clean_set(self, folder, normals):
        write_maps(folder, self.maps(normals, dtype=np.uint8))
        found, parts = report(config(folder, 'normal_map_path'))
        assert not found.problems('error') and not found.problems('warning')
        assert found.parts[0].known == {'normal': 1.0}
        assert 'normals: 8 bits per channel, a step of 0.45 degrees' in report_text(found)
        check_data(config(folder, 'normal_map_path'))
        assert dataset_pictures(parts, None, 2) is not None

    def test_swapped_axes(self, folder, normals):
        """FrameNet's frame, not declared and declared; the picture shows the declared one."""
        frame = ('-x', '-y', '-z')
        write_maps(folder, self.maps(normals, frame))
        found = problems(config(folder, 'normal_map_path'), 'error', 'warning')
        assert list(found) == ['label-axes'] and f'Set label_axes={frame}' in found['label-axes'].next_step
        cfg = config(folder, 'normal_map_path', label_axes=frame)
        assert not problems(cfg, 'error', 'warning')
        _, parts = report(cfg)
        turned = dataset_pictures(parts, None, 1)
        for number, array in enumerate(self.maps(normals)):
            cv2.imwrite(str(folder / f'maps/{number}.png'), array[..., ::-1])
        _, parts = report(config(folder, 'normal_map_path'))
        # Rounding to 16 bits is not symmetric: one grey level.
        assert np.abs(turned.astype(int) - dataset_pictures(parts, None, 1)).max() <= 1

    def test_wrong_length(self, folder, normals):
        maps = self.maps(normals)
        maps[1][3, :5] = 40000
        write_maps(folder, maps)
        problem = problems(config(folder, 'normal_map_path'), 'error')['label-values']
        assert problem.file.endswith('maps/1.png') and '5 vectors of the label file' in problem.found
        with pytest.raises(ValueError, match=r'maps/1.png.*have a length like'):
            check_data(config(folder, 'normal_map_path'))

    def test_a_single_vector_of_another_length(self, folder, normals):
        maps = self.maps(normals)
        maps[1][3, 4] = 40000
        write_maps(folder, maps)
        with pytest.warns(UserWarning, match='count as not known'):
            problem = problems(config(folder, 'normal_map_path'), 'warning')['vector-length']
        assert problem.file.endswith('maps/1.png') and problem.found == '1 vectors whose length is not 1'

    def test_a_training_is_warned_and_does_not_start_on_nothing(self, folder, normals, monkeypatch):
        logged = []
        monkeypatch.setattr('mmdiff2in1.checks.data_check.print_log', lambda text, *_: logged.append(text))
        write_maps(folder, self.maps(normals, ('-x', '-y', '-z')))
        check_data(config(folder, 'normal_map_path'))
        assert len(logged) == 1 and "Set label_axes=('-x', '-y', '-z')" in logged[0]
        for number in range(3):
            cv2.imwrite(str(folder / f'maps/{number}.png'), np.zeros((H, W, 3), np.uint16))
        with pytest.raises(ValueError, match='found no value in any of the 3 maps read'):
            check_data(config(folder, 'normal_map_path'))

    def test_a_missing_map_hides_nothing_else(self, folder, normals):
        maps = self.maps(normals)
        maps[2] = maps[2][:-1]
        write_maps(folder, maps)
        (folder / 'maps/0.png').unlink()
        found = problems(config(folder, 'normal_map_path'), 'error')
        assert found['missing-label'].file.endswith('maps/0.png') and found['size'].file.endswith('maps/2.png')
        with pytest.raises(ValueError, match=r'maps/0.png: found no such file'):
            check_data(config(folder, 'normal_map_path'))

    def test_empty_map_and_other_size(self, folder, normals):
        maps = self.maps(normals)
        maps[0], maps[2] = maps[0] * 0, maps[2][:-1]
        write_maps(folder, maps)
        cfg = config(folder, 'normal_map_path')
        assert problems(cfg, 'warning')['all-ignored'].file.endswith('maps/0.png')
        assert problems(cfg, 'error')['size'].found.startswith('35×48')


class TestDepthSets:
    """Bits, units, the largest number."""

    def test_clean_set(self, folder):
        write_maps(folder, [Depth().encode(np.full((H, W), metres)) for metres in (1.5, 2.5, 4.0)])
        found, parts = report(config(folder, 'depth_map_path'))
        assert not found.problems('error') and not found.problems('warning')
        assert found.parts[0].notes == ['depth: median of an image 2.5 m']
        assert dataset_pictures(parts, None, 2) is not None

    def test_eight_bits(self, folder):
        write_maps(folder, [np.full((H, W), 9, np.uint8)] * 2 + [np.full((H, W, 3), 9, np.uint8)])
        found = problems(config(folder, 'depth_map_path'), 'error')
        assert list(found) == ['depth-bits'] and '16-bit files' in found['depth-bits'].next_step
        with pytest.raises(ValueError, match='a picture of depth, 1 values; expected 16-bit millimetres'):
            check_data(config(folder, 'depth_map_path'))

    def test_centimetres(self, folder):
        write_maps(folder, [Depth().encode(np.full((H, W), metres / 10)) for metres in (1.5, 2.5, 4.0)])
        found = problems(config(folder, 'depth_map_path'), 'warning')['depth-unit']
        assert '0.25 m' in found.found and 'units_per_metre' in found.next_step

    def test_another_unit(self, folder):
        """Metres times 256, as KITTI has them, of a room of 100 m; declared in the pipeline, it is no room any more."""
        write_maps(folder, [np.full((H, W), 25600, np.uint16)] * 3)
        problem = problems(config(folder, 'depth_map_path'), 'warning')['depth-unit']
        assert problem.found == 'a median depth of 25.6 m; outside in 3 of 3 maps'
        task = dict(type='Depth', units_per_metre=5000.0)
        pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=task)]
        assert not problems(config(folder, 'depth_map_path', pipeline), 'warning')

    def test_largest_number(self, folder):
        array = np.full((H, W), 2000, np.uint16)
        array[:4] = 65535
        write_maps(folder, [array] * 3)
        found = problems(config(folder, 'depth_map_path'), 'warning')
        assert '65535, the largest number of 16 bits, in 11.11% of the pixels' in found['depth-full'].found

    def test_metres_in_npy_files(self, folder):
        (folder / 'maps').mkdir()
        for number, value in enumerate((2.0, 3.0, np.nan)):
            np.save(folder / f'maps/{number}.npy', np.full((H, W), value, np.float32))
        (folder / 'maps/1.npy').write_bytes((folder / 'maps/1.npy').read_bytes()[:-8])
        found = report(config(folder, 'depth_map_path', seg_map_suffix='.npy'))[0]
        errors = {problem.check: Path(problem.file).name for _, problem in found.problems('error')}
        assert errors == {'unreadable': '1.npy', 'label-values': '2.npy'}

    @pytest.mark.skipif(not (SAMPLES / 'rgbd_kinect2').is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_sample_that_is_not_in_millimetres(self):
        init_default_scope('mmseg')
        prefix = dict(img_path='rgbd_kinect2', depth_map_path='rgbd_kinect2')
        cfg = config(SAMPLES, 'depth_map_path', data_prefix=prefix, img_suffix='_rgb.png', seg_map_suffix='_depth.png')
        found = problems(cfg, 'error', 'warning')
        assert set(found) == {'depth-unit', 'depth-full'}
        assert 'a median depth of 24.48 m' in found['depth-unit'].found and ', in 0.69%' in found['depth-full'].found


class TestKnownSets:
    """Official numbers, by layout and list; prefixes and shared folders raise no false alarm."""

    def files(self, root, *names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            depth = 'depth' in name or 'annotations' in name
            array = np.full((H, W), 2500, np.uint16) if depth else np.full((H, W, 3), 128, np.uint8)
            if 'norm' in name:
                array[..., 0] = 255  # BGR: towards the viewer
            else:
                array = array + np.arange(W, dtype=array.dtype).reshape(1, W, *[1] * (array.ndim - 2))
            cv2.imwrite(str(root / name), array)

    def counted(self, kind, **cfg):
        init_default_scope('mmseg')
        cfg = ConfigDict(train_dataloader=dict(dataset=dict(type=kind, **cfg)))
        found = report(cfg)[0]
        assert not found.problems('error')
        assert {problem.check for _, problem in found.problems('warning')} <= {'count', 'grey', 'repeated'}
        expected = found.parts[0].expected
        return None if expected is None else expected[0]

    def test_normals(self, tmp_path):
        root = str(tmp_path)
        self.files(tmp_path, *(f'{part}/{kind}/000002.png' for part in ('train', 'test') for kind in ('img', 'norm')))
        counts = {part: self.counted('NYUv2NormalDataset', data_root=root, part=part) for part in ('train', 'test')}
        assert counts == {'train': 795, 'test': 654}
        idisc = dict(data_root=root, layout='idisc')
        assert self.counted('NYUv2NormalDataset', **idisc) is None
        (tmp_path / 'nyu_train.txt').write_text('train/img/000002.png train/depth/000002.png train/norm/000002.png\n')
        assert self.counted('NYUv2NormalDataset', ann_file='nyu_train.txt', **idisc) == 30912
        self.files(tmp_path / 'd', 'test/000002_img.png', 'test/000002_normal.png')
        assert self.counted('NYUv2NormalDataset', data_root=f'{root}/d', layout='dsine', part='test') == 654

    def test_depth(self, tmp_path):
        root = str(tmp_path)
        self.files(tmp_path, 'sync/cafe_0001a/rgb_00011.jpg', 'sync/cafe_0001a/sync_depth_00011.png')
        (tmp_path / 'train_list.txt').write_text('/cafe_0001a/rgb_00011.jpg /cafe_0001a/sync_depth_00011.png\n')
        vpd = dict(data_root=root, layout='vpd')
        assert self.counted('NYUv2DepthDataset', **vpd) is None
        assert self.counted('NYUv2DepthDataset', ann_file='train_list.txt', **vpd) == 24231
        self.files(tmp_path, 'sync/cafe_0001a/sync_depth_00012.png')
        found = report(ConfigDict(train_dataloader=dict(dataset=dict(type='NYUv2DepthDataset', **vpd))))[0]
        orphans = [problem.file for _, problem in found.problems('warning') if problem.check == 'orphan-label']
        assert orphans == [f'{root}/sync/cafe_0001a/sync_depth_00012.png']

    def test_scannet(self, tmp_path):
        names = ('color', 'normal', 'orient-X', 'orient-mask')
        self.files(tmp_path, *(f'scannet-frames/scene0000_00/frame-000000-{name}.png' for name in names))
        init_default_scope('mmseg')
        cfg = dict(type='ScanNetNormalDataset', data_root=str(tmp_path), label_axes=None)
        found = report(ConfigDict(train_dataloader=dict(dataset=cfg)))[0]
        assert not found.problems('error') and found.parts[0].expected is None
        assert {problem.check for _, problem in found.problems('warning')} <= {'grey'}

    @pytest.mark.parametrize(
        ('kind', 'more', 'words'),
        [
            ('NYUv2NormalDataset', {}, 'Bae et al.'),
            ('NYUv2NormalDataset', dict(layout='idisc'), 'GeoNet'),
            ('NYUv2DepthDataset', {}, 'nyuv2.py nyu_depth_v2_labeled.mat'),
            ('ScanNetNormalDataset', {}, 'framenet_splits.py'),
        ],
    )
    def test_where_to_get_it(self, tmp_path, kind, more, words):
        init_default_scope('mmseg')
        cfg = ConfigDict(train_dataloader=dict(dataset=dict(type=kind, data_root=str(tmp_path), **more)))
        found = [problem for _, problem in report(cfg)[0].problems('error')]
        assert {problem.check for problem in found} == {'missing-folder'}
        assert words in found[0].next_step and str(tmp_path) in found[0].next_step
