"""The order in which samples are read: an infinite seeded stream of real ones, and its exact mix with synthetic ones.

R, S: numbers of real and synthetic samples of a dataset; r, s: of one batch on one rank. Synthetic indices follow the
real ones: R … R + S - 1.
"""

from collections.abc import Iterator, Sized
from itertools import islice

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

from mmdiff2in1.core.randomness import derived_seed

from .stream_keys import StreamKey


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Infinite shuffled stream, sliced over the ranks, that yields a `StreamKey` per sample.

    At equal seeds the indices are those of mmengine's `InfiniteSampler`; the key adds what exact resume needs. Every
    iterator starts at the position set by `skip` (0 at first), so a sampler holds no other state.

    `seed=None` draws one seed for all ranks (mmengine's runner passes its own). `round_up` is accepted because configs
    written for other samplers set it; a stream without end has nothing to round.

    Raises ValueError for an empty dataset.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.round_up = round_up
        self.size = len(dataset)
        if self.size == 0:
            raise ValueError('the dataset holds no samples; check its data_root, data_prefix and ann_file')
        self._start = 0

    def __iter__(self) -> Iterator[StreamKey]:
        real_length = getattr(self.dataset, 'real_length', self.size)
        first = self._start * self.world_size + self.rank
        for position, index in _walk(self.size, self.seed, self.shuffle, first, self.world_size):
            yield StreamKey(index, 'real' if index < real_length else 'synthetic', position, self.seed)

    def skip(self, num_samples: int) -> None:
        """Go to an absolute position: `num_samples` counts this rank's samples from the start of the stream."""
        self._start = _not_negative(num_samples)

    def set_epoch(self, epoch: int) -> None:
        """An infinite stream has no epochs."""

    def __len__(self) -> int:
        return self.size


class MixedStream(Sampler):
    """One rank's samples in the order of their batches: r keys of `sampler`, then s synthetic ones, again and again.

    The user's sampler walks the real indices exactly as it would alone. The synthetic ones are a shuffled infinite
    stream of their own, sliced over the ranks and seeded from the sampler's seed. Where the sampler ends (one epoch),
    the mix ends; `drop_last` decides on a last batch with fewer real samples. `skip` exists if the sampler has it.
    """

    def __init__(self, sampler: Sampler, num_real: int, num_synthetic: int, drop_last: bool = False) -> None:
        self.sampler = sampler
        self.num_real = num_real
        self.num_synthetic = num_synthetic
        self.drop_last = drop_last
        self.rank, self.world_size = get_dist_info()
        self.seed = derived_seed(getattr(sampler, 'seed', None), 'order of the synthetic samples')
        self._batches = 0
        if hasattr(sampler, 'skip'):
            # Only then: the train loop takes the attribute as a promise, and otherwise advances batch by batch.
            self.skip = self._skip

    def __iter__(self) -> Iterator[int]:
        real, synthetic, empty = iter(self.sampler), self._synthetic(), True
        while True:
            keys = list(islice(real, self.num_real))
            if len(keys) < self.num_real and (self.drop_last or not keys):
                if empty:
                    raise ValueError(
                        f'drop_last=True leaves no batch: {len(keys)} real samples on this process, and '
                        f'{self.num_real} in a batch; leave drop_last out of the batch_sampler, or take a smaller batch'
                    )
                return
            empty = False
            yield from keys
            yield from islice(synthetic, self.num_synthetic)

    def __len__(self) -> int:
        """Samples per epoch; for an infinite sampler what its own length says."""
        batches, rest = divmod(len(self.sampler), self.num_real)
        whole = batches * (self.num_real + self.num_synthetic)
        return whole if self.drop_last or not rest else whole + rest + self.num_synthetic

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on; the synthetic stream goes on where the epochs before have left it."""
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
        batches = -(-len(self) // (self.num_real + self.num_synthetic))
        self._batches = epoch * batches

    def _skip(self, num_samples: int) -> None:
        batches, rest = divmod(_not_negative(num_samples), self.num_real + self.num_synthetic)
        if rest:
            raise ValueError(
                f'cannot skip {num_samples} samples: expected whole batches of {self.num_real} real and '
                f'{self.num_synthetic} synthetic samples'
            )
        self.sampler.skip(batches * self.num_real)
        self._batches = batches

    def _synthetic(self) -> Iterator[StreamKey]:
        if not self.num_synthetic:
            return
        dataset = self.sampler.dataset
        first = self._batches * self.num_synthetic * self.world_size + self.rank
        for position, index in _walk(dataset.synthetic_length, self.seed, True, first, self.world_size):
            yield StreamKey(dataset.real_length + index, 'synthetic', position, self.seed)


@DATA_SAMPLERS.register_module()
def MixedBatchSampler(sampler: Sampler, batch_size: int, drop_last: bool = False) -> BatchSampler:  # noqa: N802
    """Batches as the `mix` of a `SyntheticSampleDataset` asks for: of an exact one real samples first, then synthetic.

    Returns torch's own `BatchSampler` over a `MixedStream`, of r + s samples per batch ('uniform': the sampler's own
    order): of batch samplers, mmengine's train loop fast-forwards the `sampler.skip` of exactly that class. Through
    every other it steps batch by batch, with worker processes also loading all that is skipped.
    `batch_size` is that of the dataloader: for `added` the real samples, for `ratio` and 'uniform' all of them.
    Without synthetic samples the batches are those of the wrapped dataset, whatever the mix. As in torch, an epoch ends
    in a batch with fewer real samples, and all s synthetic ones, unless `drop_last`; for a stream without end there is
    no such batch. In a dataloader `drop_last` stands here, not beside the batch sampler, where torch refuses it.

    Raises TypeError if the dataset is no `SyntheticSampleDataset`, ValueError if `ratio` does not divide the batch.
    """
    dataset = getattr(sampler, 'dataset', None)
    if not hasattr(dataset, 'batch_composition'):
        raise TypeError(
            f'MixedBatchSampler got a sampler over {type(dataset).__name__}, expected SyntheticSampleDataset; '
            "wrap the dataset: dataset=dict(type='SyntheticSampleDataset', dataset=…, store=…, mix=…)"
        )
    num_real, num_synthetic = dataset.batch_composition(batch_size)
    stream = MixedStream(sampler, num_real, num_synthetic, drop_last)
    return BatchSampler(stream, num_real + num_synthetic, drop_last)


def _walk(size: int, seed: int, shuffle: bool, first: int, step: int) -> Iterator[tuple[int, int]]:
    """(position, index) at positions first, first + step, … of an endless row of permutations of 0 … size - 1."""
    generator = torch.Generator().manual_seed(seed)
    begin, position = 0, first
    while True:
        order = torch.randperm(size, generator=generator) if shuffle else torch.arange(size)
        if position < begin + size:
            indices = order.tolist()
            while position < begin + size:
                yield position, indices[position - begin]
                position += step
        begin += size


def _not_negative(num_samples: int) -> int:
    if num_samples < 0:
        raise ValueError(f'num_samples is {num_samples}, expected 0 or more')
    return num_samples
