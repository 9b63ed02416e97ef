"""The cache of views: which files it has, making those that are missing, and what they take.

V views of N samples; a file is one view of one sample: features, and labels as the loss wants them.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmseg.registry import DATASETS
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import mmdiff2in1
from mmdiff2in1.core.atomic_files import remove_parts, write_atomically
from mmdiff2in1.core.bf16 import computes_bf16
from mmdiff2in1.core.digest import add_tensors
from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.core.tensor_file import is_whole, write_tensor_file
from mmdiff2in1.datasets.fixed_views import SAMPLE, made_view, samples_in
from mmdiff2in1.datasets.packed_sample import tensors_of

from .file_digests import digests_of
from .identity import PLACED, READ, plain_by_content
from .runs import unwrapped
from .view_settings import CachedViews, check_cached_views, draws

OF_DRAW = ('seed', 'verify', 'num_samples', 'samples_per_image', 'mix', 'labels', 'lazy_init')
"""Keys of a data set that decide which samples it has; what labels one of them has stands in its own facts."""
ENDING = '.safetensors'
MOST = {'float16': 65504.0, 'float32': float('inf')}


@dataclass(frozen=True)
class Cost:
    """`files` in all, `missing` of them; of a missing one `bytes` and `seconds`."""

    files: int
    missing: int
    bytes: int
    seconds: float


class ViewCache:
    """The views of one training set under one frozen backbone.

    The folder is named after what all files have in common: pipeline, padding, backbone and its weights, seed, type,
    versions of the libraries. A file is named after the content of its image and labels, and the numbers of sample and
    view: what has changed is made anew, what has not is found again.

    Args:
        cfg: Config of the stage.
        runner: Of that config, with its model's weights.
        place: Folder of all caches.
        settings: Those of the config.
        log: Where to say what is done.

    Attributes:
        folder: Of the files.
        names: Of each sample those of its V files.

    Raises:
        ValueError: The cache would be wrong, see `check_cached_views`.
    """

    def __init__(self, cfg: Config, runner: Any, place: Path, settings: CachedViews, log: logging.Logger) -> None:
        self.settings, self._model, self._log = settings, unwrapped(runner.model).train(), log
        self._loader = cfg.train_dataloader
        self.dataset = DATASETS.build(self._loader.dataset)
        check_cached_views(settings, self._model, self.dataset)
        self._backbone = getattr(self._model, 'exploiter', self._model).backbone
        # A sample sees the same in any batch of one size, in all bits only there: that of the training.
        self._batch = 1 if draws(self._backbone) else int(self._loader.batch_size)
        made_from = json.dumps(self._made_from(cfg), sort_keys=True, default=_plain)
        self.folder = place / hashlib.sha256(made_from.encode()).hexdigest()[:20]
        self.names = [self._names_of(facts) for facts in self._facts()]
        self._size: Tensor | None = None

    def missing(self) -> list[tuple[int, int]]:
        """(sample, view) of this process's share that are not there, or damaged, which is said."""
        share = [(i, view) for i in range(len(self.names)) for view in range(self.settings.views)]
        found = []
        for i, view in tqdm(share[get_rank() :: get_world_size()], 'checking cached views', leave=False, delay=2):
            file = self.folder / self.names[i][view]
            if not is_whole(file):
                if file.exists():
                    self._log.warning(f'{file} is damaged; it is made anew')
                found.append((i, view))
        return found

    def fill(self) -> Path:
        """Makes what is missing, each process its share; the list of all files, for a `CachedViewsDataset`.

        Raises:
            OSError: The disk has no room for it; nothing is written then.
            ValueError: A sample without features of its own, or features that the type cannot hold.
        """
        remove_parts(self.folder)
        missing = self.missing()
        if missing:
            self._log.info(f'{self.folder}: {len(missing)} of {self.files} views are to be made')
        bar = tqdm(total=len(missing), desc='caching views', unit='view', disable=not missing or not is_main_process())
        with bar:
            for number, (keys, made) in enumerate(self._made(missing)):
                if number == 0:
                    self._check_room(len(missing) * get_world_size(), _bytes(made[0]))
                for (i, view), (tensors, facts) in zip(keys, made, strict=True):
                    write_tensor_file(self.folder / self.names[i][view], tensors, facts)
                bar.update(len(keys))
        listed = json.dumps(dict(views=self.settings.views, names=self.names)).encode()
        file = self.folder / f'list-{hashlib.sha256(listed).hexdigest()[:20]}.json'
        if is_main_process() and not (file.is_file() and file.read_bytes() == listed):
            write_atomically(file, listed)
        barrier()
        return file

    def cost(self) -> Cost:
        """What `fill` would take on this process, measured on a batch; nothing is written."""
        missing = self.missing()
        if not missing:
            return Cost(self.files, 0, 0, 0.0)
        batches = self._made(missing[: 2 * self._batch])
        _, made = next(batches)  # the first is slow: everything is touched for the first time
        start = time.perf_counter()
        count = sum(len(keys) for keys, _ in batches)
        seconds = (time.perf_counter() - start) / count if count else 0.0
        return Cost(self.files, len(missing), _bytes(made[0]), seconds)

    @property
    def files(self) -> int:
        """N · V."""
        return len(self.names) * self.settings.views

    def _made(self, keys: Sequence[tuple[int, int]]) -> Iterator[tuple[list, list]]:
        """(sample, view) of a batch, and of each tensors and facts for its file."""
        views = _Views(self.dataset, keys, self.settings.seed)
        workers = int(self._loader.get('num_workers') or 0)
        loader = DataLoader(views, self._batch, num_workers=workers, collate_fn=list)
        waiting = iter(keys)
        for samples in loader:
            chosen = list(islice(waiting, len(samples)))
            yield chosen, self._looked_at(chosen, samples)

    @torch.no_grad()
    def _looked_at(self, keys: Sequence[tuple[int, int]], samples: list[dict]) -> list[tuple[dict[str, Tensor], Any]]:
        count = len(samples)
        # A smaller last batch would be computed in another way, and differ in the last bit.
        samples = samples + samples[-1:] * (self._batch - count)
        data = self._model.data_preprocessor(pseudo_collate(samples), True)
        with derived_randomness(self.settings.seed, 'draws of a view', *keys[0]):
            kept = self._backbone.frozen_features(data['inputs']).kept()
        made = []
        for (i, _), features, sample in zip(keys, kept, data['data_samples'], strict=False):
            self._check_size(features['size'], i)
            held = {name: self._held(tensor, name) for name, tensor in features.items()}
            maps, facts = tensors_of(sample)
            made.append((held | {f'{SAMPLE}{name}': tensor for name, tensor in maps.items()}, facts))
        return made[:count]

    def _held(self, tensor: Tensor, name: str) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        most = float(tensor.abs().max())
        if not most <= MOST[self.settings.dtype]:
            raise ValueError(
                f'{name} of the frozen features reaches {most:g}, which {self.settings.dtype} cannot hold; set '
                "cached_views.dtype='float32', or look at the weights"
            )
        return tensor.to(getattr(torch, self.settings.dtype))

    def _check_size(self, size: Tensor, index: int) -> None:
        self._size = size if self._size is None else self._size
        if not torch.equal(size, self._size):
            raise ValueError(
                f'sample {index} is padded to {size.tolist()}, others to {self._size.tolist()}: features of a batch '
                'need one size. Set data_preprocessor.size, or crop to one size in the pipeline'
            )

    def _check_room(self, count: int, size: int) -> None:
        free = shutil.disk_usage(next(place for place in self.folder.absolute().parents if place.is_dir())).free
        if count * size > free:
            raise OSError(
                f'{self.folder} needs {count * size / 1e9:.1f} GB for {count} views, the disk has {free / 1e9:.1f} GB; '
                "name another place in cached_views.folder, or take fewer views, or dtype='float16'"
            )

    def _names_of(self, facts: Any) -> list[str]:
        texts = (json.dumps([facts, view], sort_keys=True, default=_plain) for view in range(self.settings.views))
        return [hashlib.sha256(text.encode()).hexdigest()[:32] + ENDING for text in texts]

    def _facts(self) -> list:
        """Of each sample its number and what its pipeline is given, files by their content."""
        infos = [dict(self.dataset.get_data_info(i)) for i in range(samples_in(self.dataset))]
        paths = [(i, key) for i, info in enumerate(infos) for key, value in info.items() if _is_file(key, value)]
        digests = digests_of([infos[i][key] for i, key in paths], str(self.folder))
        for (i, key), digest in zip(paths, digests, strict=True):
            infos[i][key] = digest
        return [[i, {key: info[key] for key in info if key != 'sample_idx'}] for i, info in enumerate(infos)]

    def _made_from(self, cfg: Config) -> dict:
        digest = hashlib.sha256()
        trained = {name for name, p in self._backbone.named_parameters() if p.requires_grad}
        add_tensors(digest, {name: t for name, t in self._backbone.state_dict().items() if name not in trained})
        model, bf16 = cfg.model.to_dict(), getattr(self._backbone, 'bf16', False)
        segmentor = model.get('segmentor', model)
        preprocessors = [part.get('data_preprocessor') for part in (segmentor, model, cfg)]
        preprocessor = next((each for each in preprocessors if each is not None), None)
        backbone = {key: value for key, value in segmentor['backbone'].items() if key != 'gradient_checkpointing'}
        device = next(self._backbone.parameters()).device
        return dict(
            # Weights count by their numbers, wherever they lie.
            backbone={key: value for key, value in backbone.items() if key not in ('diffusion', 'class_embeddings')},
            weights=digest.hexdigest(),
            bf16=computes_bf16(device) if bf16 == 'auto' else bf16,
            preprocessor=preprocessor,
            dataset=plain_by_content(self._loader.dataset.to_dict(), (*READ, *PLACED, *OF_DRAW)),
            seed=self.settings.seed,
            dtype=self.settings.dtype,
            versions=[mmdiff2in1.__version__, torch.__version__, version('numpy')],
        )


class _Views(Dataset):
    """The views at some (sample, view), as the pipeline gives them."""

    def __init__(self, dataset: Any, keys: Sequence[tuple[int, int]], seed: int) -> None:
        self._dataset, self._keys, self._seed = dataset, keys, seed

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, number: int) -> dict:
        return made_view(self._dataset, *self._keys[number], self._seed)


def _is_file(key: str, value: object) -> bool:
    return key.endswith('_path') and isinstance(value, str)


def _plain(value: Any) -> object:
    return value.tolist() if hasattr(value, 'tolist') else str(value)


def _bytes(made: tuple[dict[str, Tensor], Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in made[0].values())
