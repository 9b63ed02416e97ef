"""Labels of the images that samples were made from, as the training set of a config loads them.

H, W: size of a source; a label stands at the size of the created image.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.label_files import read_map
from mmdiff2in1.datasets.synthetic_records import SourceIndex
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.sources import build_real_dataset
from mmdiff2in1.tasks import DenseTask


class SourceLabels:
    """Reads the source of a record and the label that it should still have, by the loaders of the training pipeline.

    Raises what building the training set raises.
    """

    def __init__(self, cfg: Config, store: SampleStore) -> None:
        self._index = SourceIndex(build_real_dataset(cfg, with_pipeline=True))
        self._store = store

    def image(self, record: Mapping[str, Any]) -> np.ndarray | None:
        """The source, uint8 RGB (H, W, 3); None of a sample without one."""
        return None if record['source'] is None else read_image(self._info(record)['img_path'])

    def labels(
        self, record: Mapping[str, Any], tasks: Mapping[str, DenseTask], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Maps by task at the `size` of the created image: those that came along with it, else those of its source."""
        own = {name for name, label in record.get('labels', {}).items() if 'by' not in label}
        files = {name: file for name, file in self._store.labels(dict(record)).items() if name in own}
        found = {name: task.decode(read_map(str(files[name]))) for name, task in tasks.items() if name in files}
        if record['source'] is not None and not record.get('layout'):
            found = {**self._loaded(record, tasks), **found}
        return {name: tasks[name].resize(array, size) for name, array in found.items()}

    def _loaded(self, record: Mapping[str, Any], tasks: Mapping[str, DenseTask]) -> dict[str, np.ndarray]:
        source = self._index.find(dict(record), str(self._store.folder))
        steps = source.dataset.pipeline.transforms
        loading = [step for step in steps[:-1] if type(step).__name__.startswith('Load')]
        sample = Compose([*loading, steps[-1]])(self._info(record))['data_samples']
        targets = {name: sample.get(task.field) for name, task in tasks.items()}
        return {name: tasks[name].to_map(target.data) for name, target in targets.items() if target is not None}

    def _info(self, record: Mapping[str, Any]) -> dict:
        return self._index.find(dict(record), str(self._store.folder)).info()
