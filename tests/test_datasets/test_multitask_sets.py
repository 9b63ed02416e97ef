"""NYUD-MT and PASCAL-Context: their layouts, MATLAB files, labels that lack, what is refused; nothing is written."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from tiny_multitask import CONTEXT_OF, DOG, PERSON, SIZE, box, room, write, write_nyud, write_parts, write_pascal
from tiny_tasks import loss_of, segmentor

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.datasets import NYUDMTDataset, PASCALContextMTDataset, SyntheticSampleDataset
from mmdiff2in1.datasets.pascal_files import NORMALS_KNOWN, PART_OF, human_parts, label_edges
from mmdiff2in1.synthesis.store import SampleStore
from mmdiff2in1.training.data_identity import data_facts

ROOT = Path(__file__).resolve().parents[2]
_SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', ROOT / 'data/samples'))
SAMPLES, PREVIEW = _SAMPLES / 'pascal/VOC2010_part', _SAMPLES / 'nyuv2/multitask_preview'


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def nyud(tmp_path_factory):
    return write_nyud(tmp_path_factory.mktemp('nyud'))


@pytest.fixture(scope='module')
def pascal(tmp_path_factory):
    return write_pascal(tmp_path_factory.mktemp('pascal'))


def base(name, root, part='val'):
    """The data set of a data base, with the steps that it tests with."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    assert (cfg.train_dataloader.dataset.part, cfg.test_dataloader.dataset.part) == ('train', 'val')
    return DATASETS.build({**cfg.test_dataloader.dataset, 'data_root': str(root), 'part': part})


def of_one_task(root, name, kind, **settings):
    """PASCAL-Context's training images with the labels of one task."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=dict(type=kind))]
    steps = [*load, dict(type='IgnoreWithoutPersons'), dict(type='PackDenseInputs')]
    return PASCALContextMTDataset(data_root=str(root), tasks=(name,), pipeline=steps, **settings)


def fields(sample):
    return {key: sample.get(key).data.numpy() for key in sample.keys()}


def digests(root):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(root).rglob('*') if path.is_file()}


class TestNYUD:
    """795 / 654 in the folders of ATRC."""

    def test_every_kind_of_file(self, nyud):
        before = digests(nyud)
        dataset = base('nyud-mt-edge', nyud, 'train')
        assert len(dataset) == 3 and len(base('nyud-mt', nyud)) == 2 and len(dataset.metainfo['classes']) == 40
        found = fields(dataset[1]['data_samples'])
        _, classes, depth, normal = room(1)
        expected = classes.astype(int)
        expected[:1] = 255
        np.testing.assert_array_equal(found['gt_sem_seg'][0], expected)
        depth[:2], normal[:3] = 0, 0
        np.testing.assert_array_equal(found['gt_depth_map'][0], depth)
        assert np.abs(found['gt_normal_map'].transpose(1, 2, 0) - normal).max() < 0.01
        length = np.linalg.norm(found['gt_normal_map'], axis=0)
        assert np.all((np.abs(length - 1) < 1e-6) | (length == 0)) and not length[:3].any()
        np.testing.assert_array_equal(found['gt_edge'][0], label_edges(classes.astype(np.int32)) / np.float32(255))
        assert digests(nyud) == before

    def test_any_subset_of_tasks(self, nyud):
        dataset = NYUDMTDataset(tasks=('edge', 'depth'), data_root=str(nyud))
        assert sorted(dataset.map_keys) == ['depth_map_path', 'edge_map_path']
        info = dataset.get_data_info(0)
        assert info['depth_map_path'] == str(nyud / 'depth/0001.npy') and 'label_formats' not in info
        for tasks in ((), ('depth', 'human_parts')):
            with pytest.raises(
                ValueError, match='expected a list of some of semantic_segmentation, depth, normal, edge'
            ):
                NYUDMTDataset(tasks=tasks, data_root=str(nyud))
        with pytest.raises(ValueError, match="part='test': expected one of train, val"):
            NYUDMTDataset(part='test', data_root=str(nyud))

    def test_labels_that_lack(self, tmp_path):
        root = write_nyud(tmp_path, 3, 1)
        (root / 'depth/0002.npy').unlink()
        dataset = base('nyud-mt', root, 'train')
        assert dataset.lacking == dict(seg_map_path=0, depth_map_path=1, normal_map_path=0)
        known = [bool(dataset[index]['data_samples'].gt_depth_map.data.any()) for index in range(3)]
        assert known == [True, False, True]
        with pytest.raises(FileNotFoundError, match=r'0002.npy: found no such file, expected the depth_map_path'):
            NYUDMTDataset(data_root=str(root), maps_may_lack=False)
        (root / 'images/0003.png').unlink()
        with pytest.raises(FileNotFoundError, match=r'0003.png: found no such file, expected the img_path'):
            NYUDMTDataset(data_root=str(root))

    def test_a_task_without_labels_anywhere(self, tmp_path):
        root = write_nyud(tmp_path, 2, 1)
        for file in (root / 'edge').iterdir():
            file.unlink()
        with pytest.raises(FileNotFoundError, match='found no edge_map_path of any of the 2 images, .* end in .png'):
            NYUDMTDataset(data_root=str(root))
        assert len(NYUDMTDataset(tasks=('depth',), data_root=str(root))) == 2

    def test_grey_is_the_zero_vector_and_other_files_are_refused(self, tmp_path):
        root = write_nyud(tmp_path, 1, 1)
        array = np.full((*SIZE, 3), (127, 128, 255), np.uint8)
        array[:10] = (127, 128, 128)
        write(root / 'normals/0001.png', array)
        found = base('nyud-mt', root, 'train')[0]['data_samples'].gt_normal_map.data.numpy()
        assert not found[:, :10].any() and np.abs(found[2, 10:] - 1).max() < 1e-4
        write(root / 'normals/0001.png', np.full((*SIZE, 3), (110, 128, 140), np.uint8))
        with pytest.raises(ValueError, match=r'0001.png: normal: 100% of the vectors of the file have a length like'):
            base('nyud-mt', root, 'train')[0]
        write(root / 'normals/0001.png', array[..., 0])
        with pytest.raises(ValueError, match=r'normal: the file holds uint8 of shape \(40, 56\), expected uint8'):
            base('nyud-mt', root, 'train')[0]

    def test_an_image_of_another_size(self, tmp_path):
        root = write_nyud(tmp_path, 1, 1)
        np.save(root / 'depth/0001.npy', np.ones((40, 55), np.float32))
        with pytest.raises(ValueError, match=r'0001.npy: found a map of 40×55 \(height × width\), expected 40×56'):
            base('nyud-mt', root, 'train')[0]

    @pytest.mark.skipif(not PREVIEW.is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_normals_of_another_frame(self, tmp_path):
        """Ladicky's normals of a NYUv2 image: a wall in front, a table top, a door on the left that faces right."""
        write(tmp_path / 'normals/1.png', cv2.imread(str(PREVIEW / 'normal.png'))[..., ::-1])
        write(tmp_path / 'images/1.png', cv2.resize(cv2.imread(str(PREVIEW / 'image.png')), (640, 480))[..., ::-1])
        (tmp_path / 'names.txt').write_text('1\n')
        load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal'))]
        lists = dict(data_root=str(tmp_path), ann_file='names.txt', tasks=('normal',), pipeline=load)
        normal = NYUDMTDataset(**lists, label_axes=('-z', '-y', '-x'))[0]['gt_normal_map']
        for region, axis, sign in (
            (normal[60:250, 260:400], 2, 1),
            (normal[350:380, 200:240], 1, 1),
            (normal[60:320, 70:140], 0, -1),
        ):
            assert sign * region[..., axis].mean() > 0.85


class TestPASCAL:
    """4,998 / 5,105 in the folders of ATRC."""

    def test_every_kind_of_file(self, pascal):
        before = digests(pascal)
        dataset = base('pascal-context-edge', pascal, 'train')
        assert len(dataset) == 3 and len(base('pascal-context', pascal)) == 2
        for number in (0, 1):
            found = fields(dataset[number]['data_samples'])
            _, classes, _, normal = room(10 + number)
            np.testing.assert_array_equal(found['gt_sem_seg'][0], classes)
            assert found['gt_saliency'].dtype == np.int64
            grey = cv2.imread(str(pascal / f'sal_distill/2008_00000{number}.png'), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(found['gt_saliency'][0], grey / 255 > 0.5)
            np.testing.assert_array_equal(found['gt_label_map'][0], CONTEXT_OF[classes])
            np.testing.assert_array_equal(found['gt_edge'][0], label_edges(classes.astype(np.int32)) / np.float32(255))
            length = np.linalg.norm(found['gt_normal_map'], axis=0)
            np.testing.assert_allclose(length, np.isin(CONTEXT_OF[classes], list(NORMALS_KNOWN)), atol=1e-5)
            if number == 0:
                known = length > 0
                assert np.abs(found['gt_normal_map'].transpose(1, 2, 0) - normal)[known].max() < 0.01
        parts = dataset[0]['data_samples'].gt_human_parts.data.numpy()[0]
        expected = np.zeros(SIZE, int)
        for name, mask in PERSON[3].items():
            expected[mask] = dict(head=1, torso=2, lfoot=6)[name]
        np.testing.assert_array_equal(parts, expected)
        assert dataset[1]['data_samples'].gt_human_parts.data.unique().tolist() == [255], 'a dog is no person'
        assert digests(pascal) == before, 'nothing is written'

    def test_small_normals_are_enlarged(self, pascal):
        """Cubic, to the size of the image, and at unit length; away from borders they are what they were."""
        found = base('pascal-context', pascal, 'train')[1]['data_samples'].gt_normal_map.data.numpy()
        _, _, _, normal = room(11)
        known = np.linalg.norm(found, axis=0) > 0
        angle = np.rad2deg(np.arccos(np.clip((found.transpose(1, 2, 0) * normal).sum(-1), -1, 1)))[known]
        assert np.median(angle) < 1

    def test_only_persons(self, pascal):
        tasks = ('human_parts',)
        steps = dict(data_root=str(pascal), tasks=tasks)
        assert len(PASCALContextMTDataset(**steps)) == 3
        kept = PASCALContextMTDataset(**steps, only_persons=True)
        assert [Path(kept.get_data_info(i)['img_path']).stem for i in range(len(kept))] == [
            '2008_000000',
            '2008_000002',
        ]
        with pytest.raises(ValueError, match='only_persons=True needs the task human_parts'):
            PASCALContextMTDataset(data_root=str(pascal), tasks=('saliency',), only_persons=True)

    def test_files_that_are_not_of_the_set(self, tmp_path):
        root = write_pascal(tmp_path, 1, 1)
        parts, context = root / 'human_parts/2008_000000.mat', root / 'pascal-context/trainval/2008_000000.mat'
        scipy.io.savemat(parts, dict(annotation=1))
        with pytest.raises(ValueError, match=r"2008_000000.mat: expected the variable 'anno' .* found annotation"):
            base('pascal-context', root, 'train')[0]
        parts.write_bytes(parts.read_bytes()[:40])
        with pytest.raises(ValueError, match=r'2008_000000.mat: expected a MATLAB file up to version 7, found'):
            base('pascal-context', root, 'train')[0]
        scipy.io.savemat(parts, dict(anno=3))
        with pytest.raises(ValueError, match='expected anno.objects with class_ind, mask and parts'):
            base('pascal-context', root, 'train')[0]
        write_parts(parts, ('person', 15, box(0, 9, 0, 9), dict(tail=box(0, 9, 0, 9))))
        with pytest.raises(ValueError, match="a person has a part 'tail'; expected one of head, hair"):
            base('pascal-context', root, 'train')[0]
        write_parts(parts, ('person', 15, box(0, 9, 0, 9), dict(head=box(0, 9, 0, 9, (40, 57)))))
        with pytest.raises(ValueError, match=r'the mask of head has \(40, 57\), expected \(40, 56\)'):
            base('pascal-context', root, 'train')[0]
        write_parts(parts, PERSON)
        scipy.io.savemat(context, dict(anno=1))
        with pytest.raises(ValueError, match="expected the variable 'LabelMap' in the MATLAB file, found anno"):
            base('pascal-context', root, 'train')[0]
        context.unlink()
        with pytest.raises(FileNotFoundError, match='found no normal_map_path of any of the 1 images'):
            base('pascal-context', root, 'train')
        for array, message in (((*SIZE, 3), 'expected grey, uint8'), (SIZE, 'holds 0 and 1, expected grey 0 … 255')):
            write(root / 'sal_distill/2008_000000.png', np.ones(array, np.uint8))
            with pytest.raises(ValueError, match=f'saliency: the file {message}|saliency: the file holds .*{message}'):
                of_one_task(root, 'saliency', 'Saliency')[0]


def test_created_images_of_a_set_with_formats(pascal, tmp_path):
    """Labels in a store are plain maps, those of the source are read as the set says."""
    store = SampleStore(tmp_path / 'store')
    parts, edge = np.full((24, 32), 3, np.uint8), np.full((24, 32), 51, np.uint8)
    image = np.zeros((24, 32, 3), np.uint8)
    store.add(dict(sample_id='a', source='JPEGImages/2008_000000.jpg'), image, dict(human_parts=parts, edge=edge))
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/pascal-context-edge.py').train_dataloader.dataset
    cfg.update(data_root=str(pascal), pipeline=[step for step in cfg.pipeline if 'Random' not in step.type])
    found = {}
    for labels in ('stored', 'source', 'none'):
        dataset = SyntheticSampleDataset(cfg, tmp_path / 'store', labels=labels)
        found[labels] = fields(dataset[3]['data_samples'])
        assert found[labels]['gt_human_parts'].shape == (1, 24, 32)
    np.testing.assert_array_equal(found['stored']['gt_human_parts'][0], parts)
    np.testing.assert_allclose(found['stored']['gt_edge'][0], 0.2)
    assert set(found['source']['gt_human_parts'].flat) == {0, 1, 2, 6} and found['source']['gt_normal_map'].any()
    assert set(found['none']['gt_human_parts'].flat) == set(found['none']['gt_saliency'].flat) == {255}
    assert not found['none']['gt_normal_map'].any()


def test_the_mark_of_the_data_follows_the_labels(tmp_path):
    """What tells a resumed training that its labels are the same reads MATLAB files and the other folder, too."""
    root = write_pascal(tmp_path / 'a', 2, 1)
    loader = Config.fromfile(ROOT / 'configs/_base_/datasets/pascal-context.py').train_dataloader
    loader.dataset.data_root = str(root)
    before = data_facts(loader)
    assert data_facts(loader) == before
    write_parts(root / 'human_parts/2008_000001.mat', PERSON)
    assert data_facts(loader) != before


class TestFiles:
    """The readers alone."""

    def test_there_are_24_parts_and_170_labels(self):
        assert len(PART_OF) == 24 and sorted(set(PART_OF.values())) == [1, 2, 3, 4, 5, 6]
        assert len(NORMALS_KNOWN) == 170 and {427, 440, 158, 284} <= NORMALS_KNOWN
        assert not {360, 420, 431} & NORMALS_KNOWN, 'sky, tree, unknown'

    def test_without_persons(self, tmp_path):
        write_parts(tmp_path / 'none.mat')
        write_parts(tmp_path / 'dog.mat', DOG)
        write_parts(tmp_path / 'bare.mat', ('person', 15, box(0, 9, 0, 9), {}))
        assert human_parts(str(tmp_path / 'none.mat'), (7, 9)).shape == (7, 9)
        for name in ('none', 'dog', 'bare'):
            assert not human_parts(str(tmp_path / f'{name}.mat'), (7, 9)).any()

    def test_edges_are_where_labels_meet(self):
        """Two halves: the Laplacian marks both sides, thinning leaves a line of one pixel."""
        labels = np.full((8, 10), 3, np.int32)
        labels[:, 5:] = 90
        edges = label_edges(labels)
        assert set(np.unique(edges)) == {0, 255} and (edges > 0).sum(1).tolist()[1:-1] == [1] * 6
        assert (edges > 0).sum(1).max() == 1
        assert set(np.nonzero(edges)[1]) <= {4, 5} and not label_edges(np.ones((8, 10), np.int32)).any()

    @pytest.mark.skipif(not SAMPLES.is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
    def test_real_parts(self, tmp_path):
        """16 images, 18 persons; all parts lie within the mask of a person."""
        files = sorted((SAMPLES / 'Annotations_Part').glob('*.mat'))
        persons, shown = 0, []
        for file in files:
            found = human_parts(str(file), (1, 1))
            height, width = cv2.imread(str(SAMPLES / f'JPEGImages/{file.stem}.jpg')).shape[:2]
            assert found.shape == (height, width)
            content = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)['anno']
            masks = [each.mask for each in np.atleast_1d(content.objects) if each.class_ind == 15]
            persons += len(masks)
            if found.any():
                shown.append(file.stem)
                assert (np.any(masks, axis=0)[found > 0]).mean() > 0.99
        assert len(files) == 16 and persons == 18 and len(shown) == 8
        for folder, own in (('JPEGImages', 'JPEGImages'), ('human_parts', 'Annotations_Part')):
            (tmp_path / folder).symlink_to(SAMPLES / own)
        (tmp_path / 'names.txt').write_text('\n'.join(file.stem for file in files))
        lists = dict(ann_file='names.txt', only_persons=True)
        dataset = of_one_task(tmp_path, 'human_parts', 'HumanParts', **lists)
        assert [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))] == shown
        maps = [dataset[index]['data_samples'].gt_human_parts.data for index in range(8)]
        assert torch.cat([each.flatten() for each in maps]).unique().tolist() == list(range(7))
        assert len(of_one_task(tmp_path, 'human_parts', 'HumanParts', ann_file='names.txt')) == 16
        couple = human_parts(str(SAMPLES / 'Annotations_Part/2008_000726.mat'), (1, 1))
        assert np.bincount(couple.ravel()).tolist() == [7262, 17556, 18249, 16217, 17516]


def test_sets_with_different_tasks_train_one_model(nyud, pascal):
    """NYUv2 with depth, PASCAL with classes: what a set does not have says nothing, gradients come from both."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/nyud-mt.py')
    steps = [
        *cfg.load[:3],
        dict(type='RandomZoom', ratio_range=(0.5, 2.0)),
        dict(type='DenseRandomCrop', crop_size=(32, 48), cat_max_ratio=0.75),
        *cfg.augment[2:],
    ]
    sets = [
        dict(type='NYUDMTDataset', data_root=str(nyud), tasks=('depth',), pipeline=steps),
        dict(type='PASCALContextMTDataset', data_root=str(pascal), tasks=('semantic_segmentation',), pipeline=steps),
    ]
    keys = ['classes', 'palette', 'reduce_zero_label']
    dataset = DATASETS.build(dict(type='ConcatDataset', datasets=sets, ignore_keys=keys))
    np.random.seed(0)
    model = segmentor('semantic_segmentation', 'depth')
    model.task.semantic_segmentation.num_classes = 21
    heads = model.decode_head
    heads.tasks.semantic_segmentation.num_classes = heads.heads.semantic_segmentation.num_classes = 21
    model.data_preprocessor = dict(type='DenseDataPreProcessor', size=(32, 48), centred=True)
    model = MODELS.build(model).train()
    of = {}
    for name, indices in (('depth', (0, 1)), ('classes', (3, 4)), ('both', (0, 4))):
        data = model.data_preprocessor(pseudo_collate([dataset[index] for index in indices]), training=True)
        known = [
            (bool((sample.gt_depth_map.data > 0).any()), bool((sample.gt_sem_seg.data != 255).any()))
            for sample in data['data_samples']
        ]
        assert known == [(index < 3, index >= 3) for index in indices]
        losses = model.loss(**data)
        of[name] = {key: float(value) for key, value in losses.items() if 'loss' in key}
        model.zero_grad()
        loss_of(losses).backward()
        grads = {
            task: sum(float(p.grad.abs().sum()) for p in head.parameters() if p.grad is not None)
            for task, head in model.decode_head.heads.items()
        }
        assert (grads['depth'] > 0) == (name != 'classes')
        assert (grads['semantic_segmentation'] > 0) == (name != 'depth')
    assert all(torch.isfinite(torch.tensor(list(losses.values()))).all() for losses in of.values())
