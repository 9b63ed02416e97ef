"""The real images of a config's training set, and where their labels are.

Everything is asked of the data set that the config names, built through mmseg's registry, so any data set will do.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from mmengine.config import Config
from mmengine.logging import print_log
from mmseg.registry import DATASETS

from mmdiff2in1.core.building import building
from mmdiff2in1.core.dataset_images import dataset_leaves, list_images
from mmdiff2in1.core.image_loading import loads_images
from mmdiff2in1.core.names import type_name

WRAPPER = 'SyntheticSampleDataset'


def scored_images(cfg: Config) -> dict[str, list[str]]:
    """Image paths of the validation and test sets that a config has, by 'val' and 'test'.

    A set that is not at hand is left out, which is said.
    """
    found = {}
    for name in ('val', 'test'):
        dataset = (cfg.get(f'{name}_dataloader') or {}).get('dataset')
        if dataset is None:
            continue
        try:
            with building(dataset, f'{name}_dataloader.dataset'):
                found[name] = list_images(_built(dataset))[1]
        except (FileNotFoundError, ValueError) as error:
            print_log(f'unlabelled images are not compared with the {name} set: {error}', 'current', logging.WARNING)
    return found


def real_dataset_cfg(cfg: Config) -> dict:
    """The data set config of the training loader, without our wrapper around it.

    Raises ValueError if the config has no training data set.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    if dataset is None:
        raise ValueError('the config has no train_dataloader.dataset; expected the real images to create from there')
    while type_name(dataset) == WRAPPER:
        if not isinstance(dataset.get('dataset'), Mapping):
            raise ValueError(f'train_dataloader.dataset is a {WRAPPER} without dataset=<config of the real data set>')
        dataset = dataset['dataset']
    return dataset


def build_real_dataset(cfg: Config, with_pipeline: bool = False):
    """Build the real training set; without its pipeline only the list of images, and who opens them, is wanted."""
    dataset = real_dataset_cfg(cfg)
    with building(cfg['train_dataloader'], 'train_dataloader'):
        return _built(dataset, with_pipeline)


def label_files(dataset) -> dict[str, dict[str, str]]:
    """Image path → the label files that a built data set has of it, by their keys (`seg_map_path`, …).

    Of two concatenated sets with the same image, each adds what the other has not.
    """
    found = {}
    for leaf in dataset_leaves(dataset):
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            labels = {key: path for key, path in info.items() if key.endswith('_map_path') and path is not None}
            found[info['img_path']] = labels | found.get(info['img_path'], {})
    return found


def map_leaves(dataset: Mapping, change: Callable[[Mapping], dict]) -> dict:
    """A copy of a data set config with `change` applied to the data sets inside its wrappers."""
    if isinstance(dataset.get('dataset'), Mapping):
        return dict(dataset, dataset=map_leaves(dataset['dataset'], change))
    if isinstance(dataset.get('datasets'), Sequence):
        return dict(dataset, datasets=[map_leaves(each, change) for each in dataset['datasets']])
    return change(dataset)


def _built(dataset: Mapping, with_pipeline: bool = False):
    def changed(leaf: Mapping) -> dict:
        steps = leaf.get('pipeline') or []
        steps = steps if with_pipeline else [step for step in steps if loads_images(step)]
        # Not serialised, because mmengine cannot serialise an empty list and would say so in NumPy's words.
        return dict(leaf, pipeline=steps, serialize_data=False)

    return DATASETS.build(map_leaves(dataset, changed))
