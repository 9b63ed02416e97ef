"""The real images of a config's training set, and the label value which that set ignores.

Everything is asked of the data set that the config names, built through mmseg's registry, so any data set will do.
"""

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmseg.registry import DATASETS

from mmdiff2in1.core.dataset_images import dataset_leaves
from mmdiff2in1.core.names import type_name

WRAPPER = 'SyntheticSampleDataset'


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


def build_real_dataset(cfg: Config):
    """Build the real training set without its pipeline: only the list of images is wanted."""
    # Not serialised, because mmengine cannot serialise an empty list and would say so in NumPy's words.
    return DATASETS.build(_with(real_dataset_cfg(cfg), everywhere={}, leaves=dict(pipeline=[], serialize_data=False)))


def raw_ignore_value(dataset) -> int:
    """The value that this data set's label *files* use for "ignore".

    mmseg moves values while it loads: with `reduce_zero_label` 0 becomes 255, so the raw value is 0; depth and
    normal maps have 0 for no measurement; else it is the `ignore_index` of the set (255 unless told, 11 for CamVid).
    `dataset` is a built data set or the config of one, which is then built without touching a file.

    Raises ValueError if concatenated sets disagree.
    """
    if isinstance(dataset, Mapping):
        dataset = DATASETS.build(_with(dataset, everywhere=dict(lazy_init=True), leaves=dict(pipeline=[])))
    values = sorted({_leaf_ignore_value(leaf) for leaf in dataset_leaves(dataset)})
    if len(values) > 1:
        raise ValueError(
            f'the concatenated data sets ignore different raw values {values}; '
            'synthetic labels can only have one: set ignore_label in stages.synthesis if one value suits all'
        )
    return values[0]


def _leaf_ignore_value(dataset) -> int:
    prefix = getattr(dataset, 'data_prefix', {})
    continuous = any(prefix.get(key) for key in ('depth_map_path', 'normal_map_path'))
    if getattr(dataset, 'reduce_zero_label', False) or continuous and not prefix.get('seg_map_path'):
        return 0
    return getattr(dataset, 'ignore_index', 255)


def _with(dataset: Mapping, everywhere: dict, leaves: dict) -> dict:
    """A copy of a data set config with some entries replaced in wrappers and leaves, and others in leaves only."""
    changed = dict(dataset, **everywhere)
    if isinstance(dataset.get('dataset'), Mapping):
        return changed | dict(dataset=_with(dataset['dataset'], everywhere, leaves))
    if isinstance(dataset.get('datasets'), Sequence):
        return changed | dict(datasets=[_with(each, everywhere, leaves) for each in dataset['datasets']])
    return changed | leaves
