"""FreeMask's filter against a slow reference, pixel by pixel; stores that are labelled, killed, gone on with, read."""

import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from tiny_tasks import K, segmentor

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.labelling.class_losses import pixel_losses
from mmdiff2in1.labelling.free_mask import filtered, free_mask
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.tasks import SemanticSegmentation

SIZES = [(16, 24), (16, 24), (20, 16)]
NAMES = ['floor', 'wall', 'ball', 'lamp']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def cfg(tmp_path):
    """Three real images with classes 0 … 2 and ignored pixels; nothing shows class 3."""
    rng = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        write_png(tmp_path / f'images/{index}.png', rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        label = rng.integers(0, 4, size, dtype=np.uint8)
        write_png(tmp_path / f'classes/{index}.png', np.where(label == 3, 255, label).astype(np.uint8))
    dataset = dict(
        type='BaseSegDataset', data_root=str(tmp_path), img_suffix='.png', metainfo=dict(classes=NAMES),
        data_prefix=dict(img_path='images', seg_map_path='classes'), serialize_data=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )  # fmt: skip
    model = segmentor('semantic_segmentation')
    model.data_preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[60.0] * 3, bgr_to_rgb=True)
    return Config(dict(model=model, train_dataloader=dict(dataset=dataset)))


@pytest.fixture
def checkpoint(cfg, tmp_path):
    torch.manual_seed(3)
    model = MODELS.build(cfg.model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=100.0)  # sure of something
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'


@pytest.fixture
def store(tmp_path):
    """Four created images, two of one source; one at another size than its source."""
    rng = np.random.default_rng(1)
    store = SampleStore(tmp_path / 'store')
    for name, source, size in (('a', 0, SIZES[0]), ('b', 1, SIZES[1]), ('c', 1, SIZES[1]), ('d', 2, (16, 24))):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        store.add(dict(sample_id=name, source=f'images/{source}.png', caption='x'), image)
    return store


def label_of(tmp_path, source, size=None):
    label = np.asarray(Image.open(tmp_path / source.replace('images', 'classes')))
    if size is None or label.shape == size:
        return label
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, label.shape, strict=True))
    return label[rows.astype(int)][:, columns.astype(int)]


def losses_by_hand(cfg, checkpoint, path, label):
    """-log of mmseg's own softmax at the label, pixel by pixel."""
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    image = torch.tensor(np.asarray(Image.open(path)).astype(np.float32)).permute(2, 0, 1)[None]
    meta = dict(img_shape=label.shape, ori_shape=label.shape, pad_shape=label.shape)
    with torch.no_grad():
        logits = model.eval().encode_decode((image - 127.5) / 60.0, [meta])[0].double().numpy()
    losses = np.zeros(label.shape)
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if label[y, x] != 255:
                scores = logits[:, y, x]
                losses[y, x] = math.log(sum(math.exp(s) for s in scores)) - scores[label[y, x]]
    return losses


@pytest.mark.filterwarnings('ignore')
def test_labels_reports_and_scores_against_a_slow_reference(cfg, checkpoint, store, tmp_path):
    report = free_mask(cfg, checkpoint, store, tmp_path / 'scores.jsonl', device='cpu', batch_size=3)
    real = [f'images/{index}.png' for index in range(3)]
    labels = {name: label_of(tmp_path, name) for name in real}
    losses = {name: losses_by_hand(cfg, checkpoint, tmp_path / name, labels[name]) for name in real}
    means = []
    for k in range(K):
        of_class = [
            loss for name in real for loss, c in zip(losses[name].flat, labels[name].flat, strict=True) if c == k
        ]
        means.append(sum(of_class) / len(of_class) if of_class else 0.0)
    assert report['class_means'] == pytest.approx(dict(zip(NAMES, means, strict=True)), abs=1e-5)

    given, kept = np.zeros(256), np.zeros(256)
    for record in store.records():
        image = store.image(record)
        size = np.asarray(Image.open(image)).shape[:2]
        label = label_of(tmp_path, record['source'], size)
        loss = losses_by_hand(cfg, checkpoint, image, label)
        expected = label.copy()
        for y, x in np.ndindex(*size):
            if label[y, x] != 255 and loss[y, x] > 1.25 * means[label[y, x]]:
                expected[y, x] = 255
        stored = read_png(store.labels(record)['semantic_segmentation'])
        np.testing.assert_array_equal(stored, expected)
        assert 0 < (stored == 255).sum() < stored.size and not np.array_equal(stored, label)
        given += np.bincount(label.ravel(), minlength=256)
        kept += np.bincount(stored.ravel(), minlength=256)
    shares = {NAMES[k]: 1 - kept[k] / given[k] for k in range(3)}
    assert report['filtered'] == pytest.approx(shares) and report['samples'] == 4
    assert report['filtered_in_all'] == pytest.approx(1 - kept[:K].sum() / given[:K].sum())
    assert json.loads((store.folder / 'free_mask.json').read_text()) == report
    assert store.verify() == []

    scores = [json.loads(line) for line in (tmp_path / 'scores.jsonl').read_text().splitlines()]
    for score, name in zip(scores, real, strict=True):
        known = labels[name][labels[name] != 255]
        hardness = np.mean([means[k] for k in known])
        loss = losses[name][labels[name] != 255].mean()
        assert score == dict(
            source=name, hardness=pytest.approx(hardness, abs=1e-5), loss=pytest.approx(loss, abs=1e-5)
        )


@pytest.mark.filterwarnings('ignore')
def test_a_killed_run_goes_on_and_a_finished_one_has_nothing_to_do(cfg, checkpoint, store, monkeypatch):
    whole = free_mask(cfg, checkpoint, store, device='cpu')
    before = {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()}
    written = []
    label = SampleStore.label

    def counting(self, record, labels, by):
        written.append(record['sample_id'])
        if len(written) == 2 and 'margin=2,' in by:
            raise KeyboardInterrupt
        return label(self, record, labels, by)

    monkeypatch.setattr(SampleStore, 'label', counting)
    assert free_mask(cfg, checkpoint, store, device='cpu') == whole and written == []
    assert {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()} == before
    with pytest.raises(KeyboardInterrupt):
        free_mask(cfg, checkpoint, store, margin=2.0, device='cpu')
    assert written == ['a', 'b'] and store.verify() == []
    loose = free_mask(cfg, checkpoint, store, margin=2.0, device='cpu')
    assert written == ['a', 'b', 'b', 'c', 'd'] and loose['filtered_in_all'] < whole['filtered_in_all']
    assert len((store.folder / 'manifest.jsonl').read_text().splitlines()) == 4
    free_mask(cfg, checkpoint, store, device='cpu')
    assert {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()} == before


@pytest.mark.filterwarnings('ignore')
def test_a_training_is_taught_the_filtered_label(cfg, checkpoint, store, tmp_path):
    free_mask(cfg, checkpoint, store, device='cpu')
    dataset = cfg.train_dataloader.dataset
    wrapped = DATASETS.build(
        dict(type='SyntheticSampleDataset', dataset=dataset, store=str(store.folder), labels='stored')
    )
    for index, record in enumerate(store.records()):
        sample = wrapped[3 + index]['data_samples']
        assert sample.sample_id == record['sample_id']
        stored = read_png(store.labels(record)['semantic_segmentation'])
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), stored)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('by', [None, '0123456789abcdef'])
def test_labels_that_a_layout_composed_or_a_teacher_gave_stay(cfg, checkpoint, store, by):
    label = {'semantic_segmentation': np.ones(SIZES[0], np.uint8)}
    image = np.zeros((*SIZES[0], 3), np.uint8)
    record = store.add(dict(sample_id='p', source='images/0.png', caption='x'), image, None if by else label)
    if by:
        store.label(record, label, by)
    before = {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()}
    with pytest.raises(ValueError, match=r"1 of 5 samples in .* have labels of their own.*teacher's \(p\)"):
        free_mask(cfg, checkpoint, store, device='cpu')
    assert {file: file.read_bytes() for file in store.folder.rglob('*') if file.is_file()} == before


@pytest.mark.filterwarnings('ignore')
def test_another_ignored_index_is_what_the_head_ignores(cfg, checkpoint, store, tmp_path):
    """As CamVid's 11: the labels are the same, but for what stands for no class."""

    def filtered_labels():
        return [read_png(store.labels(record)['semantic_segmentation']) for record in store.records()]

    expected = free_mask(cfg, checkpoint, store, device='cpu')
    with_255 = filtered_labels()
    for file in (tmp_path / 'classes').glob('*.png'):
        label = read_png(file)
        write_png(file, np.where(label == 255, K, label).astype(np.uint8))
    cfg.model.decode_head.ignore_index = cfg.train_dataloader.dataset.ignore_index = K
    shutil.rmtree(store.folder / 'labels')
    found = free_mask(cfg, checkpoint, store, device='cpu')
    assert {k: v for k, v in found.items() if k != 'teacher'} == {k: v for k, v in expected.items() if k != 'teacher'}
    for one, other in zip(filtered_labels(), with_255, strict=True):
        np.testing.assert_array_equal(one, np.where(other == 255, K, other))


def test_the_margin_is_of_the_class_of_each_pixel():
    label = np.array([[0, 0, 1, 1, 2, 255]], np.uint8)
    losses = np.array([[1.25, 1.26, 2.5, 2.51, 0.01, 0.0]])
    means = np.array([1.0, 2.0, 0.0])  # no real image shows class 2
    found = filtered(label, losses, means, 1.25, 255)
    assert found.tolist() == [[0, 255, 1, 255, 255, 255]] and found.dtype == np.uint8


def test_the_loss_of_one_logit_is_that_of_two_classes():
    output = torch.tensor([[[[0.0, 2.0, -3.0]]]])
    label = np.array([[1, 1, 0]], np.uint8)
    found = pixel_losses(SemanticSegmentation(2, threshold=0.5), output, label)
    np.testing.assert_allclose(found, [[math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(-3))]], rtol=1e-6)
    sure = torch.tensor([400.0, -400.0]).view(1, 2, 1, 1)  # far below what float32 holds
    assert pixel_losses(SemanticSegmentation(2), sure, np.ones((1, 1), np.uint8))[0, 0] > 700


def test_what_does_not_fit_is_told_first(cfg, checkpoint, store, tmp_path):
    with pytest.raises(ValueError, match='margin is 0, expected more than 0'):
        free_mask(cfg, checkpoint, store, margin=0)
    with pytest.raises(FileNotFoundError, match='holds no manifest.jsonl'):
        free_mask(cfg, checkpoint, SampleStore(tmp_path / 'nowhere'))
    cfg.train_dataloader.dataset.metainfo = dict(classes=NAMES[:3])
    with pytest.raises(ValueError, match='the segmentor predicts 4 classes, the training set has 3'):
        free_mask(cfg, checkpoint, store, device='cpu')
    cfg.train_dataloader.dataset.metainfo = dict(classes=NAMES)
    store.add(dict(sample_id='e', source='images/9.png', caption='x'), np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(ValueError, match=r'1 of 5 sources have no semantic_segmentation label \(images/9\.png\)'):
        free_mask(cfg, checkpoint, store, device='cpu')


@pytest.mark.filterwarnings('ignore')
def test_the_door(cfg, checkpoint, store, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('free_mask_tool', Path(__file__).parents[2] / 'tools/free_mask.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    cfg.dump(tmp_path / 'config.py')
    report = tool.main([str(tmp_path / 'config.py'), str(checkpoint), '--store', str(store.folder), '--device', 'cpu'])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    first = lines.index(['class', 'mean', 'loss', 'filtered']) + 1
    shown = {line[0]: line[1:] for line in lines[first:-1]}
    assert list(shown) == list(report['class_means'])
    for name, (loss, share) in shown.items():
        assert float(loss) == pytest.approx(report['class_means'][name], rel=1e-3)
        assert share == (f'{report["filtered"][name]:.1%}' if name in report['filtered'] else '–')
    assert lines[-1] == ['in', 'all', f'{report["filtered_in_all"]:.1%}']
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / 'config.py'), str(checkpoint)])
