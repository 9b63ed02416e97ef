"""A dataset with synthetic samples: wraps any other one and runs its pipeline for both kinds.

R, S: numbers of real and synthetic samples. Indices 0 … R - 1 are the wrapped dataset's, R … R + S - 1 the synthetic.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import BaseDataset, Compose
from mmengine.dist import get_rank, get_world_size
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import DATASETS, TASK_UTILS
from torch.utils.data import Dataset

from mmdiff2in1.core.image_loading import refuse_for_created
from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.datasets.transforms.missing_maps import LoadClassAnnotation, OrBlank, PackTopk
from mmdiff2in1.synthesis.store import UNLABELLED, SampleStore
from mmdiff2in1.tasks import DenseTask

from .batch_mix import BatchMix
from .edge_width import edge_width
from .stream_keys import StreamKey
from .synthetic_records import SourceImage, SourceIndex, draw, unwrapped

LABELS = ('none', 'stored', 'source')
CURE = 'run mmdiff2in1 synthesize CONFIG --out {} --verify to remove what is damaged, then without it to make it again'

MOVED = (
    '. Unlabelled images stay where they lie: if their folder has moved, name its new place in '
    'stages.synthesis.unlabelled and run mmdiff2in1 synthesize again, which finds them by their content'
)


@dataclass(frozen=True)
class _Sample:
    sample_id: str
    image: str
    image_sha256: str
    labels: str
    files: dict[str, str]
    caption: str | None
    source: SourceImage


@DATASETS.register_module()
class SyntheticSampleDataset(Dataset):
    """`dataset` (a config or built) with samples of a store, each marked in the metainfo of its `data_samples`.

    A synthetic sample is the data info of the image it was made from with another image file, so label maps, zero-label
    reduction and every other field are the dataset's own; one that was made from none (from noise, or an unlabelled
    image of the user) has what all images of the (first) wrapped dataset have in common. What it is taught with is
    decided by the label rule of the model; here `labels` decides which label it brings along. After the pipeline
    `synthetic` (bool) and `sample_id` (str or None) are set as metainfo; `meta_keys` need not name them.

    - `store`: folder of a `SampleStore`; None, or `num_samples=0`, gives the wrapped dataset bit for bit.
    - `num_samples` or `samples_per_image`: a seeded draw without replacement; neither: the whole store.
    - `labels`: 'none', it says nothing of any task and no label file is opened; 'stored', the labels in the store;
      'source', those of the image it was made from, brought to its size (a sample without one has none).
    - `mix`: 'uniform' has R + S samples for any sampler; dict(ratio=(r, s)) and dict(added=s) are exact per batch,
      have R samples, and need `batch_sampler=dict(type='MixedBatchSampler')`. See `BatchMix`.
    - `seed`: of the draw, and with the place of a `StreamKey` in its stream of the augmentation: a sample read by key
      is independent of workers, neighbours and of what was read before. A plain int draws from the global state.
    - `verify`: compare the files of the draw with their hashes at the start, each process a share of them. Without,
      only that they are there.

    Raises ValueError for impossible arguments, an empty store, more samples than stored, samples of another dataset,
    images of other channels than created ones;
    FileNotFoundError without a store; RuntimeError naming a damaged file and the command that re-makes it, or when an
    exact mix is read in batches without its batch sampler.
    """

    def __init__(
        self,
        dataset: Mapping | Dataset,
        store: str | Path | None = None,
        num_samples: int | None = None,
        samples_per_image: int | None = None,
        mix: str | Mapping = 'uniform',
        labels: str = 'none',
        seed: int = 0,
        verify: bool = True,
        lazy_init: bool = False,
    ) -> None:
        self.mix = BatchMix.parse(mix)
        if labels not in LABELS:
            raise ValueError(f'unknown labels={labels!r}; known: {", ".join(LABELS)}')
        self.labels, self.seed, self.verify = labels, seed, verify
        self._asked = _checked(num_samples, samples_per_image)
        self.store = None if store is None or 0 in self._asked else SampleStore(store)
        if store is None and any(self._asked):
            raise ValueError(
                f'num_samples={num_samples}, samples_per_image={samples_per_image} ask for synthetic samples but store '
                'is None; name the folder that mmdiff2in1 synthesize has written'
            )
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        unwrapped(self.dataset)
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the wrapped dataset's list and the store; called on first use if `lazy_init` is set."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        self._real_length = len(self.dataset)
        self._samples = [] if self.store is None else self._read_store()
        self._fully_initialized = True

    @property
    def metainfo(self) -> dict:
        """The wrapped dataset's classes, palette and the like."""
        return self.dataset.metainfo

    @property
    def METAINFO(self) -> dict:  # noqa: N802
        """The class attribute of the wrapped dataset."""
        return unwrapped(self.dataset)[0].METAINFO

    @property
    def real_length(self) -> int:
        """R, repeats of the wrapped dataset included."""
        self.full_init()
        return self._real_length

    @property
    def synthetic_length(self) -> int:
        """S."""
        self.full_init()
        return len(self._samples)

    def __len__(self) -> int:
        return self.real_length if self.mix.exact else self.real_length + self.synthetic_length

    def batch_composition(self, batch_size: int) -> tuple[int, int]:
        """(real, synthetic) samples of a batch; all real if there are no synthetic ones. See `BatchMix.composition`."""
        return self.mix.composition(batch_size) if self.synthetic_length else (batch_size, 0)

    def get_data_info(self, idx: int) -> dict:
        """Data info for the pipeline, of sample `idx` in 0 … R + S - 1, or negative as in a list of length `len`."""
        idx = self._absolute(idx)
        if idx < self.real_length:
            return self.dataset.get_data_info(idx)
        sample = self._samples[idx - self.real_length]
        info = sample.source.info()
        info['img_path'] = sample.image
        if sample.caption is not None:
            info['caption'] = sample.caption
        if sample.labels != 'source':
            keys = {kind.path_key for kind in _registered_tasks()}
            info |= dict.fromkeys(key for key in info if key.endswith('_map_path') or key in keys) | sample.files
        info['labels'] = sample.labels
        info['sample_idx'] = idx
        return info

    def __getitem__(self, idx: int) -> dict:
        if isinstance(idx, StreamKey):
            with derived_randomness(self.seed, idx.seed, idx.kind, idx.position):
                return self._load(int(idx))
        return self._load(idx)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """A batch, as a dataloader asks for it: the one place that sees whether an exact mix is obeyed."""
        self.check_batch(indices)
        return [self[index] for index in indices]

    def check_batch(self, indices: Sequence[int]) -> None:
        """Raises RuntimeError for a batch of real samples alone where an exact mix asks for synthetic ones in each."""
        if self.mix.exact and self.synthetic_length and not any(index >= self.real_length for index in indices):
            raise RuntimeError(
                f'mix={self.mix.name} asks for synthetic samples in every batch, found a batch of {len(indices)} real '
                "ones: a plain sampler cannot mix. Add batch_sampler=dict(type='MixedBatchSampler') to the dataloader, "
                "or choose mix='uniform'"
            )

    def _load(self, idx: int) -> dict:
        idx = self._absolute(idx)
        if idx < self.real_length:
            return _marked(self.dataset[idx], None)
        pipeline_of = self._samples[idx - self.real_length].source.dataset
        for _ in range(pipeline_of.max_refetch + 1):
            sample = self._samples[idx - self.real_length]
            data = self._run_pipeline(sample, idx)
            if data is not None:
                return _marked(data, sample.sample_id, edge_width(pipeline_of.pipeline))
            idx = self.real_length + np.random.randint(self.synthetic_length)
        raise RuntimeError(
            f'the pipeline refused {pipeline_of.max_refetch + 1} synthetic samples of {self.store.folder} in a row; '
            'check its transforms, or the filters the store was made with'
        )

    def _run_pipeline(self, sample: _Sample, idx: int) -> dict | None:
        try:
            return _pipeline_of_created(sample.source.dataset)(self.get_data_info(idx))
        except Exception as error:
            file = Path(sample.image)
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sample.image_sha256:
                raise RuntimeError(f'{file} is missing or damaged; {CURE.format(self.store.folder)}') from error
            error.add_note(f'while loading synthetic sample {sample.sample_id} ({file}), labels={sample.labels!r}')
            raise

    def _absolute(self, idx: int) -> int:
        absolute = idx + len(self) if idx < 0 else idx
        if not 0 <= absolute < self.real_length + self.synthetic_length:
            raise IndexError(f'index {idx} of {self.real_length} real and {self.synthetic_length} synthetic samples')
        return absolute

    def _read_store(self) -> list[_Sample]:
        folder = str(self.store.folder)
        records = draw(self.store.records(), *self._asked, self.seed, folder)
        refuse_for_created(self.dataset)
        broken = [record for record in records if not self.store.is_whole(record)]
        problems = [f'{record["sample_id"]} lacks a file ({record["image"]})' for record in broken]
        if self.verify and not problems:
            problems = [str(problem) for problem in self.store.verify(records[get_rank() :: get_world_size()])]
        lost = self.store.unrecorded() if self.verify and not problems else []
        if lost:
            raise RuntimeError(
                f'{folder} holds {len(lost)} images that no record names, first {lost[0]}: a run was killed, or the '
                'manifest has lost lines, and these samples would not be trained on. Run mmdiff2in1 synthesize CONFIG '
                f'--out {folder}, which makes those of its plan again, and delete the others'
            )
        if problems:
            found = f'{folder}: {len(problems)} of {len(records)} samples are damaged: {"; ".join(problems[:3])}'
            moved = any(record.get('kind') == UNLABELLED for record in broken)
            raise RuntimeError(f'{found}; {CURE.format(folder)}{MOVED if moved else ""}')
        sources = SourceIndex(self.dataset)
        return [
            _Sample(
                record['sample_id'],
                str(self.store.image(record)),
                record['image_sha256'],
                'none' if self.labels == 'source' and record['source'] is None else self.labels,
                self._files(record) if self.labels == 'stored' else {},
                record.get('caption'),
                sources.find(record, folder),
            )
            for record in records
        ]

    def _files(self, record: dict) -> dict[str, str]:
        """The stored labels of a sample by their keys in a data info."""
        keys = {task.name: task.path_key for task in _registered_tasks()}
        files = self.store.labels(record)
        unknown = sorted(set(files) - set(keys))
        if unknown:
            raise ValueError(
                f'sample {record["sample_id"]} of {self.store.folder} has a label of {unknown[0]!r}, which is no '
                f'registered task; known: {", ".join(sorted(keys))}. Import its module (custom_imports)'
            )
        return {keys[task]: str(file) for task, file in files.items()}


def _registered_tasks() -> list[type[DenseTask]]:
    kinds = TASK_UTILS.module_dict.values()
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, DenseTask)]


def _pipeline_of_created(dataset: BaseDataset) -> Callable[[dict], dict | None]:
    """The pipeline of a data set for images without label files: its own steps, loaders and the last one wrapped."""
    ignored = 255 if getattr(dataset, 'reduce_zero_label', False) else getattr(dataset, 'ignore_index', 255)

    def step_for(step: Any) -> Any:
        if isinstance(step, PackSegInputs):
            return PackTopk(step, np.uint8(ignored))
        if isinstance(step, LoadAnnotations) and not isinstance(step, LoadClassAnnotation):
            return OrBlank(step, 'seg_map_path', 'gt_seg_map', np.uint8(ignored), as_stored=True)
        for kind in _registered_tasks():
            task = kind.of_loader(type(step), vars(step) if hasattr(step, '__dict__') else {})
            if task is not None:
                return OrBlank(step, task.path_key, task.field, np.float32(task.invalid))
        return step

    def replaced(step: Any) -> Any:
        """Also inside of steps that hold others: RandomChoice, RandomApply."""
        inner = getattr(step, 'transforms', None)
        if inner is None:
            return step_for(step)
        outer = copy.copy(step)
        outer.transforms = [replaced(each) for each in inner] if isinstance(inner, list | tuple) else replaced(inner)
        return outer

    return replaced(dataset.pipeline) if isinstance(dataset.pipeline, Compose) else dataset.pipeline


def _checked(num_samples: int | None, samples_per_image: int | None) -> tuple[int | None, int | None]:
    if num_samples is not None and samples_per_image is not None:
        raise ValueError(
            f'num_samples={num_samples} and samples_per_image={samples_per_image} are both set; choose one of them'
        )
    for name, value in (('num_samples', num_samples), ('samples_per_image', samples_per_image)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f'{name} is {value!r}, expected an integer of 0 or more, or None for the whole store')
    return num_samples, samples_per_image


def _marked(data: dict, sample_id: str | None, borders: int | None = None) -> dict:
    """Set what the self-improving model reads; after the pipeline, because packing drops what meta_keys do not name."""
    if not isinstance(data, dict) or not hasattr(data.get('data_samples'), 'set_metainfo'):
        raise TypeError(
            "the wrapped pipeline returned no 'data_samples' to mark as real or synthetic; "
            "end it with dict(type='PackSegInputs'). A MultiImageMixDataset around this one cannot be: it would put "
            'real and created images into one (Mosaic); leave it out'
        )
    data['data_samples'].set_metainfo(dict(synthetic=sample_id is not None, sample_id=sample_id))
    if borders is not None:
        data['data_samples'].set_metainfo(dict(edge_width=borders))
    return data
