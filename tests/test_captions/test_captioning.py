"""Captions of a set of images: from label maps, files and a model; resumed after a kill; read back by creation."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image
from tiny_captioner import save_captioner

from mmdiff2in1.captions import captions_of, read_captions
from mmdiff2in1.captions.caption_file import CaptionFile
from mmdiff2in1.captions.captioning import CaptionSummary, ImageSet, caption_images, keys_of
from mmdiff2in1.captions.sources import (
    ClassCaptions,
    EmptyCaptions,
    FileCaptions,
    ModelCaptions,
    class_names_by_area,
    enumerate_names,
)
from mmdiff2in1.synthesis.sources import build_real_dataset

CLASSES = ('wall', 'floor', 'table', 'lamp')
# Raw label maps (H, W) = (2, 3); 255 is ignored.
LABELS = [
    [[0, 0, 0], [1, 1, 255]],
    [[3, 3, 2], [2, 1, 0]],
    [[255, 255, 255], [255, 255, 255]],
    [[1, 1, 1], [1, 1, 1]],
    [[2, 255, 255], [255, 255, 0]],
]
CAPTIONS = [
    'a photo of wall and floor',
    'a photo of table, lamp, wall and floor',
    '',
    'a photo of floor',
    'a photo of wall and table',
]


@DATASETS.register_module()
class FourClassDataset(BaseSegDataset):
    METAINFO = dict(classes=CLASSES)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture
def data(tmp_path):
    """Five images of random pixels with the label maps above; `reduced` counts from 1, with 0 for "ignore"."""
    for index, labels in enumerate(LABELS):
        noise = np.random.default_rng(index).integers(0, 256, (6 + index, 9, 3), dtype=np.uint8)
        write_png(tmp_path / 'data' / 'images' / f'{index}.png', noise)
        write_png(tmp_path / 'data' / 'labels' / f'{index}.png', labels)
        write_png(tmp_path / 'data' / 'reduced' / f'{index}.png', (np.array(labels) + 1) % 256)
    return tmp_path / 'data'


def config(root, labels='labels', **options):
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(root),
        img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path=labels),
        metainfo=dict(classes=CLASSES),
    )
    return Config(dict(train_dataloader=dict(dataset=dataset | options)))


def dataset_of(root, labels='labels', **options):
    return build_real_dataset(config(root, labels, **options))


class Numbered:
    """'number i of n' for image i of a call: tells how the images were batched; kills the run at call `last`."""

    def __init__(self, last=None):
        self.calls, self.last = 0, last

    def check(self, paths):
        pass

    def __call__(self, paths):
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        return [f'{Path(path).stem}, number {index} of {len(paths)}' for index, path in enumerate(paths)]


# Class names


def test_classes_by_area():
    names = class_names_by_area(np.array([[1, 1, 0, 255], [0, 3, 1, 7]]), CLASSES, {255, 7})
    assert names == ['floor', 'wall', 'lamp']
    assert class_names_by_area(np.array([[3, 2]]), CLASSES, {255}) == ['table', 'lamp'], 'equal areas: in label order'
    assert class_names_by_area(np.array([[255]]), CLASSES, {255}) == []
    with pytest.raises(ValueError, match=r'found the values \[4, 9\], expected 0 … 3 for 4 classes or \[255\]'):
        class_names_by_area(np.array([[9, 4, 0, 255]]), CLASSES, {255})
    with pytest.raises(ValueError, match=r'array \(1, 1, 3\), expected one number per pixel'):
        class_names_by_area(np.zeros((1, 1, 3)), CLASSES, {255})


def test_enumeration():
    assert [enumerate_names(list(CLASSES[:count])) for count in range(4)] == [
        '', 'wall', 'wall and floor', 'wall, floor and table',
    ]  # fmt: skip


def test_captions_from_label_maps(data):
    dataset = dataset_of(data)
    paths = ImageSet.of_dataset(dataset).paths
    # Table and lamp have two pixels each, wall and floor one: by area, then in label order.
    assert ClassCaptions(dataset)(paths) == CAPTIONS
    assert ClassCaptions(dataset_of(data, 'reduced', reduce_zero_label=True))(paths) == CAPTIONS
    assert ClassCaptions(dataset, '{names} in a room', max_names=2)(paths[1:2]) == ['table and lamp in a room']
    without = ClassCaptions(dataset, max_names=2, without=['wall', 'table'])
    assert without(paths) == ['a photo of floor', 'a photo of lamp and floor', '', 'a photo of floor', '']


def test_an_ignore_index_within_the_classes(data):
    dataset = dataset_of(data, ignore_index=1)
    paths = ImageSet.of_dataset(dataset).paths
    assert ClassCaptions(dataset)(paths)[:4] == ['a photo of wall', 'a photo of table, lamp and wall', '', '']


def test_a_choice_of_classes(data):
    """mmseg renumbers a subset, and ignores the rest."""
    dataset = dataset_of(data, type='FourClassDataset')
    chosen = dataset_of(data, type='FourClassDataset', metainfo=dict(classes=('lamp', 'wall')))
    paths = ImageSet.of_dataset(dataset).paths
    assert ClassCaptions(dataset)(paths) == CAPTIONS
    assert ClassCaptions(chosen)(paths) == [
        'a photo of wall', 'a photo of lamp and wall', '', '', 'a photo of wall',
    ]  # fmt: skip


def test_concatenated_sets_keep_their_own_conventions(data):
    one = config(data).train_dataloader.dataset
    two = dict(one, data_prefix=dict(img_path='more', seg_map_path='labels'), ignore_index=1)
    shutil.copytree(data / 'images', data / 'more')
    both = dict(type='ConcatDataset', datasets=[one, dict(type='RepeatDataset', times=2, dataset=two)])
    dataset = build_real_dataset(Config(dict(train_dataloader=dict(dataset=both))))
    captions = ClassCaptions(dataset)(ImageSet.of_dataset(dataset).paths)
    assert captions[:5] == CAPTIONS and captions[5:8] == ['a photo of wall', 'a photo of table, lamp and wall', '']


def test_label_maps_that_do_not_fit(data):
    paths = ImageSet.of_dataset(dataset_of(data)).paths
    with pytest.raises(ValueError, match=r'label map .*reduced/1\.png: found the values \[4\]'):
        ClassCaptions(dataset_of(data, 'reduced'))(paths[1:])
    (data / 'labels' / '3.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 5 label maps are not there, the first is .*labels/3\.png'):
        ClassCaptions(dataset_of(data)).check(paths)


def test_what_cannot_name_classes(data):
    dataset = dataset_of(data)
    with pytest.raises(ValueError, match="'a photo' has no place for {names}"):
        ClassCaptions(dataset, 'a photo')
    with pytest.raises(ValueError, match='max_names is 0'):
        ClassCaptions(dataset, max_names=0)
    with pytest.raises(ValueError, match='sofa: no such class to leave out; known: wall, floor, table, lamp'):
        ClassCaptions(dataset, without=['wall', 'sofa'])
    with pytest.raises(ValueError, match='BaseSegDataset has no class names'):
        ClassCaptions(dataset_of(data, metainfo=None))
    depth = dataset_of(
        data, type='NYUDataset', data_prefix=dict(img_path='images', depth_map_path='labels'), metainfo=None
    )
    with pytest.raises(ValueError, match='NYUDataset has no label map of classes for any'):
        ClassCaptions(depth)


def test_sets_of_which_one_has_classes(data):
    """A mixed training: what has no label map has no caption; that is for a fallback to decide."""
    labelled = dataset_of(data)
    bare = dataset_of(data, data_prefix=dict(img_path='images'))
    alone = ClassCaptions(labelled)
    both = ClassCaptions(ConcatDataset([bare, labelled], ignore_keys=['reduce_zero_label']))
    paths = [labelled.get_data_info(i)['img_path'] for i in range(len(labelled))]
    assert both(paths) == alone(paths) and sum(map(bool, both(paths))) == 4
    assert both(['elsewhere/7.png', paths[0]]) == ['', alone(paths[:1])[0]]
    both.check(['elsewhere/7.png', paths[0]])


def test_real_labels():
    """ADE20K's own files: what stands in them after `reduce_zero_label`, counted without mmseg."""
    samples = Path(os.environ.get('MMDIFF2IN1_SAMPLES', Path(__file__).parents[2] / 'data' / 'samples'))
    root = samples / 'ade20k' / 'ADEChallengeData2016'
    if not root.is_dir():
        pytest.skip(f'no {root}; $MMDIFF2IN1_SAMPLES names the folder of the samples')
    prefix = dict(img_path='images/validation', seg_map_path='annotations/validation')
    dataset = dataset_of(root, type='ADE20KDataset', img_suffix='.jpg', data_prefix=prefix, metainfo=None)
    paths = ImageSet.of_dataset(dataset).paths
    names = [line.split('\t') for line in (root / 'objectInfo150.txt').read_text().splitlines()[1:]]
    first_name = {int(fields[0]): fields[-1].split(',')[0].strip() for fields in names}
    for path, caption in zip(paths, ClassCaptions(dataset, '{names}', max_names=3)(paths), strict=True):
        raw = np.asarray(Image.open(path.replace('images', 'annotations').replace('.jpg', '.png')))
        counts = np.bincount(raw.ravel(), minlength=151)[1:]
        assert caption == enumerate_names([first_name[1 + index] for index in np.argsort(-counts, kind='stable')[:3]])


# Other files


def test_captions_from_a_folder_of_text_files(data, tmp_path):
    images = ImageSet.of_folder(data / 'images')
    for index in range(5):
        (tmp_path / f'{index}.txt').write_text(f' a room,\nnumber {index}\n')
    assert FileCaptions(tmp_path)(images.paths) == [f'a room, number {index}' for index in range(5)]
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / '1.txt').write_text('the longer path wins')
    assert FileCaptions(tmp_path)(images.paths)[1] == 'the longer path wins'
    (tmp_path / '3.txt').write_text(' ')
    (tmp_path / '4.txt').unlink()
    with pytest.raises(
        ValueError, match=r'no caption for 2 of 5 images, the first is .*images/3\.png .*expected 3\.txt'
    ):
        FileCaptions(tmp_path).check(images.paths)
    allowing = FileCaptions(tmp_path, allow_missing=True)
    allowing.check(images.paths)
    assert allowing(images.paths)[3:] == ['', '']
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match=r'holds no \.txt files'):
        FileCaptions(tmp_path / 'none')


def test_captions_from_another_file(data, tmp_path):
    images = ImageSet.of_folder(data / 'images')
    lines = [json.dumps(dict(image=f'{index}.png', caption=f'a room {index}')) for index in range(4)]
    (tmp_path / 'other.jsonl').write_text('\n'.join(lines))
    source = FileCaptions(tmp_path / 'other.jsonl')
    with pytest.raises(ValueError, match=r'no caption for 1 of 5 images, the first is .*images/4\.png'):
        caption_images(images, source, tmp_path / 'out.jsonl')
    assert not (tmp_path / 'out.jsonl').exists()
    source = FileCaptions(tmp_path / 'other.jsonl', allow_missing=True)
    caption_images(images, source, tmp_path / 'out.jsonl', fallback='a photo')
    assert list(read_captions(tmp_path / 'out.jsonl').values()) == [
        *(f'a room {index}' for index in range(4)),
        'a photo',
    ]


# Names


def test_names_are_found_again(data, tmp_path, monkeypatch):
    """Images of a nested folder, of a data set, and outside of the data root by a relative path."""
    write_png(data / 'images' / 'deeper' / '0.png', [[[0, 0, 0]]])
    monkeypatch.chdir(tmp_path)
    nested = ImageSet.of_folder(data / 'images')
    assert nested.names == ['0.png', '1.png', '2.png', '3.png', '4.png', 'deeper/0.png']
    outside = ImageSet(['elsewhere/0.png', 'data/images/0.png', '/far/0.png'], 'data')
    assert outside.names == ['elsewhere/0.png', 'images/0.png', '/far/0.png']
    for images in (nested, ImageSet.of_dataset(dataset_of(data)), outside):
        captions = {name: f'caption of {name}' for name in images.names}
        posix = [Path(path).as_posix() for path in images.paths]
        assert captions_of(posix, captions) == [captions[name] for name in images.names]
    with pytest.raises(FileNotFoundError, match='no such folder'):
        ImageSet.of_folder(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='no images'):
        ImageSet.of_folder(tmp_path / 'empty')


def test_a_caption_is_not_taken_for_that_of_a_deeper_image():
    images = ImageSet(['a/0.png', 'a/b/0.png', 'a/b/1.png'], 'a')
    assert keys_of(images, {'0.png': 'x', '1.png': 'y'}) == ['0.png', None, '1.png']
    assert keys_of(images, {'a/b/0.png': 'x'}) == [None, 'a/b/0.png', None]
    assert keys_of(images, {}) == [None] * 3


# Resuming


def test_a_killed_run_goes_on(data, tmp_path):
    images = ImageSet.of_folder(data / 'images')
    straight, killed = tmp_path / 'straight.jsonl', tmp_path / 'killed.jsonl'
    assert caption_images(images, Numbered(), straight, batch_size=2, progress=False)
    assert straight.read_text().splitlines()[1] == '{"image": "1.png", "caption": "1, number 1 of 2"}'
    with pytest.raises(KeyboardInterrupt):
        caption_images(images, Numbered(last=3), killed, batch_size=2, progress=False)
    assert straight.read_bytes().startswith(killed.read_bytes()) and len(read_captions(killed)) == 4
    again = Numbered()
    assert caption_images(images, again, killed, batch_size=2, progress=False)
    assert again.calls == 1 and killed.read_bytes() == straight.read_bytes()
    caption_images(images, again, killed, batch_size=2, progress=False)
    assert again.calls == 1 and killed.read_bytes() == straight.read_bytes()


def test_cut_anywhere_it_is_mended(data, tmp_path):
    """At every byte; captions that do not depend on the batch, with a letter of two bytes."""
    images = ImageSet.of_folder(data / 'images').first(3)
    (tmp_path / 'texts').mkdir()
    for index in range(3):
        (tmp_path / 'texts' / f'{index}.txt').write_text(f'für {index}', encoding='utf-8')
    source, file = FileCaptions(tmp_path / 'texts'), tmp_path / 'captions.jsonl'
    caption_images(images, source, file, batch_size=2, progress=False)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        complete = whole[:size].count(b'\n') + (whole[size : size + 1] == b'\n')
        assert len(CaptionFile(file).read()) == (complete if size else 0)
        assert file.read_bytes() == whole[:size], 'reading changes nothing'
        caption_images(images, source, file, batch_size=2, progress=False)
        assert file.read_bytes() == whole


def test_captions_of_others_are_kept(data, tmp_path):
    images = ImageSet.of_folder(data / 'images')
    file = tmp_path / 'captions.jsonl'
    mine = '{"caption": "by hand",   "image": "images/2.png", "who": "me"}\n\n{"image": "other/9.png", "caption": ""}'
    file.write_text(mine)
    caption_images(images, EmptyCaptions(), file, progress=False)
    lines = file.read_text().splitlines()
    assert '\n'.join(lines[:3]) == mine
    assert [json.loads(line)['image'] for line in lines[3:]] == ['0.png', '1.png', '3.png', '4.png']


def test_captions_are_single_lines(data, tmp_path):
    class Verbose(EmptyCaptions):
        def __call__(self, paths):
            return [' a\n room\u2028 '] * len(paths)

    images = ImageSet.of_folder(data / 'images')
    caption_images(images, Verbose(), tmp_path / 'captions.jsonl', progress=False)
    assert set(read_captions(tmp_path / 'captions.jsonl').values()) == {'a room'}


def test_forgetting(data, tmp_path):
    images = ImageSet.of_folder(data / 'images')
    file = tmp_path / 'captions.jsonl'
    file.write_text('{"image": "other.png", "caption": "kept"}')
    caption_images(images, EmptyCaptions(), file, progress=False)
    CaptionFile(file).forget({'1.png', '3.png'})
    assert list(read_captions(file)) == ['other.png', '0.png', '2.png', '4.png']


def test_several_processes_write_one_file(data, tmp_path):
    """One after the other, as processes may; the second is killed and starts again."""
    images = ImageSet.of_folder(data / 'images')
    straight, shared = tmp_path / 'straight.jsonl', tmp_path / 'shared.jsonl'
    caption_images(images, Numbered(), straight, batch_size=1, progress=False)
    options = dict(batch_size=1, world_size=2, progress=False)
    assert not caption_images(images, Numbered(), shared, rank=0, **options)
    assert not shared.exists() and (tmp_path / 'shared.rank0.jsonl').exists()
    with pytest.raises(KeyboardInterrupt):
        caption_images(images, Numbered(last=2), shared, rank=1, **options)
    assert set(CaptionFile(shared).read()) == {'0.png', '1.png', '2.png', '4.png'}
    with open(tmp_path / 'shared.rank1.jsonl', 'a') as stream:
        stream.write('{"image": "3')
    last = Numbered()
    assert caption_images(images, last, shared, rank=1, **options)
    assert last.calls == 1 and shared.read_bytes() == straight.read_bytes()
    assert sorted(path.name for path in tmp_path.glob('shared*')) == ['shared.jsonl']


def test_broken_lines_are_named(tmp_path):
    file = tmp_path / 'captions.jsonl'
    file.write_text('{"image": "a.png"}\n')
    with pytest.raises(ValueError, match=r'captions\.jsonl:1: found'):
        CaptionFile(file).read()
    file.write_text('{"image": "a.png"}\n{"im')
    with pytest.raises(ValueError, match=r'captions\.jsonl: found the line'):
        CaptionFile(file).read()


# A model


def test_blip2_captions_the_set_creation_reads(data, tmp_path):
    """A real, tiny BLIP-2: batches of 1 and 3 agree, a torn line is made again, and creation finds every caption."""
    from mmdiff2in1.captions.captioner import ImageCaptioner

    save_captioner(tmp_path / 'model')
    loads = []

    def load():
        loads.append(1)
        return ImageCaptioner.from_pretrained(tmp_path / 'model', max_new_tokens=5)

    source, dataset = ModelCaptions(load), dataset_of(data)
    images = ImageSet.of_dataset(dataset)
    for size in (1, 3):
        caption_images(images, source, tmp_path / f'{size}.jsonl', fallback='nothing', batch_size=size, progress=False)
    straight = (tmp_path / '1.jsonl').read_bytes()
    assert (tmp_path / '3.jsonl').read_bytes() == straight and loads == [1]
    (tmp_path / '3.jsonl').write_bytes(straight[: straight.rindex(b'"caption"') + 15])
    caption_images(images, source, tmp_path / '3.jsonl', fallback='nothing', batch_size=3, progress=False)
    assert (tmp_path / '3.jsonl').read_bytes() == straight

    expected = [ImageCaptioner.from_pretrained(tmp_path / 'model', max_new_tokens=5)([np.asarray(Image.open(path))])[0]
                for path in images.paths]  # fmt: skip
    read = read_captions(tmp_path / '1.jsonl')
    assert list(read) == [f'images/{index}.png' for index in range(5)]
    assert captions_of([Path(path).as_posix() for path in images.paths], read) == [
        text or 'nothing' for text in expected
    ]
    assert len(set(read.values())) > 1


def test_unreadable_images_are_named_before_the_model_is_loaded(data, tmp_path):
    (data / 'images' / '2.png').write_bytes(b'no image')

    def load():
        raise AssertionError('not to be reached')

    images = ImageSet.of_folder(data / 'images')
    with pytest.raises(ValueError, match=r'1 source images cannot be read.*\n.*2\.png'):
        caption_images(images, ModelCaptions(load), tmp_path / 'captions.jsonl', progress=False)
    assert not (tmp_path / 'captions.jsonl').exists()


# Summary


def test_summary():
    images = ImageSet([f'a/{index}.png' for index in range(8)], 'a')
    texts = ['same', 'same', 'same', 'twice', 'twice', '', ' ', 'once']
    summary = CaptionSummary.of(images, dict(zip(images.names, texts, strict=True)) | {'other.png': 'same'})
    assert summary.repeated == [('same', 3)] and summary.empty == ['5.png', '6.png']
    assert summary.examples(3) == [('0.png', 'same'), ('4.png', 'twice'), ('7.png', 'once')]
    assert CaptionSummary.of(images, {}).examples() == []
    assert CaptionSummary.of(images.first(1), {'0.png': 'x'}).examples() == [('0.png', 'x')]
