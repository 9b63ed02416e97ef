"""A batch size that is that of all processes together, so that a recipe means the same on one GPU and on eight."""

from mmengine.config import Config


def split_global_batch(cfg: Config, processes: int) -> None:
    """Sets ``train_dataloader.batch_size`` to each process's share of ``global_batch_size``, if the config has one.

    mmengine's own trainer knows no such key: there ``train_dataloader.batch_size`` counts, per process.

    Raises:
        ValueError: The processes cannot share it evenly.
    """
    wanted = cfg.get('global_batch_size')
    if wanted is None or not cfg.get('train_dataloader'):
        return
    if wanted % processes:
        raise ValueError(
            f'global_batch_size is {wanted}, which {processes} processes cannot share evenly; start another number of '
            f'processes, or change it (a multiple of {processes}, and the learning rate with it)'
        )
    cfg.train_dataloader.batch_size = wanted // processes
