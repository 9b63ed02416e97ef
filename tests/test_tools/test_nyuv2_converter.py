"""The converters of NYUv2 and FrameNet on tiny files in the published formats; captions of the sets."""

import importlib.util
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from scipy.io import savemat

import mmdiff2in1.components  # noqa: F401  registers the transforms
from mmdiff2in1.datasets.nyuv2 import NYUv2DepthDataset
from mmdiff2in1.datasets.scannet import ScanNetNormalDataset

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', ROOT / 'data/samples'))
SCENES = ('bathroom', 'living_room', 'office_kitchen')


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f'{Path(name).name}_tool', ROOT / 'tools' / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


nyuv2, framenet, caption = (
    load_tool(name) for name in ('dataset_converters/nyuv2', 'dataset_converters/framenet_splits', 'caption')
)


@pytest.fixture
def splits(tmp_path):
    """Images 1 and 3 for training, 2 for the test; numbers from 1, columns, as in the official file."""
    columns = {'trainNdxs': np.array([[1], [3]], np.uint16), 'testNdxs': np.array([[2]], np.uint16)}
    savemat(tmp_path / 'splits.mat', columns)
    return tmp_path / 'splits.mat'


class TestNYUv2:
    """The official HDF5 file, its arrays in MATLAB's order."""

    @pytest.fixture
    def content(self):
        """Smooth images (480, 640, 3), which JPEG keeps, in their white frame, and both depths."""
        rows, columns = np.mgrid[:480, :640]
        images = [
            np.stack([rows // 2, columns // 3, np.full_like(rows, 60 * i)], -1).astype(np.uint8) for i in range(3)
        ]
        for image in images:
            image[:7] = image[474:] = image[:, :7] = image[:, 632:] = 255
        filled = [(1 + i + rows / 1000).astype(np.float32) for i in range(3)]
        raw = [depth * (columns > 100) for depth in filled]
        return images, filled, [depth.astype(np.float32) for depth in raw]

    @pytest.fixture
    def mat(self, tmp_path, content):
        h5py = pytest.importorskip('h5py', reason='h5py is not installed')
        images, filled, raw = content
        with h5py.File(tmp_path / 'labeled.mat', 'w') as file:
            file['images'] = np.stack([image.transpose(2, 1, 0) for image in images])
            file['depths'] = np.stack([depth.T for depth in filled])
            file['rawDepths'] = np.stack([depth.T for depth in raw])
            references = file.create_dataset('sceneTypes', (1, 3), h5py.ref_dtype)
            for number, scene in enumerate(SCENES):
                file[f'#refs#/{number}'] = np.array([[ord(letter)] for letter in scene], np.uint16)
                references[0, number] = file[f'#refs#/{number}'].ref
        return tmp_path / 'labeled.mat'

    def run(self, mat, splits, *flags):
        return nyuv2.main([str(mat), str(splits), '--out', str(mat.parent / 'nyu'), *flags])

    def test_pairs_are_those_of_the_file(self, mat, splits, content, capsys):
        init_default_scope('mmseg')
        assert self.run(mat, splits) == 0
        assert '2 train, 1 test pairs, raw depth' in capsys.readouterr().out
        for part, numbers in (('train', (0, 2)), ('test', (1,))):
            dataset = NYUv2DepthDataset(data_root=str(mat.parent / 'nyu'), part=part)
            assert len(dataset) == len(numbers)
            for index, number in enumerate(numbers):
                info = dataset.get_data_info(index)
                assert Path(info['img_path']).name == f'{SCENES[number]}_{number:05d}.jpg'
                assert dataset.metainfo['classes'][info['category_id']] == SCENES[number]
                image = cv2.imread(info['img_path'])[..., ::-1].astype(int)
                assert np.abs(image[20:460, 20:620] - content[0][number][20:460, 20:620]).max() <= 6
                assert max(image[:4].max(), image[:, -4:].max()) <= 24  # the white frame, but for JPEG's ringing
                depth = cv2.imread(info['depth_map_path'], cv2.IMREAD_UNCHANGED)
                assert depth.dtype == np.uint16
                np.testing.assert_array_equal(depth, np.round(content[2][number] * 1000))

    def test_filled_depth(self, mat, splits, content):
        assert self.run(mat, splits, '--depth', 'filled') == 0
        depth = cv2.imread(str(mat.parent / 'nyu/annotations/test/living_room_00001.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(depth, np.round(content[1][1] * 1000))

    def test_goes_on_where_it_stopped(self, mat, splits, capsys):
        assert self.run(mat, splits, '--dry-run') == 0
        assert '3 pairs to write' in capsys.readouterr().out and not (mat.parent / 'nyu').exists()
        assert self.run(mat, splits) == 0
        kept = mat.parent / 'nyu/images/train/bathroom_00000.jpg'
        kept.write_bytes(b'mine')
        gone = mat.parent / 'nyu/annotations/train/office_kitchen_00002.png'
        whole = gone.read_bytes()
        gone.unlink()
        capsys.readouterr()
        assert self.run(mat, splits) == 0
        assert '1 pairs to write' in capsys.readouterr().out
        assert kept.read_bytes() == b'mine' and gone.read_bytes() == whole

    def test_wrong_files(self, mat, splits, capsys):
        assert self.run(mat, mat) == 1
        assert 'expected the splits.mat of NYUv2' in capsys.readouterr().err
        assert self.run(splits, splits) == 1
        assert 'expected a whole HDF5 file' in capsys.readouterr().err
        assert self.run(mat.with_name('none.mat'), splits) == 1
        assert 'found no such file' in capsys.readouterr().err
        import h5py

        with h5py.File(mat, 'a') as file:
            del file['rawDepths']
        assert self.run(mat, splits) == 1
        assert 'expected rawDepths as well' in capsys.readouterr().err
        savemat(splits, {'trainNdxs': np.array([[1], [9]]), 'testNdxs': np.array([[2]])})
        assert self.run(mat, splits, '--depth', 'filled') == 1
        assert 'names image 9' in capsys.readouterr().err
        savemat(splits, {'trainNdxs': np.array([[1], [2]]), 'testNdxs': np.array([[2]])})
        assert self.run(mat, splits) == 1
        assert 'found 1 numbers in both parts, e.g. 2' in capsys.readouterr().err
        savemat(splits, {'trainNdxs': np.array([[0], [2]]), 'testNdxs': np.array([[1]])})
        assert self.run(mat, splits) == 1
        assert 'found number 0 in trainNdxs, expected numbers from 1 on' in capsys.readouterr().err
        assert self.run(mat, splits.with_name('none.mat')) == 1
        assert 'none.mat: found no such file' in capsys.readouterr().err

    def test_a_folder_holds_one_kind_of_depth(self, mat, splits, capsys):
        assert self.run(mat, splits) == 0
        assert self.run(mat, splits, '--depth', 'filled') == 1
        assert 'was made with --depth raw, asked for filled' in capsys.readouterr().err

    def test_not_a_number(self, mat, splits, capsys):
        import h5py

        with h5py.File(mat, 'a') as file:
            file['rawDepths'][2, 5, 5] = np.nan
        assert self.run(mat, splits) == 1
        assert 'image 3 of the file, rawDepths: depth: 1 pixels hold values like nan' in capsys.readouterr().err

    @pytest.mark.skipif(not (SAMPLES / 'nyuv2/meta/splits.mat').is_file(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_official_splits(self):
        parts = nyuv2.read_splits(SAMPLES / 'nyuv2/meta/splits.mat')
        assert {part: len(numbers) for part, numbers in parts.items()} == {'train': 795, 'test': 654}
        assert parts['train'][:3] == [2, 3, 4] and parts['test'][:3] == [0, 1, 8]  # Bae's 000002.png and 000000.png
        assert sorted(parts['train'] + parts['test']) == list(range(1449))


class Evil:
    def __reduce__(self):
        return print, ('run',)


class TestFrameNet:
    """train_test_split.pkl: part → lists of colour, orientation and mask paths with the prefix of another machine."""

    @pytest.fixture
    def pkl(self, tmp_path):
        frames = {
            'train': [f'scene0000_00/frame-{10 * i:06d}' for i in range(5)],
            'test': ['scene0700_01/frame-000000'],
        }
        kinds = ('color', 'orient', 'orient-mask')
        content = {
            part: [[f'/orion/u/someone/scannet-frames/{name}-{kind}.png' for name in names] for kind in kinds]
            for part, names in frames.items()
        }
        (tmp_path / 'train_test_split.pkl').write_bytes(pickle.dumps(content, protocol=2))
        return tmp_path / 'train_test_split.pkl'

    def test_lists(self, pkl, capsys):
        assert framenet.main([str(pkl)]) == 0
        assert (pkl.parent / 'splits/train.txt').read_text().split() == [
            f'scene0000_00/frame-{10 * i:06d}' for i in range(5)
        ]
        assert (pkl.parent / 'splits/test.txt').read_text() == 'scene0700_01/frame-000000\n'
        assert framenet.main([str(pkl), '--usage', 'train', '--every', '2']) == 0
        assert 'train-every2.txt: 3 of 5 images' in capsys.readouterr().out
        thinned = (pkl.parent / 'splits/train-every2.txt').read_text().split()
        assert thinned == [f'scene0000_00/frame-{i:06d}' for i in (0, 20, 40)]
        scene = pkl.parent / 'scannet-frames/scene0000_00'
        scene.mkdir(parents=True)
        for name in thinned:
            for kind in ('color', 'normal'):
                cv2.imwrite(str(scene / f'{Path(name).name}-{kind}.png'), np.full((4, 4, 3), 128, np.uint8))
        dataset = ScanNetNormalDataset(data_root=str(pkl.parent), ann_file='splits/train-every2.txt', mask_suffix=None)
        assert [dataset.get_data_info(i)['normal_map_path'] for i in range(3)] == [
            str(scene / f'{Path(name).name}-normal.png') for name in thinned
        ]

    def test_nothing_in_it_is_run(self, pkl, capsys):
        pkl.write_bytes(pickle.dumps({'train': [Evil()]}))
        assert framenet.main([str(pkl)]) == 1
        streams = capsys.readouterr()
        assert 'only lists and strings are read' in streams.err and 'run' not in streams.out

    @pytest.mark.parametrize(
        ('content', 'flags', 'message'),
        [
            ([1], [], 'found list, expected a dictionary'),
            ({'train': [['/a/b.png'], [], []]}, [], "found the image '/a/b.png'"),
            ({'train': [[], [], []]}, ['--usage', 'val'], 'known parts: train'),
        ],
    )
    def test_other_files(self, pkl, capsys, content, flags, message):
        pkl.write_bytes(pickle.dumps(content))
        assert framenet.main([str(pkl), *flags]) == 1
        assert message in capsys.readouterr().err
        assert not (pkl.parent / 'splits').exists()

    def test_broken_file(self, pkl, capsys):
        pkl.write_bytes(pkl.read_bytes()[:-20])
        assert framenet.main([str(pkl)]) == 1
        assert 'expected FrameNet' in capsys.readouterr().err


class TestCaptions:
    """tools/caption.py on these sets."""

    @pytest.fixture
    def config(self, tmp_path):
        root = tmp_path / 'nyu'
        for kind in ('img', 'norm', 'caption'):
            (root / 'train' / kind).mkdir(parents=True)
        for number in (2, 3):
            for kind in ('img', 'norm'):
                cv2.imwrite(str(root / f'train/{kind}/{number:06d}.png'), np.full((8, 8, 3), 200, np.uint8))
            (root / f'train/caption/{number:06d}.txt').write_text(f'a kitchen with {number} chairs\n')
        (tmp_path / 'nyu.py').write_text(
            f"train_dataloader = dict(dataset=dict(type='NYUv2NormalDataset', data_root={str(root)!r}, pipeline=[]))\n"
        )
        return tmp_path / 'nyu.py'

    def test_text_files_of_diff_2_in_1(self, config):
        """`nyu/train/caption/000002.txt` beside `nyu/train/img/000002.png`."""
        root = config.parent / 'nyu'
        caption.main([str(config), '--by', 'file', '--from', str(root / 'train/caption')])
        lines = [json.loads(line) for line in (root / 'captions.jsonl').read_text().splitlines()]
        assert lines == [
            {'image': f'train/img/{number:06d}.png', 'caption': f'a kitchen with {number} chairs'} for number in (2, 3)
        ]

    def test_no_classes_to_tell(self, config):
        with pytest.raises(SystemExit, match='has no class names'):
            caption.main([str(config), '--by', 'classes'])
