"""The wrapper: nothing changes without samples, each sample is what its key says, and bad stores are named."""

import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, InfiniteSampler, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets import MultiImageMixDataset
from mmseg.registry import DATASETS
from torch.utils.data import DataLoader

from mmdiff2in1.core.randomness import derived_randomness, derived_seed, seed_all
from mmdiff2in1.datasets import MixedBatchSampler, StreamKey, StreamSampler, SyntheticSampleDataset
from mmdiff2in1.synthesis.store import SampleStore

SIZE = 16
AUGMENTATION = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(12, 12)),
    dict(type='PhotoMetricDistortion'),
]


@pytest.fixture(scope='module', autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Six real images in one folder, two in another, and a store of three samples of each of the first four."""
    root = tmp_path_factory.mktemp('set')
    rng = np.random.default_rng(0)
    store = SampleStore(root / 'store')
    for part, number in (('train', 6), ('extra', 2)):
        for index in range(number):
            image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            for folder, pixels in (('images', image), ('labels', rng.integers(0, 3, (SIZE, SIZE), dtype=np.uint8))):
                (root / part / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / f'{part}/{folder}/{index}.png'), pixels)
            if part == 'train' and index < 4:
                for seed in range(3):
                    record = dict(sample_id=f'{index}-{seed}', source=f'train/images/{index}.png')
                    created = np.full((SIZE, SIZE, 3), 40 * index + seed, np.uint8)
                    store.add(record, created)
    return root


def config(root, part='train', augmentation=AUGMENTATION, **settings):
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path=f'{part}/images', seg_map_path=f'{part}/labels'),
        img_suffix='.png',
        serialize_data=False,
        metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [9, 9, 9], [200, 0, 0]]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            *augmentation,
            dict(type='PackSegInputs'),
        ],
        **settings,
    )


def plain(root, **settings):
    return SyntheticSampleDataset(config(root, augmentation=()), root / 'store', **settings)


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def equal(a, b):
    return torch.equal(a['inputs'], b['inputs']) and torch.equal(
        a['data_samples'].gt_sem_seg.data, b['data_samples'].gt_sem_seg.data
    )


# Nothing changes without synthetic samples.


@pytest.mark.parametrize(
    'settings', [dict(), dict(mix=dict(added=4)), dict(mix=dict(ratio=(1, 1))), dict(store='x', num_samples=0)]
)
def test_without_samples_it_is_the_wrapped_dataset(root, settings):
    wrapped, dataset = DATASETS.build(config(root)), SyntheticSampleDataset(config(root), **settings)
    assert (len(dataset), dataset.real_length, dataset.synthetic_length) == (6, 6, 0)
    assert dataset.metainfo == wrapped.metainfo
    after = []
    for each in (wrapped, dataset):
        seed_all('test')
        loader = DataLoader(each, 2, sampler=InfiniteSampler(each, seed=3), collate_fn=pseudo_collate)
        batches = [batch for batch, _ in zip(loader, range(6), strict=False)]
        after.append((batches, states()))
    (mine, my_states), (theirs, their_states) = after
    assert my_states == their_states
    for a, b in zip(mine, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a['inputs'], b['inputs'], strict=True))
        for x, y in zip(a['data_samples'], b['data_samples'], strict=True):
            assert torch.equal(x.gt_sem_seg.data, y.gt_sem_seg.data)
            extra = dict(synthetic=False, sample_id=None)
            assert {**x.metainfo, **extra} == {**y.metainfo, **extra}
    assert dataset[0]['data_samples'].metainfo['synthetic'] is False


def test_real_samples_are_the_same_with_synthetic_ones_added(root):
    """The real half of a batch, augmentation included, whatever is added: by key, and by a plain sampler in order."""
    for kind in (StreamSampler, InfiniteSampler):
        batches = []
        for settings in (dict(), dict(store=root / 'store', mix=dict(added=2))):
            dataset = SyntheticSampleDataset(config(root), **settings)
            sampler = MixedBatchSampler(kind(dataset, seed=1), 3)
            seed_all('test')
            loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=pseudo_collate)
            batches.append([batch for batch, _ in zip(loader, range(4), strict=False)])
        for alone, mixed in zip(*batches, strict=True):
            assert len(mixed['inputs']) == 5
            assert all(torch.equal(x, y) for x, y in zip(alone['inputs'], mixed['inputs'][:3], strict=True))


# Synthetic samples.


def test_a_synthetic_sample_is_its_source_with_other_files(root):
    dataset = plain(root)
    assert (len(dataset), dataset.real_length, dataset.synthetic_length) == (18, 6, 12)
    info, source = dataset.get_data_info(6 + 7), dataset.dataset.get_data_info(2)
    assert info['img_path'] == str(root / 'store/images/2-1.png')
    assert (info['seg_map_path'], info['labels']) == (None, 'none')
    assert info['sample_idx'] == 13
    unchanged = set(source) - {'img_path', 'seg_map_path', 'sample_idx'}
    assert set(info) == set(source) | {'labels'}
    assert {key: info[key] for key in unchanged} == {key: source[key] for key in unchanged}

    sample = dataset[13]
    assert sample['inputs'].unique().tolist() == [81]  # 40 * 2 + 1
    assert sample['data_samples'].gt_sem_seg.data.unique().tolist() == [255]
    assert sample['data_samples'].metainfo['synthetic'] is True
    assert sample['data_samples'].metainfo['sample_id'] == '2-1'
    assert dataset[-1]['data_samples'].metainfo['sample_id'] == '3-2'
    with pytest.raises(IndexError, match='index 18 of 6 real and 12 synthetic'):
        dataset[18]


def test_label_rules_are_those_of_the_wrapped_dataset(root, tmp_path):
    """Zero label reduced: nothing known is 255, as a real 0 is."""
    store = SampleStore(tmp_path)
    store.add(dict(sample_id='a', source='train/images/1.png'), np.zeros((4, 4, 3), np.uint8))
    dataset = SyntheticSampleDataset(config(root, augmentation=(), reduce_zero_label=True), tmp_path)
    assert dataset.get_data_info(6)['reduce_zero_label'] is True
    assert dataset[6]['data_samples'].gt_sem_seg.data.unique().tolist() == [255]


def test_every_label_file_is_replaced(root):
    """Depth and normals of the real image would have another size and another content."""
    dataset = plain(root)
    for info in dataset.dataset.data_list:
        info['depth_map_path'] = 'real depth'
    assert dataset.get_data_info(6)['depth_map_path'] is None
    assert dataset.get_data_info(0)['depth_map_path'] == 'real depth'


def test_wrappers_of_mmengine(root):
    train, extra = config(root, augmentation=()), config(root, 'extra', augmentation=())
    repeated = dict(type='RepeatDataset', dataset=train, times=3)
    concat = SyntheticSampleDataset(dict(type='ConcatDataset', datasets=[extra, train]), root / 'store')
    assert (concat.real_length, concat.synthetic_length) == (8, 12)
    assert concat.get_data_info(8 + 4)['img_path'].endswith('store/images/1-1.png')
    assert concat[8 + 4]['inputs'].unique().tolist() == [41]
    assert torch.equal(concat[2]['inputs'], plain(root)[0]['inputs'])
    nested = SyntheticSampleDataset(dict(type='ConcatDataset', datasets=[extra, repeated]), root / 'store')
    assert (nested.real_length, nested.synthetic_length) == (20, 12)
    assert nested[20 + 4]['data_samples'].metainfo['sample_id'] == '1-1'
    repeat = SyntheticSampleDataset(repeated, root / 'store')
    assert (repeat.real_length, repeat.synthetic_length, len(repeat)) == (18, 12, 30)
    assert torch.equal(repeat[7]['inputs'], plain(root)[1]['inputs'])
    assert repeat[18]['data_samples'].metainfo['sample_id'] == '0-0'
    assert concat.METAINFO == {}
    assert concat.metainfo['classes'] == ('a', 'b', 'c')


def test_sample_from_noise_has_no_source(root, tmp_path):
    store = SampleStore(tmp_path)
    store.add(dict(sample_id='noise', source=None), np.full((4, 4, 3), 9, np.uint8))
    dataset = SyntheticSampleDataset(config(root, augmentation=()), tmp_path)
    assert dataset[6]['inputs'].unique().tolist() == [9]


# Draws.


def ids(dataset):
    return [sample.sample_id for sample in dataset._samples]


def test_draw_is_seeded_nested_and_without_replacement(root):
    drawn = {number: ids(plain(root, num_samples=number)) for number in (1, 5, 8, 12)}
    for number, found in drawn.items():
        assert len(set(found)) == number
        assert found == sorted(found)
    assert set(drawn[1]) < set(drawn[5]) < set(drawn[8]) < set(drawn[12])
    assert ids(plain(root, num_samples=5)) == drawn[5] != ids(plain(root, num_samples=5, seed=1))
    counts = [sum('0-0' in ids(plain(root, num_samples=6, seed=seed)) for seed in range(60))]
    assert 18 <= counts[0] <= 42  # half of 60, 3 sigma


def test_samples_per_image(root):
    found = ids(plain(root, samples_per_image=2))
    assert len(found) == 8
    assert [sum(name.startswith(f'{index}-') for name in found) for index in range(4)] == [2] * 4
    assert ids(plain(root, samples_per_image=3)) == ids(plain(root))


# Keys.


def test_a_key_fixes_the_augmentation(root):
    dataset = SyntheticSampleDataset(config(root), root / 'store', mix=dict(added=2))
    keys = [
        StreamKey(index, kind, position, seed=4)
        for position in range(4)
        for index, kind in ((2, 'real'), (7, 'synthetic'))
    ]
    first = {key.position: [] for key in keys}
    before = states()
    for key in keys:
        first[key.position].append(dataset[key])
    assert states() == before, 'the global state is put back'

    seed_all('something else')
    for key in reversed(keys):
        number = 0 if key.kind == 'real' else 1
        assert equal(dataset[key], first[key.position][number])
    # The same image at another position, and with another seed of the stream or the dataset, is augmented anew.
    assert len({first[position][0]['inputs'].numpy().tobytes() for position in first}) == 4
    assert not equal(dataset[StreamKey(2, 'real', 0, seed=5)], first[0][0])
    other = SyntheticSampleDataset(config(root), seed=1)
    assert not equal(other[keys[0]], first[0][0])
    # The real sample is the same without a store.
    assert equal(SyntheticSampleDataset(config(root))[keys[0]], first[0][0])


def test_plain_indices_draw_from_the_global_state(root):
    dataset = SyntheticSampleDataset(config(root), root / 'store')
    seed_all(1)
    first, second = dataset[2], dataset[2]
    assert not equal(first, second)
    seed_all(1)
    assert equal(dataset[2], first)


def test_workers_read_what_the_main_process_reads(root):
    loaded = []
    for num_workers in (0, 2):
        dataset = SyntheticSampleDataset(config(root), root / 'store', mix=dict(ratio=(2, 1)))
        sampler = MixedBatchSampler(StreamSampler(dataset, seed=1), 3)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=num_workers, collate_fn=pseudo_collate)
        torch.rand(num_workers + 1)
        batches = iter(loader)
        loaded.append([next(batches) for _ in range(5)])
        del batches
    for mine, theirs in zip(*loaded, strict=True):
        assert [each.metainfo['synthetic'] for each in mine['data_samples']] == [False, False, True]
        assert all(torch.equal(a, b) for a, b in zip(mine['inputs'], theirs['inputs'], strict=True))
        for a, b in zip(mine['data_samples'], theirs['data_samples'], strict=True):
            assert a.metainfo['sample_id'] == b.metainfo['sample_id']


def test_several_images_in_one_are_refused_by_name(root):
    inner = dict(type='mmseg.MultiImageMixDataset', dataset=config(root), pipeline=[])
    with pytest.raises(TypeError, match='MultiImageMixDataset.*take the data set inside of it'):
        SyntheticSampleDataset(inner, root / 'store')
    without = config(root)
    without['pipeline'] = [step for step in without['pipeline'] if 'Pack' not in str(step['type'])]
    around = MultiImageMixDataset(dict(type='SyntheticSampleDataset', dataset=without, store=str(root / 'store')), [])
    with pytest.raises(TypeError, match='A MultiImageMixDataset around this one .* leave it out'):
        around[0]


def test_created_images_know_how_wide_borders_are(root):
    """For heads such as PIDNet's, whose borders are drawn anew from the label in use."""
    cfg = config(root)
    *before, last = cfg['pipeline']
    cfg['pipeline'] = [*before, dict(type='mmseg.GenerateEdge', edge_width=4), last]
    dataset = SyntheticSampleDataset(cfg, root / 'store')
    assert dataset[-1]['data_samples'].metainfo['edge_width'] == 4
    assert 'edge_width' not in SyntheticSampleDataset(config(root), root / 'store')[-1]['data_samples'].metainfo


def test_a_refused_sample_is_replaced_by_another_of_its_kind(root):
    dataset = plain(root, num_samples=5)
    pipeline = dataset.dataset.pipeline
    refused = ids(dataset)[0]
    refusing = Compose([lambda info: None if refused in info['img_path'] else info])
    refusing.transforms += pipeline.transforms
    dataset.dataset.pipeline = refusing
    key = StreamKey(6, 'synthetic', 0)
    found = dataset[key]['data_samples'].metainfo
    assert found['synthetic'] and found['sample_id'] in set(ids(dataset)) - {refused}
    assert dataset[key]['data_samples'].metainfo['sample_id'] == found['sample_id']
    dataset.dataset.pipeline, dataset.dataset.max_refetch = lambda info: None, 3
    with pytest.raises(RuntimeError, match='refused 4 synthetic samples'):
        dataset[6]


def test_derived_seeds_do_not_collide():
    seeds = {
        derived_seed(seed, 'train', rank, iteration)
        for seed in range(10)
        for rank in range(10)
        for iteration in range(100)
    }
    assert len(seeds) == 10_000
    assert derived_seed(1, 23) != derived_seed(12, 3) != derived_seed(1, '23')
    assert derived_seed(np.int64(3)) == derived_seed(3) == derived_seed(StreamKey(3, 'real', 8))
    assert derived_seed(0) == 5475721233701647462  # pinned: old runs must stay resumable
    with derived_randomness('a'):
        inside = random.random(), np.random.random(), torch.rand(()).item()
    assert len(set(inside)) == 3
    with pytest.raises(KeyError), derived_randomness('a'):
        before = states()
        raise KeyError
    with derived_randomness('a'):
        assert states() == before


# Bad input.


def test_store_arguments(root):
    cases = [
        (dict(num_samples=3, samples_per_image=1), ValueError, 'both set'),
        (
            dict(num_samples=13),
            ValueError,
            r'holds 12 samples, expected at least 13; make more with mmdiff2in1',
        ),
        (
            dict(samples_per_image=4),
            ValueError,
            r'holds 3 samples of train/images/0.png, expected at least 4; make more',
        ),
        (dict(num_samples=-1), ValueError, 'num_samples is -1'),
        (dict(samples_per_image=True), ValueError, 'samples_per_image is True'),
        (dict(labels='given'), ValueError, "unknown labels='given'; known: none, stored, source"),
        (dict(mix='mixed'), ValueError, "unknown mix 'mixed'; known: 'uniform'"),
    ]
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            plain(root, **settings)
    with pytest.raises(ValueError, match='ask for synthetic samples but store is None'):
        SyntheticSampleDataset(config(root), num_samples=3)


def test_missing_and_empty_store(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'mmdiff2in1 synthesize'):
        SyntheticSampleDataset(config(root), tmp_path / 'nowhere')
    (tmp_path / 'manifest.jsonl').touch()
    with pytest.raises(ValueError, match=r'holds no samples; make more with mmdiff2in1 synthesize.*store=None'):
        SyntheticSampleDataset(config(root), tmp_path)


@pytest.fixture
def small_store(tmp_path):
    store = SampleStore(tmp_path / 'store')
    rng = np.random.default_rng(1)
    for index in range(3):
        record = dict(sample_id=f's{index}', source=f'images/{index}.png')
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        store.add(record, image)
    return store.folder


def test_damage_is_found_at_the_start(root, small_store):
    file = small_store / 'images/s1.png'
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(
        RuntimeError, match=r'1 of 3 samples are damaged: images/s1\.png.*synthesize CONFIG --out .* --verify'
    ):
        SyntheticSampleDataset(config(root), small_store)
    # Only what is trained on is looked at.
    chosen = next(
        seed
        for seed in range(9)
        if 's1' not in ids(SyntheticSampleDataset(config(root), small_store, 1, seed=seed, verify=False))
    )
    assert SyntheticSampleDataset(config(root), small_store, 1, seed=chosen).synthetic_length == 1
    file.unlink()
    with pytest.raises(RuntimeError, match='s1 lacks a file'):
        SyntheticSampleDataset(config(root), small_store, verify=False)


def test_damage_during_training_is_named(root, small_store):
    dataset = SyntheticSampleDataset(config(root), small_store)
    file = small_store / 'images/s1.png'
    whole = file.read_bytes()
    file.write_bytes(b'not a picture')
    with pytest.raises(RuntimeError, match=r's1\.png is missing or damaged; run mmdiff2in1 synthesize'):
        dataset[7]
    file.write_bytes(whole)
    assert dataset[7]['data_samples'].metainfo['sample_id'] == 's1'


def test_other_errors_name_the_sample(root, small_store):
    dataset = SyntheticSampleDataset(config(root), small_store)

    def broken(info):
        raise ZeroDivisionError('transform')

    dataset.dataset.pipeline = broken
    with pytest.raises(ZeroDivisionError) as raised:
        dataset[8]
    assert 'synthetic sample s2' in raised.value.__notes__[0]


def test_store_of_another_dataset(root, tmp_path):
    black = np.zeros((4, 4, 3), np.uint8)
    SampleStore(tmp_path / 'a').add(dict(sample_id='x', source='val/images/77.png'), black)
    with pytest.raises(ValueError, match=r'sample x of .*made from val/images/77\.png.*found no such image'):
        SyntheticSampleDataset(config(root), tmp_path / 'a')
    SampleStore(tmp_path / 'b').add(dict(sample_id='x', source='0.png'), black)
    both = dict(type='ConcatDataset', datasets=[config(root), config(root, 'extra')])
    with pytest.raises(ValueError, match=r'exactly one image.*extra/images/0\.png.*train/images/0\.png'):
        SyntheticSampleDataset(both, tmp_path / 'b')


def test_an_exact_mix_needs_its_batch_sampler(root):
    dataset = plain(root, mix=dict(added=2))
    assert len(dataset) == 6
    loader = DataLoader(dataset, 3, sampler=InfiniteSampler(dataset, seed=0), collate_fn=pseudo_collate)
    with pytest.raises(RuntimeError, match=r"mix=added.*batch_sampler=dict\(type='MixedBatchSampler'\)"):
        next(iter(loader))
    assert dataset[0]['data_samples'].metainfo['synthetic'] is False, 'to look at single samples is allowed'


def test_unsupported_datasets(root):
    class MultiImageMix:
        pass

    with pytest.raises(TypeError, match='to a MultiImageMix; expected.*ConcatDataset, RepeatDataset'):
        SyntheticSampleDataset(MultiImageMix())
    unpacked = config(root, augmentation=())
    unpacked['pipeline'].pop()
    with pytest.raises(TypeError, match='PackSegInputs'):
        SyntheticSampleDataset(unpacked)[0]


def test_lazy_init_reads_nothing_until_needed(root, tmp_path):
    dataset = SyntheticSampleDataset(config(root, lazy_init=True), tmp_path / 'later', lazy_init=True)
    record = dict(sample_id='x', source='images/0.png')
    SampleStore(tmp_path / 'later').add(record, np.zeros((4, 4, 3), np.uint8))
    assert len(dataset) == 7
