"""The order of samples: mmengine's own at equal seeds, exact in every batch, and the same after a fast-forward."""

import pickle
from collections import Counter
from itertools import islice

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader, Dataset

import mmdiff2in1.datasets.samplers as samplers
from mmdiff2in1.datasets import BatchMix, MixedBatchSampler, MixedStream, StreamKey, StreamSampler


class Keys(Dataset):
    """A dataset whose samples are the keys they were asked for, with the interface of SyntheticSampleDataset."""

    def __init__(self, real=10, synthetic=6, mix='uniform'):
        self.real_length, self.synthetic_length, self.mix = real, synthetic, BatchMix.parse(mix)

    def __len__(self):
        return self.real_length + (0 if self.mix.exact else self.synthetic_length)

    def batch_composition(self, batch_size):
        return self.mix.composition(batch_size) if self.synthetic_length else (batch_size, 0)

    def __getitem__(self, key):
        return dict(key=int(key), kind=getattr(key, 'kind', None), position=getattr(key, 'position', None))


def as_rank(monkeypatch, rank, world_size):
    for module in ('mmdiff2in1.datasets.samplers', 'mmengine.dataset.sampler'):
        monkeypatch.setattr(f'{module}.get_dist_info', lambda: (rank, world_size))


def take(sampler, number):
    return list(islice(iter(sampler), number))


def test_stream_key_is_an_int_that_pickles():
    key = StreamKey(7, 'synthetic', position=40, seed=3)
    for copy in (key, pickle.loads(pickle.dumps(key)), pickle.loads(pickle.dumps(key, protocol=0))):
        assert (copy, copy.kind, copy.position, copy.seed) == (7, 'synthetic', 40, 3)
    assert list(range(10))[key] == 7
    assert repr(key) == "StreamKey(7, 'synthetic', position=40, seed=3)"
    with pytest.raises(ValueError, match='known: real, synthetic'):
        StreamKey(1, 'fake')
    with pytest.raises(ValueError, match='position is -1'):
        StreamKey(1, 'real', -1)


@pytest.mark.parametrize('world_size', [1, 2, 3])
@pytest.mark.parametrize('shuffle', [True, False])
def test_stream_has_the_order_of_the_infinite_sampler(monkeypatch, world_size, shuffle):
    data = Keys(real=10, synthetic=0)
    positions = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        keys = take(StreamSampler(data, shuffle, seed=4), 35)
        assert keys == take(InfiniteSampler(data, shuffle, seed=4), 35)
        assert {key.kind for key in keys} == {'real'}
        positions += [key.position for key in keys]
    assert sorted(positions) == list(range(35 * world_size))


@pytest.mark.parametrize('skipped', [0, 1, 9, 10, 23, 400])
@pytest.mark.parametrize(('rank', 'world_size'), [(0, 1), (1, 3)])
def test_skip_equals_consuming(monkeypatch, skipped, rank, world_size):
    as_rank(monkeypatch, rank, world_size)
    expected = take(StreamSampler(Keys(), seed=4), skipped + 20)[skipped:]
    sampler = StreamSampler(Keys(), seed=4)
    sampler.skip(5)  # absolute: a later call replaces it
    sampler.skip(skipped)
    found = take(sampler, 20)
    assert [(key, key.kind, key.position) for key in found] == [(key, key.kind, key.position) for key in expected]


def test_uniform_stream_names_the_kind_of_each_sample():
    keys = take(StreamSampler(Keys(real=10, synthetic=6), seed=1), 160)
    assert Counter(keys) == {index: 10 for index in range(16)}
    assert all((key.kind == 'real') == (key < 10) for key in keys)


@pytest.mark.parametrize(
    ('mix', 'batch_size', 'real', 'synthetic'),
    [(dict(added=3), 4, 4, 3), (dict(ratio=(1, 1)), 4, 2, 2), (dict(ratio=(3, 1)), 8, 6, 2), (dict(added=9), 1, 1, 9)],
)
@pytest.mark.parametrize('kind', [StreamSampler, InfiniteSampler])
def test_every_batch_has_the_mix(mix, batch_size, real, synthetic, kind):
    data = Keys(mix=mix)
    batches = take(MixedBatchSampler(kind(data, seed=2), batch_size), 50)
    assert {len(batch) for batch in batches} == {real + synthetic}
    assert all(all(key < 10 for key in batch[:real]) for batch in batches)
    assert all(all(key >= 10 and key.kind == 'synthetic' for key in batch[real:]) for batch in batches)
    # The real stream is the one without synthetic samples; the synthetic one goes round all six evenly.
    assert [key for batch in batches for key in batch[:real]] == take(InfiniteSampler(data, seed=2), 50 * real)
    counts = Counter(int(key) for batch in batches for key in batch[real:])
    assert set(counts) == set(range(10, 16))
    assert max(counts.values()) - min(counts.values()) <= 1
    positions = [key.position for batch in batches for key in batch[real:]]
    assert positions == list(range(50 * synthetic))


def test_uniform_batches_vary_around_the_share():
    data = Keys(real=10, synthetic=6)
    batches = take(MixedBatchSampler(StreamSampler(data, seed=2), 4), 52)
    assert [key for batch in batches for key in batch] == take(InfiniteSampler(data, seed=2), 208)
    counts = [sum(key.kind == 'synthetic' for key in batch) for batch in batches]
    assert sum(counts) == 52 * 4 * 6 / 16
    assert len(set(counts)) > 1


def test_without_synthetic_samples_a_mix_changes_nothing():
    for mix in ('uniform', dict(added=3), dict(ratio=(1, 1))):
        data = Keys(synthetic=0, mix=mix)
        batches = take(MixedBatchSampler(InfiniteSampler(data, seed=2), 4), 20)
        assert batches == take(BatchSampler(InfiniteSampler(data, seed=2), 4, True), 20)


def test_ranks_share_out_both_streams(monkeypatch):
    data = Keys(mix=dict(added=3))
    seen = Counter()
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        for batch in take(MixedBatchSampler(StreamSampler(data, seed=2), 5), 10):
            seen.update((key.kind, key.position) for key in batch)
    expected = [('real', position) for position in range(100)] + [('synthetic', position) for position in range(60)]
    assert seen == Counter(expected)


def build_loader(num_workers, batch_sampler=dict(type='MixedBatchSampler'), sampler='StreamSampler', mix=None):  # noqa: B006
    cfg = dict(
        batch_size=4, num_workers=num_workers, dataset=Keys(mix=mix or dict(added=3)),
        sampler=dict(type=f'mmseg.{sampler}'), collate_fn=pseudo_collate,
    )  # fmt: skip
    if batch_sampler:
        cfg['batch_sampler'] = dict(batch_sampler, type=f'mmseg.{batch_sampler["type"]}')
    return Runner.build_dataloader(cfg, seed=9)


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('mixed', [True, False])
def test_the_train_loop_resumes_both_samplers(monkeypatch, num_workers, mixed):
    settings = {} if mixed else dict(batch_sampler=None, mix='uniform')
    straight = _InfiniteDataloaderIterator(build_loader(0, **settings))
    expected = [next(straight) for _ in range(12)][8:]

    loader = build_loader(num_workers, **settings)
    resumed = _InfiniteDataloaderIterator(loader)
    # Stepping through the skipped batches would also get there; it must not be needed.
    monkeypatch.setattr(_InfiniteDataloaderIterator, '_next_data', lambda *_, **__: pytest.fail('steps'))
    resumed.skip_iter(8)
    monkeypatch.undo()
    assert [next(resumed) for _ in range(4)] == expected
    if mixed:
        assert type(loader.batch_sampler) is BatchSampler


def test_a_sampler_that_cannot_skip_is_stepped_through():
    class Custom(InfiniteSampler):
        skip = property(lambda self: getattr(self, 'absent'))  # noqa: B009

    def loader():
        sampler = Custom(Keys(mix=dict(added=3)), seed=9)
        batches = MixedBatchSampler(sampler, 4)
        assert not hasattr(batches.sampler, 'skip')
        return _InfiniteDataloaderIterator(
            DataLoader(sampler.dataset, batch_sampler=batches, collate_fn=pseudo_collate)
        )

    straight, resumed = loader(), loader()
    expected = [next(straight) for _ in range(7)][5:]
    resumed.skip_iter(5)
    assert [next(resumed) for _ in range(2)] == expected


@pytest.mark.parametrize(('drop_last', 'sizes'), [(True, [7, 7]), (False, [7, 7, 5])])
def test_epochs_of_a_finite_sampler(drop_last, sizes):
    """10 real samples in batches of 4 + 3: two whole batches, then one of 2 + 3."""
    data = Keys(mix=dict(added=3))
    batches = MixedBatchSampler(DefaultSampler(data, seed=2), 4, drop_last)
    epochs = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        epochs.append(list(batches))
        assert [len(batch) for batch in epochs[-1]] == sizes
        assert len(batches) == len(sizes)
    synthetic = [key.position for epoch in epochs for batch in epoch for key in batch if key >= 10]
    assert synthetic == list(range(3 * 2 * len(sizes))), 'the second epoch goes on where the first ended'
    # A resumed epoch is the same without the first.
    again = MixedBatchSampler(DefaultSampler(data, seed=2), 4, drop_last)
    again.sampler.set_epoch(1)
    assert list(again) == epochs[1]


def test_seeds_decide_the_order():
    data = Keys(mix=dict(added=3))
    orders = [take(MixedStream(StreamSampler(data, seed=seed), 4, 3), 70) for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    for part in (slice(0, 4), slice(4, 7)):
        chosen = [[key for start in range(0, 70, 7) for key in order[start : start + 7][part]] for order in orders]
        assert chosen[0] != chosen[2]
    assert StreamSampler(data, seed=None).seed >= 0


@pytest.mark.parametrize(
    ('mix', 'found'),
    [
        ('half', "'half'"),
        (dict(ratio=(1, 2, 3)), 'ratio'),
        (dict(add=3), 'add'),
        (dict(added=1, ratio=(1, 1)), 'added'),
    ],
)
def test_unknown_mix_lists_the_known_ones(mix, found):
    with pytest.raises(
        ValueError, match=rf"unknown mix .*{found}.*known: 'uniform', dict\(ratio=\(r, s\)\), dict\(added"
    ):
        BatchMix.parse(mix)


@pytest.mark.parametrize('mix', [dict(added=0), dict(added=1.5), dict(ratio=(1, 0)), dict(ratio=(True, 1))])
def test_impossible_counts(mix):
    with pytest.raises(ValueError, match='expected integers of 1 or more'):
        BatchMix.parse(mix)


def test_errors_of_the_samplers():
    with pytest.raises(
        ValueError, match=r'batch_size 8 cannot be split as ratio=\(2, 1\).*multiple of 3, for example 9'
    ):
        MixedBatchSampler(StreamSampler(Keys(mix=dict(ratio=(2, 1))), seed=0), 8)
    with pytest.raises(TypeError, match='sampler over list, expected SyntheticSampleDataset'):
        MixedBatchSampler(StreamSampler([1, 2], seed=0), 8)
    with pytest.raises(ValueError, match='holds no samples'):
        StreamSampler([], seed=0)
    stream = MixedBatchSampler(StreamSampler(Keys(mix=dict(added=3)), seed=0), 4).sampler
    with pytest.raises(ValueError, match='whole batches of 4 real and 3 synthetic'):
        stream.skip(8)
    with pytest.raises(ValueError, match='num_samples is -1'):
        StreamSampler(Keys(), seed=0).skip(-1)


def test_a_long_skip_is_cheap(monkeypatch):
    """Indices are made once per skipped permutation, not once per skipped sample."""
    calls, randperm = [], torch.randperm
    monkeypatch.setattr(samplers.torch, 'randperm', lambda *a, **k: calls.append(1) or randperm(*a, **k))
    sampler = StreamSampler(Keys(real=1000, synthetic=0), seed=0)
    sampler.skip(100_000)
    assert next(iter(sampler)).position == 100_000
    assert len(calls) == 101


@pytest.mark.parametrize('share', [16, 4, 2])
def test_as_many_created_samples_as_real_ones_whatever_the_share_of_a_process(share):
    """16 real samples of all processes together, on one, four and eight of them."""
    mix = BatchMix.parse(dict(added='equal'))
    assert mix.exact and mix.composition(share) == (share, share)
    assert mix.composition(share) == BatchMix.parse(dict(added=share)).composition(share)


@pytest.mark.parametrize('size', [1, 2, 8, 9])
def test_the_end_of_an_epoch_is_that_of_torch(size):
    """8 images in batches of 3 are three steps, and every image is seen; created ones are in each of them."""
    data = Keys(real=size, synthetic=6, mix=dict(added=2))
    sampler = MixedBatchSampler(DefaultSampler(data, shuffle=True, seed=1), 3)
    torchs = BatchSampler(DefaultSampler(data, shuffle=True, seed=1), 3, drop_last=False)
    for epoch in range(3):
        sampler.sampler.set_epoch(epoch)
        torchs.sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [[key for key in batch if key < size] for batch in batches] == list(torchs)
        assert [len([key for key in batch if key >= size]) for batch in batches] == [2] * len(torchs)
        assert len(sampler) == len(torchs) == len(batches)
    # The created ones go on where the epoch before has left them.
    sampler.sampler.set_epoch(0)
    first = [key.position for batch in sampler for key in batch if key >= size]
    sampler.sampler.set_epoch(1)
    second = [key.position for batch in sampler for key in batch if key >= size]
    assert first + second == list(range(4 * len(torchs)))


def test_a_set_smaller_than_the_batch_says_so_where_short_batches_are_dropped(monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)  # two seconds at the end of every epoch
    data = Keys(real=2, synthetic=6, mix=dict(added=2))
    dropping = MixedBatchSampler(DefaultSampler(data, seed=1), 3, drop_last=True)
    with pytest.raises(ValueError, match='drop_last=True leaves no batch: 2 real samples'):
        next(iter(dropping))
    short = MixedBatchSampler(DefaultSampler(data), 3)
    loop = _InfiniteDataloaderIterator(DataLoader(data, batch_sampler=short, collate_fn=pseudo_collate))
    assert [len(next(loop)['key']) for _ in range(3)] == [4, 4, 4]
