"""Split files: counts, nesting, independence of order, what mmseg reads, what is refused."""

import importlib.util
import os
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset

from mmdiff2in1.datasets.splits import asked_by_name, draw_names, make_splits, percent_count, split_name

spec = importlib.util.spec_from_file_location(
    'make_splits_tool', Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_splits.py'
)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
NAMES = [f'ADE_train_{number:08d}' for number in range(1, 201)]


@pytest.fixture
def images(tmp_path):
    """20 files, of which five are in a folder of their own, and one that is hidden."""
    folder = tmp_path / 'images'
    (folder / 'street').mkdir(parents=True)
    for number in range(20):
        (folder / ('street' if number < 5 else '') / f'{number}.jpg').touch()
    (folder / '._0.jpg').touch()
    return folder


def run(images, *flags):
    return tool.main([str(images), '--out', str(images.parent / 'splits'), *flags])


def lines(images, name):
    return (images.parent / 'splits' / name).read_text().splitlines()


def test_counts():
    assert [percent_count(percent, 20210) for percent in (10, 20, 90, 100)] == [2021, 4042, 18189, 20210]
    assert [percent_count(50, 5), percent_count(10, 4), percent_count(0.1, 1000)] == [3, 0, 1]
    assert [split_name(0, 10), split_name(3, 0.5), split_name(1, count=50)] == [
        '10pct-seed0.txt',
        '0.5pct-seed3.txt',
        '50images-seed1.txt',
    ]
    assert [asked_by_name(name, 200) for name in ('10pct-seed0.txt', '50images-seed1.txt', 'train.txt')] == [
        20,
        50,
        None,
    ]


def test_draws_are_nested_and_do_not_depend_on_the_order():
    splits = make_splits(NAMES, 0, range(10, 100, 10), [33])
    sizes = sorted((len(names), set(names)) for names in splits.values())
    assert [size for size, _ in sizes] == [20, 33, 40, 60, 80, 100, 120, 140, 160, 180]
    # The count of 33 lies between 10 % and 20 %, and is drawn in the same order.
    assert all(small < large for (_, small), (_, large) in zip(sizes, sizes[1:], strict=False))
    assert make_splits(NAMES[::-1], 0, range(10, 100, 10), [33]) == splits
    assert draw_names(NAMES, 20, 0) == sorted(draw_names(NAMES, 20, 0)) != draw_names(NAMES, 20, 1)


def test_draw_is_the_same_for_ever():
    """What a published score was trained on must not change with a version of this package."""
    assert draw_names(NAMES, 3, 0) == ['ADE_train_00000007', 'ADE_train_00000060', 'ADE_train_00000129']


def test_every_image_is_as_likely_as_any_other():
    often = {name: 0 for name in NAMES}
    for seed in range(200):
        for name in draw_names(NAMES, 100, seed):
            often[name] += 1
    # Binomial with n = 200, p = 1/2: mean 100, standard deviation 7.1.
    assert min(often.values()) > 70 and max(often.values()) < 130


def test_files_are_what_mmseg_reads(images, capsys):
    init_default_scope('mmseg')
    assert run(images, '--percent', '25', '100', '--count', '2') == 0
    assert f'{images}: 20 images (*.jpg)' in capsys.readouterr().out
    assert len(lines(images, '25pct-seed0.txt')) == 5
    everything = lines(images, '100pct-seed0.txt')
    assert everything == sorted(everything) and 'street/0' in everything and '19' in everything
    dataset = BaseSegDataset(
        ann_file=str(images.parent / 'splits/100pct-seed0.txt'), data_prefix=dict(img_path=str(images)),
        metainfo=dict(classes=['a']),
    )  # fmt: skip
    listed = [Path(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))]
    assert len(listed) == 20 and all(path.is_file() for path in listed)


def test_what_is_there_is_kept_and_never_replaced(images, capsys):
    assert run(images, '--percent', '50') == 0
    before = lines(images, '50pct-seed0.txt')
    assert run(images, '--percent', '50', '60') == 0
    assert '50pct-seed0.txt: 10 images, there already' in capsys.readouterr().out
    (images / 'new.jpg').touch()
    assert run(images, '--percent', '40', '50') == 1
    assert 'found another split' in capsys.readouterr().err
    assert lines(images, '50pct-seed0.txt') == before
    assert not (images.parent / 'splits/40pct-seed0.txt').exists()


@pytest.mark.parametrize('name', [b't\xfcr', b' door', b'do\nor'])
def test_a_name_that_no_list_can_hold(images, capsys, name):
    (images / os.fsdecode(name + b'.jpg')).touch()
    assert run(images, '--percent', '100') == 1
    assert f'found the name {os.fsdecode(name)!r}, ' in capsys.readouterr().err
    assert not (images.parent / 'splits').exists()


def test_default_folder_is_beside_the_images(images):
    assert tool.parse_args(['data/ade/images/training', '--count', '2']).out == Path('data/ade/splits')
    assert tool.parse_args([str(images), '--count', '2']).out == images.parent / 'splits'
    with pytest.raises(SystemExit):
        tool.parse_args(['data/pictures', '--count', '2'])


def test_dry_run_writes_nothing(images, capsys):
    assert run(images, '--count', '4', '--dry-run') == 0
    assert '4images-seed0.txt: 4 images, would be written' in capsys.readouterr().out
    assert not (images.parent / 'splits').exists()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--count', '21'], '21 images asked for, expected 1 to 20'),
        (['--percent', '1'], '0 images asked for'),
        (['--percent', '10', '--suffix', '.bmp'], 'no files that end in .bmp'),
    ],
)
def test_what_cannot_be_drawn(images, capsys, flags, message):
    assert run(images, *flags) == 1
    assert message in capsys.readouterr().err


def test_folder_that_is_not_clear(images, capsys):
    (images / 'x.png').touch()
    assert run(images, '--count', '4') == 1
    assert 'found 20 .jpg, 1 .png, expected images of one kind' in capsys.readouterr().err
    assert run(images, '--count', '4', '--suffix', '.jpg') == 0
    assert run(images / 'none', '--count', '4') == 1
    assert 'no such folder' in capsys.readouterr().err


@pytest.mark.parametrize('flags', [[], ['--percent', '0'], ['--percent', '101']])
def test_flags_that_make_no_sense(images, flags):
    with pytest.raises(SystemExit):
        run(images, *flags)
