"""A plain config that cannot be made self-improving is refused by name, before anything is built."""

from collections.abc import Mapping, Sequence

from mmdiff2in1.core.names import type_name

CHANNELS = (1, 3)
"""Of images that created ones, which are RGB files, can stand beside: mmcv's loader makes them grey as well."""
WRAPPED = ('model', 'train_dataloader', 'optim_wrapper')


def check_wrappable(base: Mapping) -> None:
    """Raises ValueError for a config without a part that is wrapped, that is self-improving already, that averages
    weights in another way, or whose training images created ones cannot stand beside."""
    for key in WRAPPED:
        found = base.get(key)
        if not isinstance(found, Mapping):
            raise ValueError(f'the base has {key}={found!r}, expected a dict: it must be a config that can be trained')
    if base['model'].get('type') == 'SelfImprovingSegmentor':
        raise ValueError('the base is self-improving already: change its values below `_base_`, without another call')
    for hook in base.get('custom_hooks') or []:
        if type_name(hook).endswith('EMAHook'):
            raise ValueError(
                'the base has an EMAHook among its custom_hooks: θ_C is the moving average here, and that hook would '
                'average θ_E and θ_C again and swap both for a test. Above the call: `_base_.custom_hooks = […]`, '
                'without it'
            )
    _check_channels(base['model'])
    _check_dataset((base.get('train_dataloader') or {}).get('dataset') or {})


def _check_channels(model: Mapping) -> None:
    backbone, mean = model.get('backbone') or {}, (model.get('data_preprocessor') or {}).get('mean')
    read = {'backbone.in_channels': backbone.get('in_channels')}
    read['data_preprocessor.mean'] = len(mean) if isinstance(mean, Sequence) else None
    for key, channels in read.items():
        if isinstance(channels, int) and channels not in CHANNELS:
            raise ValueError(
                f'the base reads images of {channels} channels (model.{key}), and created ones have 3: none can be '
                'mixed in. Train it as it is, without created images'
            )


def _check_dataset(dataset: Mapping) -> None:
    inner = [*(dataset.get('datasets') or ()), *([dataset['dataset']] if dataset.get('dataset') else ())]
    if type_name(dataset) == 'MultiImageMixDataset':
        raise ValueError(
            'the base trains on a MultiImageMixDataset, which puts several images into one (Mosaic): real and created '
            'ones would be mixed up. Above the call: _base_.train_dataloader.dataset = the data set inside of it, with '
            'a pipeline of its own'
        )
    for each in inner:
        _check_dataset(each)
