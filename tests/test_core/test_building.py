"""Errors of others while a config is built: key, class, files and cure, whatever the error says by itself."""

from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models import EncoderDecoder
from mmseg.registry import DATASETS, MODELS

import mmdiff2in1.components  # noqa: F401  registers the data sets
from mmdiff2in1.core.building import building, explained
from mmdiff2in1.synthesis.sources import build_real_dataset, scored_images
from mmdiff2in1.training.runs import build_runner


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def said(registry, cfg, key=''):
    with pytest.raises(ValueError) as raised, building(cfg, key):
        registry.build(cfg)
    return str(raised.value)


def voc(root):
    prefix = dict(img_path='JPEGImages', seg_map_path='Seg')
    return ConfigDict(
        type='PascalVOCDataset', data_root=str(root), data_prefix=prefix, ann_file='val.txt', lazy_init=True
    )


def test_a_set_that_asserts_without_a_word(tmp_path):
    (tmp_path / 'JPEGImages').mkdir()
    cfg = ConfigDict(type='SyntheticSampleDataset', dataset=dict(type='ConcatDataset', datasets=[voc(tmp_path)]))
    text = said(DATASETS, cfg, 'train_dataloader.dataset')
    assert text.startswith(
        'train_dataloader.dataset.dataset.datasets[0] (PascalVOCDataset): AssertionError without a text, '
        'mmseg/datasets/voc.py:'
    )
    assert text.endswith(
        f'; found no {tmp_path}/Seg, which data_prefix.seg_map_path names; found no {tmp_path}/val.txt, which ann_file '
        'names; put the files there, or correct data_root, data_prefix or ann_file'
    )


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (dict(ann_fil='x'), r"dataset \(ADE20KDataset\): .*argument 'ann_fil'; did you mean ann_file\?"),
        (dict(zzz=1), r"dataset \(ADE20KDataset\): .*argument 'zzz'; it takes img_suffix, seg_map_suffix, reduce_"),
        (dict(type='ADE20KDatset'), r'dataset \(ADE20KDatset\): ADE20KDatset is not in the mmseg::dataset registry; '
         r'did you mean ADE20KDataset'),
        (dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='Resizze')]),
         r'dataset.pipeline\[1\] \(Resizze\): Resizze is not in .* registry; did you mean .*Resize'),
        (dict(pipeline=[dict(type='RandomCrop')]),
         r"dataset.pipeline\[0\] \(RandomCrop\): .*'crop_size'; correct dataset.pipeline\[0\]"),
    ],
)  # fmt: skip
def test_data_sets(tmp_path, change, text):
    with pytest.raises(ValueError, match=text):
        cfg = dict(type='ADE20KDataset', data_root=str(tmp_path), lazy_init=True) | change
        with building(cfg, 'dataset'):
            DATASETS.build(cfg)


def test_the_right_one_of_several_that_are_alike(tmp_path):
    kept, wrong = (dict(type='CrossEntropyLoss', loss_weight=weight) for weight in (1.0, 0.4))
    heads = [
        dict(type='FCNHead', in_channels=4, channels=4, num_classes=2, loss_decode=loss)
        for loss in (kept, wrong | dict(nothing=1))
    ]
    backbone = dict(type='ResNetV1c', depth=18, num_stages=4)
    cfg = dict(model=dict(type='EncoderDecoder', backbone=backbone, decode_head=heads[0], auxiliary_head=heads[1]))
    with pytest.raises(ValueError, match=r'^model.auxiliary_head.loss_decode \(CrossEntropyLoss\): .*nothing'):
        with building(cfg):
            MODELS.build(cfg['model'])
    assert EncoderDecoder.__name__ == cfg['model']['type']


def test_what_says_enough_stays(tmp_path):
    for error in (ValueError('depth=3: expected 18'), FileNotFoundError(2, 'No such file', 'a.png')):
        with pytest.raises(type(error)) as raised, building({}, 'model'):
            raise error
        assert raised.value is error
        assert explained(error, {}, 'model') == str(error)
    with pytest.raises(ValueError, match=r'^model: KeyError: size; correct model'), building({}, 'model'):
        raise KeyError('size')
    with pytest.raises(
        ValueError, match=r'^model: ValueError without a text, tests/test_core/test_building.py:\d+: raise '
    ):
        with building({}, 'model'):
            raise ValueError


def test_a_name_of_another_scope():
    init_default_scope('mmengine')
    assert said(DATASETS.parent, dict(type='ADE20KDataset'), 'dataset') == (
        'dataset (ADE20KDataset): ADE20KDataset is not in the mmengine::dataset registry; mmseg has it: set '
        "default_scope='mmseg'"
    )


def test_a_runner(tmp_path):
    cfg = ConfigDict(
        model=dict(type='EncoderDecoder', backbone=dict(type='ResNetV1c', dept=18), decode_head=dict(type='FCNHead')),
        work_dir=str(tmp_path),
        default_scope='mmseg',
    )
    with pytest.raises(ValueError, match=r"^model.backbone \(ResNetV1c\): .*'dept'; did you mean depth\?"):
        build_runner(cfg)


def test_the_real_set_of_a_creation(tmp_path):
    wrapped = dict(type='SyntheticSampleDataset', dataset=voc(tmp_path))
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped), val_dataloader=dict(dataset=voc(tmp_path / 'no'))))
    with pytest.raises(
        ValueError, match=rf'^train_dataloader.dataset.dataset \(PascalVOCDataset\): .*{tmp_path}/JPEGImages, which'
    ):
        build_real_dataset(cfg)
    assert scored_images(cfg) == {}  # it is said why


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (dict(train_dataloader=dict(batchsize=4)),
         r"^train_dataloader \(DataLoader\): .*argument 'batchsize'; did you mean batch_size\?$"),
        (dict(train_dataloader=dict(zzz=4)),
         r"^train_dataloader \(DataLoader\): .*argument 'zzz'; it takes dataset, batch_size, shuffle, "),
        (dict(randomness=dict(sed=0)),
         r"^randomness \(set_randomness\): .*argument 'sed'; did you mean seed\?$"),
    ],
)  # fmt: skip
def test_settings_of_what_no_registry_builds(tmp_path, change, text):
    Path(tmp_path, 'a.png').touch()
    head = dict(type='FCNHead', in_channels=512, channels=4, num_classes=2, in_index=3)
    cfg = Config(
        dict(
            model=dict(
                type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=18, num_stages=4), decode_head=head
            ),
            train_dataloader=dict(
                batch_size=1,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='BaseSegDataset', img_suffix='.png', data_prefix=dict(img_path=str(tmp_path))),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            work_dir=str(tmp_path / 'work'),
            default_scope='mmseg',
        )
    )
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match=text), building(cfg):
        runner = build_runner(cfg)
        runner.build_train_loop(cfg.train_cfg)
