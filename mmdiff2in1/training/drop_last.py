"""`drop_last` of a data loader, which stands in its batch sampler where it has one: torch refuses it beside."""

from mmengine.config import ConfigDict

from mmdiff2in1.core.names import type_name


def into_batch_sampler(loader: ConfigDict) -> None:
    """Moves the loader's `drop_last` into its MixedBatchSampler; one of another kind is left to its owner."""
    sampler = loader.get('batch_sampler')
    if sampler and type_name(sampler) == 'MixedBatchSampler' and 'drop_last' in loader:
        if loader.pop('drop_last'):
            sampler.drop_last = True


def without_batch_sampler(loader: ConfigDict) -> None:
    """Takes the batch sampler out; the `drop_last` of a MixedBatchSampler is the loader's again."""
    sampler = loader.pop('batch_sampler', None) or {}
    if type_name(sampler) == 'MixedBatchSampler' and sampler.get('drop_last'):
        loader.drop_last = True
