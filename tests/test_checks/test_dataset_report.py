"""The dataset checker finds each planted fault, names the file, and says nothing about a clean set."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmdiff2in1.checks import in_processes
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.labels import LabelRules
from mmdiff2in1.checks.report import report_text
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.datasets.splits import make_splits, write_splits
from mmdiff2in1.tasks import Depth, SurfaceNormal

ROOT = Path(__file__).resolve().parents[2]
# A folder in the official layout of the set; the two pairs of the set's public samples are enough.
ADE20K = Path(os.environ.get('MMDIFF2IN1_ADE20K', ROOT / 'data/ade/ADEChallengeData2016'))
H, W = 40, 48
PARTS = {'training': 3, 'validation': 2}


@pytest.fixture
def ade(tmp_path):
    """ADE20K's layout with 3 + 2 pairs of 40 × 48 pixels; every label holds 0 (unlabelled) and all 150 classes."""
    init_default_scope('mmseg')
    random = np.random.default_rng(0)
    for part, count in PARTS.items():
        for kind in ('images', 'annotations'):
            (tmp_path / kind / part).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 256, (H, W, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / 'images' / part / f'{number}.jpg')
            write_label(tmp_path / 'annotations' / part / f'{number}.png', np.arange(H * W) % 151)
    return tmp_path


def write_label(path, values):
    Image.fromarray(np.asarray(values, np.uint8).reshape(H, -1)).save(path)


def loader(root, part='training', kind='ADE20KDataset', **more):
    prefix = dict(img_path=f'images/{part}', seg_map_path=f'annotations/{part}')
    return dict(dataset=dict(type=kind, data_root=str(root), data_prefix=prefix) | more)


def config(root, **train):
    """A config with both parts; `train` goes into the training set."""
    val = {key: value for key, value in train.items() if key in ('kind', 'reduce_zero_label', 'metainfo')}
    return ConfigDict(
        train_dataloader=loader(root, **train), val_dataloader=loader(root, part='validation', **val), model=None
    )


def report(cfg, **options):
    return check_datasets(cfg, workers=2, progress=False, **options)[0]


def problems(cfg, **options):
    """(severity, check, part) → the problems, without the counts, which never fit here."""
    found = {}
    for severity in ('error', 'warning'):
        for part, problem in report(cfg, **options).problems(severity):
            if problem.check != 'count':
                found.setdefault((severity, problem.check, part), []).append(problem)
    return found


def the_one(cfg, severity, check, part='train', **options):
    """The only problem that there is, which must be of this kind."""
    found = problems(cfg, **options)
    assert list(found) == [(severity, check, part)]
    (problem,) = found[severity, check, part]
    return problem


def test_clean_set(ade):
    found = report(config(ade))
    assert not found.problems('error')
    counts = {part: (problem.found, problem.expected) for part, problem in found.problems('warning')}
    assert counts == {
        'train': ('3 images', '20210 (the official number)'),
        'val': ('2 images', '2000 (the official number)'),
    }
    train, val = found.parts
    assert (train.pairs, train.read, train.on_disk, val.pairs) == (3, 3, 3, 2)
    assert train.smallest == train.largest == (H, W) and train.grey == 0
    # 1920 pixels = 12 · 151 + 108: values 0 … 107 stand 13 times, 108 … 150 stand 12 times.
    assert train.ignored == 13 / 1920
    assert train.shares['wall'] == 13 / 1920 and len(train.shares) == 150 and not train.absent
    assert sum(train.shares.values()) + train.ignored == pytest.approx(1)
    text = report_text(found)
    assert '150 of 150 classes occur' in text and text.endswith('0 errors, 2 warnings: ready to train')


def test_limit_reads_fewer_but_counts_all(ade):
    part = report(config(ade), limit=1).parts[0]
    assert (part.pairs, part.read, part.on_disk) == (3, 1, 3)


@pytest.mark.parametrize('kind', ['images', 'annotations'])
def test_truncated_file(ade, kind):
    file = next((ade / kind / 'training').glob('1.*'))
    file.write_bytes(file.read_bytes()[:-40])
    problem = the_one(config(ade), 'error', 'unreadable')
    assert problem.file == str(file) and problem.expected.startswith('a whole image file')


def test_image_without_label(ade):
    (ade / 'annotations/training/1.png').unlink()
    problem = the_one(config(ade), 'error', 'missing-label')
    assert problem.file.endswith('annotations/training/1.png')


def test_label_without_image(ade):
    (ade / 'images/training/1.jpg').unlink()
    problem = the_one(config(ade), 'warning', 'orphan-label')
    assert problem.file.endswith('annotations/training/1.png') and 'images/training' in problem.next_step


def test_image_of_another_suffix_is_not_seen(ade):
    (ade / 'images/training/2.jpg').rename(ade / 'images/training/2.jpeg')
    found = problems(config(ade))
    assert set(found) == {('warning', 'orphan-label', 'train'), ('warning', 'other-suffix', 'train')}
    (problem,) = found['warning', 'other-suffix', 'train']
    assert problem.found == 'images that are not used: 1 .jpeg, e.g. 2.jpeg' and '.jpg' in problem.expected


def test_label_of_another_size(ade):
    write_label(ade / 'annotations/training/1.png', np.arange(H * (W - 1)) % 151)
    problem = the_one(config(ade), 'error', 'size')
    assert problem.found.startswith('40×47') and problem.expected.startswith('40×48')


def test_image_that_training_turns(ade):
    """OpenCV turns an image by its EXIF entry, the label stays as it is."""
    file = ade / 'images/training/1.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(file).save(file, exif=exif)
    assert cv2.imread(str(file)).shape[:2] == (W, H)
    found = problems(config(ade))
    assert set(found) == {('error', 'size', 'train'), ('warning', 'exif', 'train')}
    (size,) = found['error', 'size', 'train']
    assert size.expected.startswith('48×40') and 'EXIF' in size.next_step


@pytest.mark.parametrize(
    ('colours', 'hint'),
    [
        ([[120, 120, 120], [4, 250, 7]], 'palette'),
        ([[1, 2, 3], [200, 0, 0]], 'Colour-coded'),
        ([[1, 1, 1], [7, 7, 7]], 'All channels are equal'),
    ],
)
def test_colour_coded_label(ade, colours, hint):
    label = np.array(colours, np.uint8)[np.arange(H * W).reshape(H, W) % 2]
    Image.fromarray(label).save(ade / 'annotations/training/1.png')
    problem = the_one(config(ade), 'error', 'label-channels')
    assert problem.found == '3 channels with 2 colours' and hint in problem.next_step


def test_sixteen_bit_label(ade):
    values = (np.arange(H * W, dtype=np.uint16) % 151 + 200).reshape(H, W)
    Image.fromarray(values).save(ade / 'annotations/training/1.png')
    problem = the_one(config(ade), 'error', 'label-values')
    assert '200 … 350' in problem.found


@pytest.mark.parametrize(('value', 'fits'), [(150, True), (151, False), (254, False), (255, True)])
def test_label_values(ade, value, fits):
    label = np.arange(H * W) % 151
    label[0] = value
    write_label(ade / 'annotations/training/1.png', label)
    cfg = config(ade)
    if fits:
        assert not problems(cfg)
    else:
        problem = the_one(cfg, 'error', 'label-values')
        assert problem.found.startswith(f'label values [{value - 1}] after zero-label reduction')
        assert problem.expected == '0 … 149 or 255 (ignore)'


def test_forgotten_zero_label_reduction(ade):
    found = problems(config(ade, reduce_zero_label=False))
    assert set(found) == {('error', 'label-values', 'train'), ('error', 'label-values', 'val')}
    assert len(found['error', 'label-values', 'train']) == 3
    assert 'set reduce_zero_label=True' in found['error', 'label-values', 'train'][0].next_step


def test_reduced_twice(ade):
    for file in (ade / 'annotations/training').iterdir():
        write_label(file, np.r_[255, np.arange(H * W - 1) % 150])
    found = problems(config(ade))
    # Fewer files than the official number: nothing is said about classes that do not occur.
    assert list(found) == [('warning', 'reduced-twice', 'train')]
    (problem,) = found['warning', 'reduced-twice', 'train']
    assert 'raw value 255, and none of class 150 (flag)' in problem.found


def test_all_ignored(ade):
    write_label(ade / 'annotations/training/1.png', np.zeros(H * W))
    assert the_one(config(ade), 'warning', 'all-ignored').found == 'only ignored pixels'


def test_classes_that_never_occur(ade):
    more = dict(kind='BaseSegDataset', metainfo=dict(classes=[f'c{i}' for i in range(152)]))
    found = problems(config(ade, **more))
    assert set(found) == {('warning', 'absent-classes', part) for part in ('train', 'val')}
    (problem,) = found['warning', 'absent-classes', 'train']
    assert problem.found == '1 of 152 classes in no label: c151'
    assert not problems(config(ade, **more), limit=1)


def test_masks_of_0_and_255(ade):
    """The commonest masks of people's own: the foreground would be ignored."""
    for part in ('training', 'validation'):
        for file in (ade / 'annotations' / part).iterdir():
            write_label(file, np.arange(H * W) % 2 * 255)
    own = dict(kind='BaseSegDataset', metainfo=dict(classes=['background', 'pond']), reduce_zero_label=False)
    (problem,) = problems(config(ade, **own))['warning', 'absent-classes', 'train']
    assert problem.found == '1 of 2 classes in no label: pond'
    assert problem.next_step.endswith('the foreground of your masks, write it as the number of its class')


def test_same_image_in_train_and_val(ade):
    shutil.copy(ade / 'images/training/2.jpg', ade / 'images/validation/0.jpg')
    problem = the_one(config(ade), 'error', 'leak', 'val')
    assert problem.file.endswith('validation/0.jpg') and 'training/2.jpg' in problem.found


def test_same_image_twice_in_train(ade):
    shutil.copy(ade / 'images/training/2.jpg', ade / 'images/training/0.jpg')
    problem = the_one(config(ade), 'warning', 'repeated')
    assert problem.file.endswith('0.jpg') and '2.jpg; 1 files of the set repeat' in problem.found


def test_grey_and_tiny_images(ade):
    Image.fromarray(np.full((H, W), 9, np.uint8)).save(ade / 'images/training/1.jpg')
    assert the_one(config(ade), 'warning', 'grey').found == 'no colour in 1 of 3 images'
    small = np.random.default_rng(1).integers(0, 256, (20, 48, 3), np.uint8)
    Image.fromarray(small).save(ade / 'images/training/1.jpg')
    label = np.arange(20 * 48, dtype=np.uint8).reshape(20, 48) % 151
    Image.fromarray(label).save(ade / 'annotations/training/1.png')
    assert the_one(config(ade), 'warning', 'tiny').found == '20×48'


def test_missing_folder_and_what_there_is_instead(ade):
    (ade / 'annotations/training').rename(ade / 'annotations/train')
    problem = the_one(config(ade), 'error', 'missing-folder')
    assert problem.file == str(ade / 'annotations/training')
    assert f'{ade / "annotations"} is the nearest folder and holds train, validation' in problem.found
    assert 'ADEChallengeData2016.zip' in problem.next_step


def test_missing_split_names_the_command(ade):
    problem = the_one(config(ade, ann_file='splits/10pct-seed3.txt'), 'error', 'missing-split')
    assert problem.next_step == (
        f'Make it: python tools/dataset_converters/make_splits.py {ade}/images/training --percent 10 --seed 3 '
        f'--suffix .jpg --out {ade}/splits'
    )


def test_split_has_the_number_that_its_name_says(ade):
    names = ['0', '1', '2']
    write_splits(ade / 'splits', make_splits(names, 0, counts=[2]))
    cfg = config(ade, ann_file='splits/2images-seed0.txt')
    train = report(cfg).parts[0]
    assert (train.pairs, train.listed, train.expected[0], train.on_disk) == (2, 2, 2, 3) and not train.problems
    # 10 % of ADE20K are 2021, whatever lies in the folder; a set of one's own is counted in its folder.
    (ade / 'splits/10pct-seed0.txt').write_text('0\n')
    assert report(config(ade, ann_file='splits/10pct-seed0.txt')).parts[0].expected[0] == 2021
    own = dict(kind='BaseSegDataset', metainfo=dict(classes=[f'c{i}' for i in range(151)]))
    (ade / 'splits/34pct-seed0.txt').write_text('0\n')
    assert report(config(ade, ann_file='splits/34pct-seed0.txt', **own)).parts[0].expected[0] == 1


def test_split_with_faults(ade):
    (ade / 'splits').mkdir()
    (ade / 'splits/mine.txt').write_text('0\n0\n1.jpg\n9\n\nimages/training/2.jpg annotations/training/2.png\n# end\n')
    found = problems(config(ade, ann_file='splits/mine.txt'))
    files = {check: [problem.file.removeprefix(f'{ade}/') for problem in found[severity, check, part]]
             for severity, check, part in found}  # fmt: skip
    assert files['listed-twice'] == ['images/training/0.jpg']
    assert found['warning', 'listed-twice', 'train'][0].found == '2 entries, lines 1, 2'
    assert files['list-line'] == [f'splits/mine.txt:{number}' for number in (3, 4, 5, 6, 7)]
    lines = found['error', 'list-line', 'train']
    assert lines[1].found == f"'9', which leads to no file ({ade}/images/training/9.jpg)"
    assert lines[1].expected == f'the name of an image below {ade}/images/training without .jpg'
    assert [problem.next_step.partition(':')[0] for problem in lines] == [
        "Write '1'",
        'Add the image, or take the line out of the list',
        'Remove the line',
        "Write '2'",
        'Remove the line',
    ]
    assert not [check for _, check, _ in found if check == 'missing-image']


@pytest.mark.parametrize(
    ('content', 'check', 'text'),
    [
        ('\ufeff0\n1\n'.encode(), 'list-mark', 'mine.txt:1: found the mark of an encoding .BOM.* sed -i'),
        ('0\n1\n'.encode('utf-16'), 'list-mark', 'mine.txt:1: found the mark of an encoding .*iconv -f utf-16'),
        ('0\nt\xfcr\n'.encode('latin1'), 'list-encoding', 'mine.txt: found the byte 0xfc, which is no UTF-8.*iconv'),
    ],
)
def test_lists_that_mmseg_misreads(ade, content, check, text):
    (ade / 'mine.txt').write_bytes(content)
    assert re.search(text, str(the_one(config(ade, ann_file='mine.txt'), 'error', check)))


@pytest.mark.parametrize('end', ['\r', '\r\n'])
@pytest.mark.parametrize('inside', ['\u2028', '\u0085', ' '])
def test_lists_that_mmseg_reads_well(ade, inside, end):
    """Marks inside a name part no line, and other ends of lines do no harm."""
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        os.rename(ade / f'{kind}/training/0.{suffix}', ade / f'{kind}/training/0{inside}a.{suffix}')
    (ade / 'mine.txt').write_bytes(f'0{inside}a{end}1{end}2{end}'.encode())
    found = report(config(ade, ann_file='mine.txt'))
    assert (found.parts[0].pairs, found.parts[0].read, found.parts[0].listed) == (3, 3, 3)
    assert not found.problems('error')


def test_names_that_are_no_utf8(ade):
    """They are checked like any other, and what is told of them can be printed and kept."""
    name = os.fsdecode(b't\xfcr')
    os.rename(ade / 'images/training/0.jpg', ade / f'images/training/{name}.jpg')
    found = report(config(ade))
    (problem,) = [problem for _, problem in found.problems('error')]
    assert problem.file == f'{ade}/annotations/training/{name}.png' and problem.check == 'missing-label'
    assert r'training/t\udcfcr.png' in report_text(found).encode().decode()
    os.rename(ade / 'annotations/training/0.png', ade / f'annotations/training/{name}.png')
    assert report(config(ade)).problems('error') == []
    assert json.loads(json.dumps(found.as_dict()))['parts'][0]['problems'][-1]['file'].endswith('.png')


def test_empty_folder(ade):
    shutil.rmtree(ade / 'images/training')
    (ade / 'images/training').mkdir()
    found = problems(config(ade))
    assert list(found) == [('error', 'missing-images', 'train')]


def test_settings_that_contradict_the_data(ade):
    cfg = config(ade)
    cfg.model = dict(decode_head=dict(num_classes=19, ignore_index=0))
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, dict(type='IoUMetric')
    cfg.val_evaluator = dict(type='IoUMetric', ignore_index=0)
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadAnnotations', reduce_zero_label=False)]
    found = {problem.file: problem for part, problem in report(cfg).problems('error') if part == 'config'}
    assert set(found) == {
        'decode_head.num_classes',
        'decode_head.ignore_index',
        'val_evaluator.ignore_index',
        'train_dataloader: LoadAnnotations.reduce_zero_label',
    }
    assert found['decode_head.num_classes'].expected.startswith('150')


@pytest.mark.parametrize(
    ('num_classes', 'step'),
    [
        (19, 'Set decode_head.num_classes=150 (and the auxiliary heads)'),
        (
            151,
            'Set decode_head.num_classes=150 (and the auxiliary heads); if the labels hold 151 classes, name all of '
            'them in metainfo',
        ),
    ],
)
def test_a_wrong_number_of_classes_is_one_finding(ade, num_classes, step):
    cfg = config(ade)
    cfg.model = dict(decode_head=dict(num_classes=num_classes))
    found = report(cfg)
    ((_, problem),) = found.problems('error')
    assert (problem.check, problem.next_step) == ('num-classes', step)
    assert {warning.check for _, warning in found.problems('warning')} == {'count'}  # of so small a set


MISSING = 'If a class is missing, add it to classes and set num_classes=151'
REDUCED = 'if 0 means unlabelled and 1 … 150 are the classes, set reduce_zero_label=True'
GREY = 'If these are grey tones or palette colours, write class numbers instead'
EVERYWHERE = ' in the data set, the heads and the evaluators'


@pytest.mark.parametrize(
    ('reduced', 'changed', 'cures'),
    [
        (False, {5: 150}, (MISSING, REDUCED, 'if 150 means unlabelled, set ignore_index=150' + EVERYWHERE)),
        (False, {5: 200}, (GREY, 'if 200 means unlabelled, set ignore_index=200' + EVERYWHERE)),
        (False, {5: 150, 6: 151}, ('If 2 classes are missing, add them to classes and set num_classes=152',)),
        (False, {5: 160, 6: 200}, (GREY,)),
        (True, {5: 151}, (MISSING, 'if 151 means unlabelled, write 0 in its place')),
    ],
)
def test_cures_of_stray_numbers(ade, reduced, changed, cures):
    for file in (*(ade / 'annotations').rglob('*.png'),):
        label = np.arange(H * W) % (151 if reduced else 150)
        for place, value in changed.items():
            label[place] = value
        write_label(file, label)
    found = problems(config(ade, reduce_zero_label=reduced))
    assert {each.next_step for each in found['error', 'label-values', 'train']} == {
        '; '.join([*cures, 'else renumber the labels'])
    }


def test_a_class_that_is_ignored_is_a_warning_where_zero_is_not_reduced(ade):
    """mmseg's configs for HSI-Drive."""
    cfg = config(ade)
    for part in ('train', 'val'):
        cfg[f'{part}_dataloader'].dataset.reduce_zero_label = False
    cfg.model = dict(decode_head=dict(num_classes=150, ignore_index=0))
    cfg.val_evaluator = dict(type='IoUMetric', ignore_index=0)
    found = report(cfg)
    every = [problem for severity in ('error', 'warning') for _, problem in found.problems(severity)]
    of_index = [problem for problem in every if problem.check == 'ignore-index']
    assert {(problem.severity, problem.file) for problem in of_index} == {('warning', 'decode_head.ignore_index')}
    assert "class 0, 'wall'," in of_index[0].expected


def test_sets_inside_wrappers(ade):
    inner, other = loader(ade)['dataset'], loader(ade, part='validation')['dataset']
    cfg = ConfigDict(
        train_dataloader=dict(
            dataset=dict(
                type='SyntheticSampleDataset',
                dataset=dict(
                    type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=inner, times=3), other]
                ),
                store='not there yet',
            )
        ),
        val_dataloader=loader(ade, part='validation'),
        test_dataloader=loader(ade, part='validation'),
    )
    found = report(cfg)
    assert [(part.name, part.pairs) for part in found.parts] == [('train 1', 3), ('train 2', 2), ('val, test', 2)]
    leaks = [problem.found for part, problem in found.problems('error')]
    assert leaks == ['the file itself'] * 2


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 5, 1: 255, 2: 0}])
def test_trained_values_are_those_of_mmseg(tmp_path, reduce_zero_label, label_map):
    raw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(raw).save(tmp_path / 'label.png')
    info = dict(seg_map_path=str(tmp_path / 'label.png'), reduce_zero_label=reduce_zero_label, label_map=label_map)
    loaded = LoadAnnotations()(info | dict(seg_fields=[]))['gt_seg_map']
    rules = LabelRules(150, reduce_zero_label=reduce_zero_label, label_map=label_map)
    assert np.array_equal(rules.trained[raw], loaded)


def test_depth_and_normal_labels(tmp_path):
    init_default_scope('mmseg')
    make_scenes(tmp_path, {'train': 3}, size=32, workers=1, progress=False)
    keys = {'seg_map_path': 'semantic', 'depth_map_path': 'depth', 'normal_map_path': 'normal'}
    prefix = dict(img_path='train/images') | {key: f'train/{folder}' for key, folder in keys.items()}
    dataset = dict(type='ScenesDataset', data_root=str(tmp_path), data_prefix=prefix)
    cfg = ConfigDict(train_dataloader=dict(dataset=dataset))
    assert not report(cfg).problems('error')
    depth, normal = (tmp_path / 'train' / kind / '000001.png' for kind in ('depth', 'normal'))
    cv2.imwrite(str(depth), Depth().encode(np.zeros((32, 32))))
    wrong = SurfaceNormal().encode(np.zeros((32, 32, 3)))
    cv2.imwrite(str(normal), wrong + np.uint16(65535))
    found = {(problem.check, Path(problem.file).parent.name) for _, problem in report(cfg).problems('error')}
    assert found == {('label-values', 'normal')}
    empty = [problem.file for _, problem in report(cfg).problems('warning') if problem.check == 'all-ignored']
    assert empty == [str(depth)]


@pytest.mark.skipif(not (ADE20K / 'images/validation').is_dir(), reason='ADE20K is not there (MMDIFF2IN1_ADE20K)')
def test_real_ade20k():
    init_default_scope('mmseg')
    cfg = ConfigDict(val_dataloader=loader(ADE20K, part='validation'))
    found = report(cfg, limit=2)
    (part,) = found.parts
    assert not found.problems('error') and part.read == 2 and part.on_disk in (2, 2000)
    assert {problem.check for _, problem in found.problems('warning')} <= {'count'}
    assert sum(part.shares.values()) + part.ignored == pytest.approx(1)
    wrong = report(ConfigDict(val_dataloader=loader(ADE20K, part='validation', reduce_zero_label=False)), limit=2)
    assert all(problem.check != 'count' for _, problem in wrong.problems('error'))


def test_the_report_is_the_same_whoever_reads(ade, monkeypatch):
    """Several processes, with faults in the middle: the same report, in the same order."""
    for number in range(3, 150):
        shutil.copy(ade / 'images/training/0.jpg', ade / 'images/training' / f'{number}.jpg')
        write_label(ade / 'annotations/training' / f'{number}.png', np.full(H * W, number % 151))
    (ade / 'annotations/training/7.png').unlink()
    write_label(ade / 'annotations/training/21.png', np.full(H * W, 200))
    write_label(ade / 'annotations/training/30.png', np.arange(H * (W + 1)) % 151)
    alone = check_datasets(config(ade), workers=1, progress=False)[0]
    checks = {problem.check for severity in ('error', 'warning') for _, problem in alone.problems(severity)}
    assert checks >= {'missing-label', 'label-values', 'size', 'repeated'}
    for name in ('PATIENCE', 'WORTH', 'MANY'):
        monkeypatch.setattr(in_processes, name, 0)
    monkeypatch.setattr(in_processes, 'TOGETHER', 3)
    started = []
    with in_processes.process_pool(2, [in_processes.__name__], in_processes._import, ['json']) as pool:
        monkeypatch.setattr(
            in_processes, 'process_pool', lambda *given: started.append(given) or contextlib.nullcontext(pool)
        )
        several = check_datasets(config(ade), workers=2, progress=False)[0]
        assert json.dumps(several.as_dict()) == json.dumps(alone.as_dict())
        assert report_text(several) == report_text(alone)
        assert [workers for workers, *_ in started] == [2], 'one pool for all sets'

        def at_once(reader, left, work):
            reader._pool = pool
            return iter(())

        monkeypatch.setattr(in_processes.PairReader, '_by_threads', at_once)
        several = check_datasets(config(ade), workers=2, progress=False)[0]
        assert json.dumps(several.as_dict()) == json.dumps(alone.as_dict())
