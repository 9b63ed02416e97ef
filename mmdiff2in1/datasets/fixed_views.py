"""Fixed views: an image is augmented in V ways that never change, instead of anew at every step.

R, S: numbers of real and synthetic samples. Indices 0 … R + S - 1 as in `SyntheticSampleDataset`; views 0 … V - 1.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.core.tensor_file import read_tensor_file

from .packed_sample import sample_of
from .stream_keys import StreamKey
from .synthetic_sample_dataset import SyntheticSampleDataset

SAMPLE = 'sample.'
"""Begin of the names of the maps of a data sample, in a file that holds features beside them."""


def samples_in(dataset: SyntheticSampleDataset) -> int:
    """R + S, all that have an index; whatever the mix."""
    return dataset.real_length + dataset.synthetic_length


def made_view(dataset: SyntheticSampleDataset, index: int, view: int, seed: int) -> dict:
    """One view of a sample: what the pipeline of `dataset` gives when all it draws follows from (seed, index, view)."""
    with derived_randomness(seed, 'view', index, view):
        return dataset[index]


@DATASETS.register_module()
class CachedViewsDataset(Dataset):
    """Reads the features and labels of fixed views, which `mmdiff2in1.training.cached_views` has written.

    Of a `StreamKey` the view follows from its place: the n-th time around the data shows image i its view (i + n) mod
    V, so that in V rounds every view is seen once, and a resumed training sees what the straight one does. Another
    index draws its view from NumPy's global state.

    Args:
        dataset: What was cached, a `SyntheticSampleDataset` or its config.
        files: JSON file: `views`, and `names`, of each sample the V files beside it.

    Raises:
        ValueError: The list is of another data set.
        RuntimeError: When read: a file is missing or damaged, with the cure.
    """

    def __init__(self, dataset: Mapping | SyntheticSampleDataset, files: str | Path) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.files = Path(files)
        listed = json.loads(self.files.read_text())
        self.views, self._names = listed['views'], listed['names']

    def full_init(self) -> None:
        """See `SyntheticSampleDataset`."""
        self.dataset.full_init()
        if len(self._names) != samples_in(self.dataset):
            raise ValueError(
                f'{self.files} lists {len(self._names)} samples, the data set has {samples_in(self.dataset)}; start '
                'the training again, which lists them anew'
            )

    @property
    def metainfo(self) -> dict:
        """See `SyntheticSampleDataset`."""
        return self.dataset.metainfo

    @property
    def METAINFO(self) -> dict:  # noqa: N802
        """See `SyntheticSampleDataset`."""
        return self.dataset.METAINFO

    @property
    def real_length(self) -> int:
        """R."""
        return self.dataset.real_length

    @property
    def synthetic_length(self) -> int:
        """S."""
        return self.dataset.synthetic_length

    def __len__(self) -> int:
        return len(self.dataset)

    def batch_composition(self, batch_size: int) -> tuple[int, int]:
        """See `SyntheticSampleDataset`."""
        return self.dataset.batch_composition(batch_size)

    def __getitem__(self, idx: int) -> dict:
        """`inputs`: the features of a view by name, see `FrozenFeatures.kept`; `data_samples`: its labels, padded."""
        file = self.files.parent / self._names[idx][self._view(idx)]
        try:
            tensors, facts = read_tensor_file(file)
        except (FileNotFoundError, ValueError) as error:
            raise RuntimeError(
                f'{file} is missing or damaged; start the training again (--resume), which makes it anew'
            ) from error
        of_sample = {name.removeprefix(SAMPLE): tensor for name, tensor in tensors.items() if name.startswith(SAMPLE)}
        inputs = {name: tensor for name, tensor in tensors.items() if not name.startswith(SAMPLE)}
        return dict(inputs=inputs, data_samples=sample_of(of_sample, facts))

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """See `SyntheticSampleDataset`."""
        self.dataset.check_batch(indices)
        return [self[index] for index in indices]

    def _view(self, idx: int) -> int:
        if not isinstance(idx, StreamKey):
            return int(np.random.randint(self.views))
        alone = self.dataset.mix.exact and idx.kind == 'synthetic'  # then a stream of its own
        rounds = idx.position // (self.synthetic_length if alone else len(self))
        return (int(idx) + rounds) % self.views
