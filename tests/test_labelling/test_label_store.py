"""Labels of a teacher in a store: what is written, that it is read again, and what a kill costs.

Four created images of 16 × 24, one of them 16 × 20; K = 4 classes.
"""

import json

import mmseg.models  # noqa: F401  registers mmseg's parts
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_tasks import SIZE, TASKS, K, segmentor, wrapped

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.datasets import SyntheticSampleDataset
from mmdiff2in1.labelling import Labelling, label_store
from mmdiff2in1.models import TeacherLabel
from mmdiff2in1.models.self_improving.labelling import labelled
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.unlabelled import UnlabelledPool
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet
from mmdiff2in1.tasks.soft_classes import FIELD, NOWHERE, as_file, from_file, from_topk, to_topk

CLASSES = 'semantic_segmentation'
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[90.0, 80, 70], std=[60.0, 50, 40], bgr_to_rgb=True)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def image(index):
    size = (*SIZE, 3) if index else (16, 20, 3)
    return np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def store(tmp_path):
    made = SampleStore(tmp_path / 'store')
    for index in range(4):
        made.add(dict(sample_id=f's{index}', source='images/0.png'), image(index))
    return made


@pytest.fixture
def labelling(tmp_path):
    def make(*names, seed=1, **rule):
        config = ConfigDict(segmentor(*names), data_preprocessor=PREPROCESSOR)
        torch.manual_seed(seed)
        built = MODELS.build(config)
        for tensor in built.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(torch.rand(tensor.shape) - (0 if tensor.ndim == 1 else 0.5))
        torch.save(dict(state_dict=built.state_dict(), meta={}), tmp_path / f'{seed}.pth')
        topk = dict(topk=rule.pop('topk')) if 'topk' in rule else {}
        teacher = dict(config=config, checkpoint=str(tmp_path / f'{seed}.pth'))
        tasks = TaskSet({name: TASKS[name] for name in names})
        return Labelling(TeacherLabel(teacher=teacher, **rule), tasks, **topk)

    return make


def output(labelling, index):
    """What the teacher puts out for a stored image, (1, C, H, W)."""
    pixels = torch.from_numpy(image(index)[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return labelling.teachers.outputs(pixels, [{}])


def test_hard_labels_are_what_the_teacher_sees_and_other_tasks_keep_their_files(store, labelling):
    one = labelling(*TASKS)
    label_store(store, one, batch_size=2, device='cpu', progress=False)
    for index, record in enumerate(store.records()):
        files = store.labels(record)
        assert set(files) == set(TASKS) and all(label['by'] == one.mark for label in record['labels'].values())
        for name, own in one.tasks.split(output(one, index)).items():
            task = one.tasks[name]
            expected = task.to_map(task.pseudo_label(own)[0][0])
            np.testing.assert_allclose(
                task.decode(read_png(files[name])).astype(float), expected, atol=0 if name == CLASSES else 1e-3
            )
    assert store.verify() == [] and len((store.folder / 'manifest.jsonl').read_text().splitlines()) == 4


@pytest.mark.parametrize('classes', [3, 4, 9])
def test_a_top_k_map_tells_the_probabilities(classes):
    generator = torch.Generator().manual_seed(0)
    p = (4 * torch.randn(classes, 5, 6, generator=generator)).softmax(0)
    p[:, 0, 0] = 0
    kept = from_file(as_file(to_topk(p, 4)), (5, 6))
    back = from_topk(torch.from_numpy(kept.astype(np.int32)), classes)
    assert (back[:, 0, 0] == 0).all() and kept[len(kept) // 2, 0, 0] == NOWHERE
    p, back = p.flatten(1)[:, 1:], back.flatten(1)[:, 1:]
    torch.testing.assert_close(back.sum(0), torch.ones(29), rtol=0, atol=2e-5)
    top = p.topk(min(4, classes), dim=0)
    error = (back - p).abs()
    assert error.gather(0, top.indices).max() <= (1 / 131070 + 1e-6 if classes > 4 else 4e-5)
    # Each of the others has the mean of what they have together: no further off than the largest of them.
    if classes > 4:
        fourth = top.values[-1]
        assert (error <= fourth + 1e-5).all()
        torch.testing.assert_close(back.sum(0), p.sum(0), rtol=0, atol=2e-5)
    else:
        assert error.max() <= 4e-5


def test_what_is_no_top_k_map():
    assert from_file(np.zeros((5, 6), np.uint8), (5, 6)) is None
    assert from_file(np.zeros((15, 6), np.uint16), (5, 6)) is None  # an odd number of planes
    assert from_file(np.zeros((11, 6), np.uint16), (5, 6)) is None
    assert from_file(np.zeros((10, 7), np.uint16), (5, 6)) is None


def real_set(root):
    write_png(root / 'images/0.png', image(1))
    write_png(root / 'classes/0.png', np.zeros(SIZE, np.uint8))
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='classes'),
        img_suffix='.png',
        serialize_data=False,
    )


@pytest.mark.parametrize('kind, told', [('RandomFlip', False), ('mmcv.RandomFlip', True)])
def test_what_mirrors_the_classes_alone_is_told(store, labelling, tmp_path, kind, told):
    label_store(store, labelling(CLASSES, soft=True, min_confidence=0.5), device='cpu', progress=False)
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    steps = [*load, dict(type=kind, prob=1.0), dict(type='PackSegInputs')]
    dataset = SyntheticSampleDataset(dict(real_set(tmp_path), pipeline=steps), store.folder, labels='stored')
    if not told:
        assert FIELD in dataset[1]['data_samples']
        return
    with pytest.raises(ValueError, match='the classes, but not their probabilities'):
        dataset[1]


def test_soft_labels_reach_the_loss_through_the_pipeline(store, labelling, tmp_path):
    """Mirrored by mmseg's own RandomFlip; the probabilities of the teacher, mirrored."""
    one = labelling(CLASSES, soft=True, min_confidence=0.5)
    label_store(store, one, device='cpu', progress=False)
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackSegInputs'),
    ]
    dataset = SyntheticSampleDataset(
        dict(real_set(tmp_path), pipeline=steps), store=store.folder, labels='stored', mix='uniform'
    )
    batch = pseudo_collate([dataset[1], dataset[2]])  # s0 is smaller than s1: it is padded
    model = wrapped(CLASSES, label_rule=dict(type='GivenLabel'), data_preprocessor=dict(PREPROCESSOR, size=SIZE))
    data = model.data_preprocessor(batch, True)
    found, shares = labelled(model.label_rule, model.creator, data['inputs'], data['data_samples'], model.tasks, SIZE)
    for index, sample in enumerate(found):
        own = one.rule.label({}, {CLASSES: output(one, index)}, one.tasks)[CLASSES].target[0].flip(-1)
        expected = torch.zeros(K, *SIZE)
        expected[:, : own.shape[1], : own.shape[2]] = own
        torch.testing.assert_close(sample.gt_sem_seg.data, expected, rtol=0, atol=5e-5)
        hard = data['data_samples'][index].gt_sem_seg.data[0, :, :20]
        known = own[:, :, :20].amax(0) > 0
        assert torch.equal(hard[known], own[:, :, :20].argmax(0)[known]) and (hard[~known] == 255).all()
    assert 0 < shares[CLASSES] < 1
    losses = model.loss(**data)
    assert losses['synthetic/decode.loss_ce'] > 0


def test_resizing_keeps_probabilities_and_classes_together(store, labelling, tmp_path):
    label_store(store, labelling(CLASSES, soft=True), device='cpu', progress=False)
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='Resize', scale=(48, 32)),
        dict(type='RandomCrop', crop_size=(24, 30)),
        dict(type='PackSegInputs'),
    ]
    dataset = SyntheticSampleDataset(dict(real_set(tmp_path), pipeline=steps), store=store.folder, labels='stored')
    sample = dataset[2]['data_samples']
    p = from_topk(sample.get(FIELD).data, K)
    assert p.shape == (K, 24, 30) and torch.equal(p.argmax(0), sample.gt_sem_seg.data[0])


def test_unlabelled_images_keep_their_labels(store, labelling, tmp_path, monkeypatch):
    photos = tmp_path / 'photos'
    for index in range(2):
        write_png(photos / f'{index}.png', image(index))
    UnlabelledPool.of(str(photos)).add(store)
    one = labelling(CLASSES)
    label_store(store, one, device='cpu', progress=False)
    records = {record['sample_id']: record for record in store.records()}
    mine = {name: record for name, record in records.items() if record.get('kind') == 'unlabelled'}
    assert len(records) == 6 and len(mine) == 2 and store.verify() == []
    for record in mine.values():
        task, file = one.tasks[CLASSES], store.labels(record)[CLASSES]
        index = int(record['sample_id'][0])
        expected = task.to_map(task.pseudo_label(output(one, index))[0][0])
        np.testing.assert_array_equal(task.decode(read_png(file)), expected)
        assert file.parent == store.folder / 'labels' / CLASSES and not record['image'].startswith('images/')

    # Taken in again, and from another place, they are the same images.
    UnlabelledPool.of(str(photos)).add(store)
    assert {record['sample_id']: record for record in store.records()} == records
    photos.rename(tmp_path / 'moved')
    UnlabelledPool.of(str(tmp_path / 'moved')).add(store)
    moved = {record['sample_id']: record for record in store.records()}
    assert all(moved[name]['labels'] == record['labels'] for name, record in mine.items())
    assert all('moved' in moved[name]['image'] for name in mine) and store.verify() == []

    # A label that has gone is written anew, that one only.
    gone, kept = (store.labels(record)[CLASSES] for record in mine.values())
    gone.unlink()
    UnlabelledPool.of(str(tmp_path / 'moved')).add(store)
    asked, maps = [], type(one).maps
    monkeypatch.setattr(type(one), 'maps', lambda self, pixels: asked.append(len(pixels)) or maps(self, pixels))
    label_store(store, one, device='cpu', progress=False)
    assert asked == [1] and gone.is_file() and store.verify() == []


def test_a_run_goes_on_where_it_was_killed(store, labelling, monkeypatch):
    one = labelling('depth')
    write, written = SampleStore._append, []

    def killed(self, record):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(record['sample_id'])
        write(self, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SampleStore, '_append', killed)
        label_store(store, one, batch_size=1, device='cpu', progress=False)
    assert sum('labels' in record for record in store.records()) == 2 and store.verify() == []
    before = {file: file.stat().st_mtime_ns for file in store.folder.glob('labels/depth/*.png')}
    done = {store.folder / f'labels/depth/{name}.png' for name in written}
    label_store(store, one, batch_size=1, device='cpu', progress=False)
    assert all('labels' in record for record in store.records()) and store.verify() == []
    assert all((file.stat().st_mtime_ns == before[file]) for file in done)

    # Finished: nothing is asked of the teacher any more.
    monkeypatch.setattr(type(one), 'maps', lambda *_: pytest.fail('labelled again'))
    label_store(store, one, device='cpu', progress=False)


def test_processes_share_the_work(store, labelling):
    one = labelling(CLASSES)
    label_store(store, one, device='cpu', rank=1, world_size=2, progress=False)
    half = {record['sample_id'] for record in store.records() if 'labels' in record}
    assert half == {'s1', 's3'} and (store.folder / 'manifest.rank1.jsonl').is_file()
    label_store(store, one, device='cpu', rank=0, world_size=2, progress=False)
    assert all('labels' in record for record in store.records())
    assert [file.name for file in store.folder.glob('manifest*')] == ['manifest.jsonl']


def test_labels_of_another_teacher_are_not_mistaken(store, labelling):
    first, second, softer = labelling(CLASSES), labelling(CLASSES, seed=2), labelling(CLASSES, soft=True)
    assert len({first.mark, second.mark, softer.mark, labelling(CLASSES, soft=True, topk=2).mark}) == 4
    assert labelling(CLASSES).mark == first.mark
    label_store(store, first, device='cpu', progress=False)
    with pytest.raises(ValueError, match='holds labels of another teacher, or of other settings, for 4 of 4 samples'):
        label_store(store, second, device='cpu', progress=False)
    for rank in (0, 1):  # into shards beside a manifest that has the first ones
        label_store(store, second, device='cpu', replace=True, rank=rank, world_size=2, progress=False)
    assert {record['labels'][CLASSES]['by'] for record in store.records()} == {second.mark}
    assert store.verify() == []


def test_labels_of_its_own_stay(tmp_path, labelling):
    store, true = SampleStore(tmp_path / 'store'), np.full(SIZE, 3, np.uint8)
    store.add(dict(sample_id='pasted', source=None), image(1), {CLASSES: true})
    store.add(dict(sample_id='plain', source=None), image(2))
    one = labelling(CLASSES, 'depth')
    label_store(store, one, device='cpu', progress=False)
    pasted, plain = store.records()
    assert (read_png(store.labels(pasted)[CLASSES]) == 3).all() and 'by' not in pasted['labels'][CLASSES]
    assert pasted['labels']['depth']['by'] == plain['labels'][CLASSES]['by'] == one.mark
    assert json.loads((store.folder / 'manifest.jsonl').read_text().splitlines()[0])['sample_id'] == 'pasted'


@pytest.mark.parametrize(
    ('rule', 'message'),
    [
        (TeacherLabel(), 'labels that are kept need a teacher that stays what it is'),
        (TeacherLabel(teacher=['creator', dict(config='a', checkpoint='b')]), 'θ_C labels in every step anew'),
        (TeacherLabel(teacher=dict(config='a', checkpoint='b'), balanced=True), 'balanced=True looks at all pixels'),
    ],
)
def test_rules_that_cannot_be_written_down(rule, message):
    with pytest.raises(ValueError, match=message):
        Labelling(rule, TaskSet(TASKS[CLASSES]))
    mirror = TaskSet(SemanticSegmentation(4, mirrored_pairs=[(1, 2)]))
    with pytest.raises(ValueError, match='change places in a mirror'):
        Labelling(TeacherLabel(teacher=dict(config='a', checkpoint='b'), soft=True), mirror)
    several = TaskSet([TASKS[CLASSES], dict(type='HumanParts'), dict(type='Saliency'), TASKS['depth']])
    with pytest.raises(ValueError, match='semantic segmentation alone, not those of human_parts, saliency;'):
        Labelling(TeacherLabel(teacher=dict(config='a', checkpoint='b'), soft=True), several)
    Labelling(TeacherLabel(teacher=dict(config='a', checkpoint='b')), several)
