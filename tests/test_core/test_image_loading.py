"""Images that a pipeline loads in its own way: checked as it loads them, and refused where created ones cannot be."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, TRANSFORMS

from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.config_check import config_problems
from mmdiff2in1.checks.pictures import dataset_pictures
from mmdiff2in1.core.image_faults import UnreadableImageError
from mmdiff2in1.core.image_loading import (
    OwnLoader,
    as_picture,
    own_loader,
    picture_reader,
    refuse_as_sources,
    refuse_for_created,
)
from mmdiff2in1.synthesis.from_config import job_of
from mmdiff2in1.synthesis.store import SampleStore
from mmdiff2in1.training.recipes import make_self_improving

H, W = 40, 48


def write_images(root, bands, suffix='.npy'):
    random = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (root / name).mkdir(parents=True)
    for number in range(3):
        image = random.integers(0, 256, (H, W, bands), np.uint8)
        file = root / f'images/{number}{suffix}'
        np.save(file, image) if suffix == '.npy' else cv2.imwrite(str(file), image)
        cv2.imwrite(str(root / f'labels/{number}.png'), random.integers(0, 3, (H, W), np.uint8))


def dataset_cfg(root, suffix='.npy', **loader):
    loader = dict(type='LoadImageFromNpyFile') | loader
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix=suffix,
        serialize_data=False,
        metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [9, 9, 9], [200, 0, 0]]),
        pipeline=[loader, dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )


def config(root, **settings):
    return ConfigDict(train_dataloader=dict(dataset=dataset_cfg(root, **settings)), model=None)


@pytest.fixture
def bands(tmp_path):
    init_default_scope('mmseg')
    write_images(tmp_path, 25)
    return tmp_path


def test_it_is_asked_only_where_images_are_not_read_as_here(tmp_path):
    init_default_scope('mmseg')
    write_images(tmp_path, 3, '.png')
    for loader, name in (
        (dict(type='LoadImageFromFile'), None),
        (dict(type='LoadImageFromFile', to_float32=True), None),
        (dict(type='LoadImageFromFile', color_type='grayscale'), 'LoadImageFromFile'),
        (dict(type='LoadImageFromNpyFile'), 'LoadImageFromNpyFile'),
        (dict(type='LoadBiomedicalImageFromFile'), 'LoadBiomedicalImageFromFile'),
    ):
        found = own_loader(DATASETS.build(dataset_cfg(tmp_path, suffix='.png', **loader)))
        assert (found and found.name) == name
    assert own_loader(DATASETS.build(dict(dataset_cfg(tmp_path), pipeline=[]))) is None


def test_the_check_reads_what_the_training_reads(bands):
    report, parts = check_datasets(config(bands), workers=1, progress=False)
    assert report.problems('error') == [] and report.parts[0].read == 3
    assert (report.parts[0].smallest, report.parts[0].grey) == ((H, W), 0)
    assert dataset_pictures(parts, 3, 2).shape[2] == 3
    (bands / 'images/1.npy').write_bytes((bands / 'images/1.npy').read_bytes()[:500])
    report, _ = check_datasets(config(bands), workers=1, progress=False)
    ((part, problem),) = report.problems('error')
    assert (part, problem.check) == ('train', 'unreadable')
    assert problem.file.endswith('1.npy') and 'LoadImageFromNpyFile does not read' in problem.found


def test_repeated_pictures_are_found_in_bands_too(bands):
    (bands / 'images/2.npy').write_bytes((bands / 'images/0.npy').read_bytes())
    report, _ = check_datasets(config(bands), workers=1, progress=False)
    assert [problem.check for _, problem in report.problems('warning')] == ['repeated']


def test_bands_are_refused_beside_created_images(bands):
    found = r'0\.npy: LoadImageFromNpyFile loads 25 channels, and created images have 3; none can be mixed in'
    with pytest.raises(ValueError, match=found):
        refuse_for_created(DATASETS.build(dataset_cfg(bands)))
    store = SampleStore(bands / 'store')
    store.add(dict(sample_id='s', source=None), np.zeros((H, W, 3), np.uint8))
    wrapped = dict(type='SyntheticSampleDataset', dataset=dataset_cfg(bands), store=str(bands / 'store'))
    with pytest.raises(ValueError, match=found):
        DATASETS.build(wrapped)
    assert len(DATASETS.build(wrapped | dict(store=None))) == 3
    cfg = config(bands)
    report, parts = check_datasets(cfg, workers=1, progress=False)
    assert config_problems(cfg, parts) == []
    cfg.train_dataloader.dataset = wrapped
    (problem,) = config_problems(cfg, parts)
    assert (problem.severity, problem.check) == ('error', 'created-images') and '25 channels' in problem.found


def test_arrays_of_three_channels_can_stand_beside_created_images_but_not_be_their_sources(tmp_path):
    init_default_scope('mmseg')
    write_images(tmp_path, 3)
    dataset = DATASETS.build(dataset_cfg(tmp_path))
    refuse_for_created(dataset)
    with pytest.raises(ValueError, match=r'0\.npy is no image file, LoadImageFromNpyFile reads it.*as PNG'):
        refuse_as_sources(dataset)


def test_creation_from_bands_is_refused_before_a_generator_is_loaded(bands):
    creation = dict(diffusion='nowhere', num_samples=1, caption_fallback='')
    cfg = Config(dict(config(bands), stages=dict(synthesis=creation)))
    with pytest.raises(ValueError, match='LoadImageFromNpyFile loads 25 channels, and created images have 3'):
        job_of(cfg)


@pytest.mark.parametrize(('color_type', 'refused'), [('color', False), ('grayscale', False), ('unchanged', True)])
def test_grey_files(tmp_path, color_type, refused):
    """Created images are loaded as the others: grey where grey is asked for, in colour where nothing is changed."""
    init_default_scope('mmseg')
    write_images(tmp_path, 1, '.png')
    dataset = DATASETS.build(dataset_cfg(tmp_path, '.png', type='LoadImageFromFile', color_type=color_type))
    if refused:
        with pytest.raises(ValueError, match='LoadImageFromFile loads 1 channels, and created images have 3'):
            refuse_for_created(dataset)
    else:
        refuse_as_sources(dataset)


def test_volumes_and_second_images_are_refused(tmp_path):
    init_default_scope('mmseg')
    (tmp_path / 'images').mkdir()
    np.save(tmp_path / 'images/0.npy', np.zeros((2, 4, H, W), np.float32))
    volumes = dict(type='LoadBiomedicalImageFromFile', decode_backend='numpy')
    cfg = dataset_cfg(tmp_path, **volumes)
    cfg['data_prefix'] = dict(img_path='images')
    del cfg['pipeline'][1]  # no labels
    with pytest.raises(ValueError, match=r'loads a volume, \(2, 4, 40, 48\), and created images are planes'):
        refuse_for_created(DATASETS.build(cfg))
    report, _ = check_datasets(ConfigDict(train_dataloader=dict(dataset=cfg)), workers=1, progress=False)
    assert [problem.check for _, problem in report.problems('error')] == ['no-labels']
    assert [problem.check for _, problem in report.problems('warning')] == ['volume']

    cfg = dataset_cfg(tmp_path)
    cfg['data_prefix'] = dict(img_path='images')
    dataset = DATASETS.build(cfg)
    dataset.data_list[0]['img_path2'] = 'after.npy'
    with pytest.raises(ValueError, match=r'0\.npy has a second image, after\.npy, and created images have none'):
        refuse_for_created(dataset)


def test_errors_of_a_loader_name_file_and_loader(tmp_path):
    loader = OwnLoader(TRANSFORMS.build(dict(type='mmseg.LoadImageFromNpyFile')))
    with pytest.raises(FileNotFoundError, match=r'image .*gone\.npy does not exist'):
        loader.load(dict(img_path=str(tmp_path / 'gone.npy')))
    (tmp_path / 'text.npy').write_text('no array')
    with pytest.raises(UnreadableImageError, match=r'text\.npy: found what LoadImageFromNpyFile does not read \('):
        loader.load(dict(img_path=str(tmp_path / 'text.npy')))


def test_pictures_of_bands(bands):
    image = np.load(bands / 'images/0.npy')
    assert np.array_equal(as_picture(image[..., :3]), image[..., 2::-1])
    assert np.array_equal(as_picture(image[..., 0]), image[..., [0, 0, 0]])
    ramp = np.linspace(5, 6, 101)[:, None, None].repeat(2, 1) * np.array([1.0, 0, 0, 3])
    seen = as_picture(ramp)
    assert (seen[0].tolist(), seen[50].tolist(), seen[-1].tolist()) == (
        [[0, 0, 0]] * 2,
        [[128, 0, 128]] * 2,
        [[255, 0, 255]] * 2,
    )
    read = picture_reader(DATASETS.build(dataset_cfg(bands)))
    assert np.array_equal(read(str(bands / 'images/0.npy')), as_picture(image))
    with pytest.raises(ValueError, match=r'shape \(1, 2, 3, 4\)'):
        as_picture(np.zeros((1, 2, 3, 4)))


def base(backbone=None, mean=None, dataset=None):
    return Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                backbone=backbone or dict(type='ResNet'),
                data_preprocessor=dict(type='SegDataPreProcessor', mean=mean),
            ),
            train_dataloader=dict(dataset=dataset or dict(type='BaseSegDataset')),
            optim_wrapper=dict(type='OptimWrapper'),
        )
    )


@pytest.mark.parametrize(
    ('cfg', 'found'),
    [
        (base(dict(type='UNet', in_channels=25)), r'25 channels \(model\.backbone\.in_channels\)'),
        (base(mean=[0.0] * 6), r'6 channels \(model\.data_preprocessor\.mean\)'),
        (base(dataset=dict(type='RepeatDataset', dataset=dict(type='MultiImageMixDataset'))), 'MultiImageMixDataset'),
        (base(dataset=dict(type='ConcatDataset', datasets=[dict(type='MultiImageMixDataset')])), 'Mosaic'),
    ],
)
def test_refused_when_wrapped(cfg, found):
    with pytest.raises(ValueError, match=found):
        make_self_improving(cfg, store='store')


@pytest.mark.parametrize('cfg', [base(), base(dict(type='UNet', in_channels=3), [1.0] * 3), base(mean=[0.5])])
def test_colour_and_grey_are_wrapped(cfg):
    make_self_improving(cfg, store='store')
    assert cfg.model.type == 'SelfImprovingSegmentor'
